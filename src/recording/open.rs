//! A recording that is being written.

use std::sync::Arc;

use jiff::Timestamp;

use super::code;
use super::error::RecordingError;
use super::manifest::{Ending, LeaseRecord};
use super::writing::{CHECKPOINT_AFTER, Inner, Sealed};
use crate::messages::WindowSize;
use crate::session::SessionId;

/// A recording that is being written. Clones write to the same one; events have the order of the calls.
///
/// Every call returns when what it was given has reached the kernel, or fails; after a failure of the store all
/// fail. Calls at the same time share the way to the store. A call whose future is dropped has happened or not, as
/// a whole, and the next call waits for it to end. There is no recording that discards: whoever holds none of these
/// cannot run a session.
#[derive(Clone)]
pub struct OpenRecording(pub(super) Arc<Inner>);

impl OpenRecording {
    /// Begins to make checkpoints, until it is sealed, fails, or nobody holds it any more.
    pub(super) fn start(inner: Arc<Inner>) -> Self {
        let activity = Arc::clone(&inner.activity);
        let recording = Arc::downgrade(&inner);
        tokio::spawn(async move {
            loop {
                activity.notified().await;
                tokio::time::sleep(CHECKPOINT_AFTER).await;
                match recording.upgrade() {
                    Some(recording) if recording.checkpoint().await => {}
                    _ => return,
                }
            }
        });
        Self(inner)
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.0.header.metadata().session
    }

    /// Records that the client sends no more input.
    pub async fn input_end(&self) -> Result<(), RecordingError> {
        self.event(code::INPUT_END, "stdin").await
    }

    /// Records a new size of the terminal.
    pub async fn resize(&self, size: WindowSize) -> Result<(), RecordingError> {
        self.0
            .record(|writing, at| {
                writing.encoder.resize(at, size, &mut writing.cast);
                Ok(())
            })
            .await
    }

    /// Records a sentence of ours to the operator as a marker, so that it can be told from the command's output.
    /// At a terminal it is output as well: what the terminal showed.
    pub async fn notice(&self, text: &str) -> Result<(), RecordingError> {
        self.event(code::MARKER, text).await
    }

    /// Records that a credential was issued: its id, never itself. Call it before the credential is used.
    pub async fn lease(
        &self,
        jti: &str,
        audit_id: Option<&str>,
        expires: Timestamp,
    ) -> Result<(), RecordingError> {
        let lease = LeaseRecord {
            jti: jti.to_owned(),
            audit_id: audit_id.map(str::to_owned),
            expires,
        };
        let said = serde_json::to_string(&lease)?;
        self.0
            .record(|writing, at| {
                writing
                    .encoder
                    .event(at, code::LEASE, &said, &mut writing.cast);
                // One for each renewal, which are minutes apart: bounded by the length of the session.
                writing.leases.push(lease);
                Ok(())
            })
            .await
    }

    /// Records the end and closes the recording for good. A call that was dropped midway may be made again.
    pub async fn seal(&self, ending: Ending) -> Result<Sealed, RecordingError> {
        self.0.seal(ending).await
    }

    async fn event(&self, code: char, data: &str) -> Result<(), RecordingError> {
        let data = self.0.secrets().masked_text(data);
        self.0
            .record(|writing, at| {
                writing.encoder.event(at, code, &data, &mut writing.cast);
                Ok(())
            })
            .await
    }
}

impl std::fmt::Debug for OpenRecording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenRecording").field(&self.id()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // So that what makes checkpoints sees that there is nothing left to make them of.
        self.activity.notify_one();
    }
}
