//! A request on record: from its intent to its outcome, which is written exactly once, whatever becomes of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::BodyError;
use super::bodies::Capture;
use super::session::ApiSession;
use super::status::Sorry;
use crate::recording::RecordingError;
use crate::recording::requests::{Intent, Outcome, RequestNumber};

/// A request whose intent is on record. When it is dropped, its outcome is on its way there.
pub(super) struct Exchange {
    session: Arc<ApiSession>,
    number: RequestNumber,
    upload: Arc<Upload>,
    status: Option<StatusCode>,
    bytes_out: u64,
    settled: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl Exchange {
    /// Puts the intent on record. Nothing is forwarded before this has returned.
    pub(super) async fn begin(
        session: &Arc<ApiSession>,
        place: OwnedSemaphorePermit,
        intent: Intent,
    ) -> Result<Self, Sorry> {
        match session.parts().recording.intent(intent).await {
            Ok(number) => Ok(Self {
                session: Arc::clone(session),
                number,
                upload: Arc::default(),
                status: None,
                bytes_out: 0,
                settled: false,
                place: Some(place),
            }),
            Err(error) => {
                tracing::error!("a request that is not forwarded: {error}");
                session.unrecorded(error);
                Err(Sorry::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "this request could not be recorded, so it was not forwarded, and the session ends",
                ))
            }
        }
    }

    pub(super) fn number(&self) -> RequestNumber {
        self.number
    }

    pub(super) fn upload(&self) -> &Arc<Upload> {
        &self.upload
    }

    /// The status that goes to the client.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(super) fn passed_out(&mut self, bytes: usize) {
        self.bytes_out = self.bytes_out.saturating_add(bytes as u64);
    }

    /// The gateway answers itself.
    pub(super) fn refused(mut self, sorry: &Sorry) {
        self.status = Some(sorry.status);
        self.ended(Err(sorry.message.clone()));
    }

    /// A stream takes the request over, and its place: the outcome is the stream's.
    pub(super) fn taken_over(&mut self) -> Option<OwnedSemaphorePermit> {
        self.settled = true;
        self.place.take()
    }

    /// It is over: well, or as a sentence says. Only the first time counts.
    pub(super) fn ended(&mut self, result: Result<(), String>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let kept = self.upload.finish();
        let outcome = Outcome {
            status: self.status.map(|status| status.as_u16()),
            bytes_in: self.upload.bytes.load(Ordering::Relaxed),
            bytes_out: self.bytes_out,
            error: result.err(),
            marks: kept.marks,
            body: kept.body,
            ..Outcome::default()
        };
        let recording = &self.session.parts().recording;
        match recording.outcome_soon(self.number, outcome) {
            Ok(()) => self.session.carry_soon(),
            // It is on record: the session is what ends, as with whatever else exceeds the quota.
            Err(error @ RecordingError::Quota { .. }) => self.session.unrecorded(error),
            Err(error) => {
                tracing::error!("a request's outcome: {error}");
                self.session.unrecorded(error);
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let why = match self.session.over().is_cancelled() {
            true => "the session ended",
            false => "the client went away",
        };
        self.ended(Err(why.to_owned()));
    }
}

/// What is known of a request's body, while it passes and after.
#[derive(Default)]
pub(super) struct Upload {
    bytes: AtomicU64,
    capture: Mutex<Option<Capture>>,
}

impl Upload {
    /// What is kept of it is in the intent.
    pub(super) fn known(&self, bytes: usize) {
        self.bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Keeps what `capture` says while it passes.
    pub(super) fn capture(&self, capture: Capture) {
        *self.lock() = Some(capture);
    }

    /// Some of it passes.
    pub(super) fn pass(&self, data: &[u8]) {
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(capture) = self.lock().as_mut() {
            capture.feed(data);
        }
    }

    fn finish(&self) -> super::bodies::Kept {
        self.lock().take().map(Capture::finish).unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Capture>> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body that is looked at while it passes.
pub(super) struct Uploading {
    inner: Incoming,
    upload: Arc<Upload>,
}

impl Uploading {
    pub(super) fn new(inner: Incoming, upload: Arc<Upload>) -> Self {
        Self { inner, upload }
    }
}

impl Body for Uploading {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.upload.pass(data);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
