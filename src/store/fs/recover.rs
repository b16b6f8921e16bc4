//! After a crash: every recording that nobody seals any more is closed as interrupted.

use std::path::Path;

use jiff::Timestamp;

use crate::session::SessionId;
use crate::store::StoreError;

/// A recording that was found unsealed, and is now closed as interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// Its session.
    pub session: SessionId,
    /// The sentence in its manifest.
    pub reason: String,
}

/// Closes what an earlier daemon left open under `state_dir`.
pub fn recover(_state_dir: &Path, _now: Timestamp) -> Result<Vec<Interrupted>, StoreError> {
    Ok(Vec::new())
}
