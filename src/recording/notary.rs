//! What makes a recording evidence: a key that signs its checkpoints, and a log that says that it was.

use async_trait::async_trait;

use crate::session::SessionId;

/// Signs checkpoints, and enters recordings into the daemon's log.
#[async_trait]
pub trait Notary: Send + Sync + std::fmt::Debug {
    /// Signs a checkpoint's statement, a line of JSON. Returns the signed note (C2SP signed-note), all of it.
    async fn sign(&self, statement: String) -> Result<String, NotaryError>;

    /// Enters what became of a recording into the log. When this returns, the entry survives a power cut.
    async fn enter(&self, entry: Entry) -> Result<(), NotaryError>;

    /// The newest signed head of that log (a note of c2sp.org/tlog-checkpoint, all of it). It covers every entry that was made.
    fn head(&self) -> String;

    /// Whether one of this daemon's keys, the present one or an earlier one, signed this note.
    fn is_ours(&self, note: &str) -> bool;
}

/// What became of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub session: SessionId,
    /// SHA-256 (hex) of the checkpoint that says it.
    pub note: String,
    /// What.
    pub what: Entered,
}

/// See [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It has begun: nothing has run under it yet.
    Opened {
        /// Of a stream into a pod: the session that it is part of.
        parent: Option<SessionId>,
    },
    /// It ended, and all of it is there.
    Sealed,
    /// Nobody saw its end.
    Interrupted {
        /// What is known of it.
        reason: String,
    },
    /// It was packed.
    Packed,
}

/// Why there is no signature or no entry.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// There is no signature.
    #[error("nothing can be signed: {0}")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no entry.
    #[error("the log of recordings cannot be written: {0}")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("no signature within {} s", .0.as_secs())]
    Late(std::time::Duration),
}
