//! What lies in the store, without a key to it.

use tokio::io::AsyncReadExt;

use super::{Out, asciicast, put};
use crate::recording::{ReadError, Stored};
use crate::replay::PlayError;
use crate::store::Part;

/// The encrypted file as it is; a recording in clear as asciicast.
pub(super) async fn export(stored: &Stored, out: &mut Out<'_>) -> Result<(), PlayError> {
    let files = stored.files();
    let Some(mut file) = read(files.read(Part::CastEncrypted).await)? else {
        // A spool is of no use to a stock program; what it says is told by the error.
        return asciicast::v3(stored, out).await;
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.reader.read(&mut buffer).await;
        let read = read.map_err(|error| PlayError::Read(error.into()))?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => put(out, bytes).await?,
        }
    }
}

fn read<T>(result: Result<T, crate::store::StoreError>) -> Result<T, PlayError> {
    result.map_err(|error| PlayError::Read(ReadError::Store(error)))
}
