//! The bytes of the output, exactly.

use super::{Out, put};
use crate::recording::{Happening, Reader, Stored, Stream};
use crate::replay::PlayError;

pub(super) async fn export(
    stored: &Stored,
    only: Option<Stream>,
    out: &mut Out<'_>,
) -> Result<(), PlayError> {
    let mut reader = Reader::open(stored.cast().await?).await?;
    while let Some(event) = reader.next().await? {
        if let Happening::Output { stream, bytes, .. } = event.what
            && only.is_none_or(|only| only == stream)
        {
            put(out, &bytes).await?;
        }
    }
    Ok(())
}
