//! Whose word a manifest is: what decides over a deletion is what the daemon signed, not what lies there.

use tokio::io::BufReader;

use super::Evidence;
use super::error::{KeepError, NotDeleted};
use crate::recording::check::read_manifest;
use crate::recording::{Checkpoint, Checkpoints, Manifest, ReadError, statement};
use crate::session::SessionId;
use crate::store::{Part, StoredFile, StoredFiles};

/// The longest checkpoints that are read: a recording that went on for weeks has as much.
const MOST_CHECKPOINTS: u64 = 1 << 30;

/// The manifest of a closed recording, if its last checkpoint means this one and is signed by this bastion for this session. The
/// other checkpoints say nothing of the manifest, and the files nothing of age, role or parent: that is `verify`'s.
pub(super) async fn proven(
    session: SessionId,
    files: &dyn StoredFiles,
    evidence: &dyn Evidence,
) -> Result<Manifest, KeepError> {
    let unproven = |why: &str| NotDeleted::Unproven {
        session,
        why: why.to_owned(),
    };
    let manifest = read_manifest(files).await?;
    let manifest = manifest.ok_or(NotDeleted::Open(session))?;
    let Some(checkpoints) = files.read(Part::Checkpoints).await? else {
        return Err(unproven("it has no checkpoints").into());
    };
    let bytes = checkpoints.bytes;
    let last = match last(checkpoints).await {
        Ok(Some(last)) if last.end == bytes => last,
        Ok(Some(_)) => return Err(unproven("something follows its last checkpoint").into()),
        Ok(None) => return Err(unproven("it has no whole checkpoint").into()),
        Err(ReadError::Checkpoint { number, what }) => {
            return Err(unproven(&format!("checkpoint {number} is none: {what}")).into());
        }
        Err(error) => return Err(error.into()),
    };
    if !evidence.is_ours(&last.note) {
        return Err(unproven("its last checkpoint is signed by no key of this bastion").into());
    }
    if last.statement.session != session {
        return Err(unproven("its last checkpoint is of another recording").into());
    }
    match last.statement.standing.manifest() {
        Some(said) if said == statement::sha256(&manifest) => Ok(Manifest::parse(&manifest)?),
        Some(_) => Err(unproven("its manifest is not the one that was signed").into()),
        None => Err(unproven("no checkpoint closes it").into()),
    }
}

/// The last checkpoint; of any number only one is in memory.
async fn last(file: StoredFile) -> Result<Option<Checkpoint>, ReadError> {
    if file.bytes > MOST_CHECKPOINTS {
        let what = format!("they are longer than {MOST_CHECKPOINTS} bytes");
        return Err(ReadError::Checkpoint { number: 0, what });
    }
    let mut checkpoints = Checkpoints::new(BufReader::new(file.reader));
    let mut last = None;
    while let Some(checkpoint) = checkpoints.next().await? {
        last = Some(checkpoint);
    }
    Ok(last)
}
