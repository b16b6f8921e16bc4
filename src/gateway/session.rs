//! A session as the gateway sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::upstream::Upstream;
use crate::config::{Name, RecordBodies};
use crate::mint::Acting;
use crate::recording::{OpenRecording, RecordingError};
use crate::session::SessionId;

/// Requests of one session that are open at once. Watches are among them.
const OPEN_REQUESTS: usize = 1024;

/// Bodies of one session that are read at once before their requests go on: 64 KiB each at most.
const READING: usize = 64;

/// From the end of a request to its outcome being with the kernel. Longer than the next request of a busy client takes
/// to come.
const SOON: Duration = Duration::from_millis(5);

/// Who may speak on a connection.
#[derive(Clone)]
pub enum Admission {
    /// Whoever can connect: nobody but the session's own sandbox can.
    Inside,
    /// Whoever says a bearer in each request that the check knows.
    Bearer(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// What a session opens requests with.
pub struct ApiSessionParts {
    /// Its id.
    pub session: SessionId,
    /// Who.
    pub identity: Name,
    /// As what.
    pub role: Name,
    /// Where.
    pub cluster: Name,
    /// The way there.
    pub upstream: Upstream,
    /// How requests are made in its name; a renewed credential takes the former's place for requests from then on.
    pub acting: watch::Receiver<Acting>,
    /// Its recording.
    pub recording: OpenRecording,
    /// What is kept of bodies.
    pub bodies: RecordBodies,
    /// Cancelled when it ends: every open request is cut at once.
    pub over: CancellationToken,
    /// To where a record that failed is told: the session ends.
    pub unrecorded: mpsc::Sender<RecordingError>,
}

/// What is said to API servers of whoever asks.
pub(super) fn agent(identity: &Name, role: &Name, session: SessionId) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("bastion-audit/{version} (identity={identity}; role={role}; session={session})")
}

/// A session as the gateway sees it.
pub struct ApiSession {
    parts: ApiSessionParts,
    /// What the API server's own audit log shows.
    agent: String,
    open: Arc<Semaphore>,
    reading: Semaphore,
    tasks: TaskTracker,
    /// Outcomes wait, and somebody sees to it that they are carried.
    carried_soon: AtomicBool,
}

impl ApiSession {
    /// From its parts.
    pub fn new(parts: ApiSessionParts) -> Arc<Self> {
        let agent = agent(&parts.identity, &parts.role, parts.session);
        Arc::new(Self {
            parts,
            agent,
            open: Arc::new(Semaphore::new(OPEN_REQUESTS)),
            reading: Semaphore::new(READING),
            tasks: TaskTracker::new(),
            carried_soon: AtomicBool::new(false),
        })
    }

    /// Waits until all of its requests have ended and are on record. To be called once no connection is served
    /// any more.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(super) fn parts(&self) -> &ApiSessionParts {
        &self.parts
    }

    pub(super) fn over(&self) -> &CancellationToken {
        &self.parts.over
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// A place for one request more.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.open).try_acquire_owned().ok()
    }

    /// How many more may be open, and read.
    #[cfg(test)]
    pub(super) fn place_count(&self) -> (usize, usize) {
        (
            self.open.available_permits(),
            self.reading.available_permits(),
        )
    }

    /// For as long as a body is read that is kept whole; waits for others of this session. `None` never comes: it is never closed.
    pub(super) async fn reading(&self) -> Option<SemaphorePermit<'_>> {
        self.reading.acquire().await.ok()
    }

    /// In whose name a request is that is made now.
    pub(super) fn acting(&self) -> Acting {
        self.parts.acting.borrow().clone()
    }

    /// `User-Agent` of a request: what the client says of itself, and who it is.
    pub(super) fn agent(&self, client: Option<&HeaderValue>) -> Option<HeaderValue> {
        let client = client.map(HeaderValue::as_bytes).unwrap_or_default();
        let mut agent = Vec::with_capacity(client.len() + 1 + self.agent.len());
        agent.extend_from_slice(client);
        if !client.is_empty() {
            agent.push(b' ');
        }
        agent.extend_from_slice(self.agent.as_bytes());
        HeaderValue::from_bytes(&agent).ok()
    }

    /// Has outcomes that are in lines reach the kernel within [`SOON`]. Where requests follow each other closely, the
    /// next one's intent takes them along, and they cost nothing of their own.
    pub(super) fn carry_soon(self: &Arc<Self>) {
        if self.carried_soon.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return tracing::error!("a request ended after the daemon; its outcome is lost");
        };
        let session = Arc::clone(self);
        let carry = async move {
            tokio::time::sleep(SOON).await;
            // Before what waits is taken: what comes after that is for the next time.
            session.carried_soon.store(false, Ordering::Release);
            if let Err(error) = session.parts.recording.carried().await {
                tracing::error!("a request's outcome: {error}");
                session.unrecorded(error);
            }
        };
        self.tasks.spawn_on(carry, &runtime);
    }

    /// A record has failed: nothing runs unrecorded.
    pub(super) fn unrecorded(&self, error: RecordingError) {
        // One is enough, and a session that ends already need not be told.
        drop(self.parts.unrecorded.try_send(error));
    }
}
