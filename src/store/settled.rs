//! Whether a recording has come to rest: then it may be shipped, and one day deleted.

use jiff::{SignedDuration, Timestamp};

use super::{Part, StoredFiles};
use crate::recording::check::read_manifest;
use crate::recording::{Manifest, ReadError, State};

/// A sealed recording that is not packed by then is not going to be: it is a spool of an earlier daemon, or does not hold
/// against its checkpoints. It is evidence as it is. If it is packed later all the same, that is another form of the same recording.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// The manifest of a recording that is not about to change: it is packed, or will not be, or it was interrupted and stays as
/// it was found. `None` while its session goes on, and while it waits to be packed: by the daemon that sealed it, or by
/// this one, which began at `started`. What is shipped in one form and then packed would be a conflict with itself.
pub(super) async fn settled(
    files: &dyn StoredFiles,
    started: Timestamp,
    now: Timestamp,
) -> Result<Option<Manifest>, ReadError> {
    let Some(bytes) = read_manifest(files).await? else {
        return Ok(None);
    };
    let manifest = Manifest::parse(&bytes)?;
    let waits = manifest.state == State::Complete
        && now.duration_since(manifest.closed.max(started)) < PATIENCE
        && (files.read(Part::Cast).await?.is_some()
            || files.read(Part::CastSpool).await?.is_some());
    Ok((!waits).then_some(manifest))
}
