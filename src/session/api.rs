//! A session's way to its cluster: the gateway, for as long as the session is open.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::audit::Event;
use crate::gateway::{Admission, ApiSession, ApiSessionParts, Gateway, Upstream};
use crate::messages::Open;
use crate::mint::{Acting, Lease};
use crate::monitor::Monitor;
use crate::policy::Grant;
use crate::recording::{OpenRecording, RecordingError};

use super::steps;

/// Connections of one sandbox at once. More wait in the socket's own backlog.
const CONNECTIONS: usize = 256;
/// What requests whose command has ended by itself get to be on record as what they were, not as cut.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// From cutting the rest to the last of it being on record.
pub(super) const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// After an accept that failed: what it lacked (descriptors, memory) does not come back at once.
const BREATH: Duration = Duration::from_millis(100);

/// What a session opens requests with, and ends them by.
pub(super) struct Api {
    session: Arc<ApiSession>,
    /// Where a renewed lease's credential goes.
    pub(super) in_use: watch::Sender<Acting>,
    /// A request that could not be recorded: the session's end.
    pub(super) unrecorded: mpsc::Receiver<RecordingError>,
    over: CancellationToken,
    // However the session ends, a panic included, nothing of it stays open.
    _end: DropGuard,
}

impl Api {
    /// Puts on record that the session is open, and with which credential; then there is a way to its cluster.
    pub(super) async fn open(
        monitor: &Monitor,
        grant: &Grant,
        recording: &OpenRecording,
        lease: &Lease,
        open: &Open,
    ) -> Result<Self, String> {
        let (jti, audit_id, expires) = (lease.jti(), lease.audit_id(), lease.expires());
        recording
            .lease(jti, audit_id, expires)
            .await
            .map_err(|_| "this session cannot be recorded, so it ends".to_owned())?;
        // Where recordings are kept secret from the disk, so is what they are of.
        let secret = monitor.config().bastion.recordings.recipients.is_some();
        let command = steps::command_shown(monitor, open).filter(|_| !secret);
        let event = Event::SessionOpened {
            session: recording.id(),
            identity: grant.identity(),
            role: grant.role(),
            cluster: grant.cluster(),
            kind: grant.kind(),
            command: command.as_deref(),
        };
        steps::on_record(monitor, event).await?;
        let upstream = monitor.leases.upstream(grant.cluster()).await;
        let upstream = upstream.map_err(|error| error.for_operator())?;
        Ok(Self::new(grant, recording, lease, upstream))
    }

    fn new(grant: &Grant, recording: &OpenRecording, lease: &Lease, upstream: Upstream) -> Self {
        let (in_use, acting) = watch::channel(lease.acting().clone());
        let (unrecorded_tx, unrecorded) = mpsc::channel(1);
        let over = CancellationToken::new();
        let session = ApiSession::new(ApiSessionParts {
            session: recording.id(),
            identity: grant.identity().clone(),
            role: grant.role().clone(),
            cluster: grant.cluster().clone(),
            upstream,
            acting,
            recording: recording.clone(),
            bodies: grant.bodies(),
            over: over.clone(),
            unrecorded: unrecorded_tx,
        });
        Self {
            session,
            in_use,
            unrecorded,
            _end: over.clone().drop_guard(),
            over,
        }
    }

    /// Serves what connects at `listener`, which leads out of this session's sandbox and nowhere else.
    pub(super) fn serve(&self, gateway: &Gateway, listener: TcpListener) -> Serving {
        let (session, over) = (Arc::clone(&self.session), self.over.clone());
        let closed = over.child_token();
        let task = gateway.workers().spawn(serve(
            gateway.clone(),
            listener,
            Arc::clone(&session),
            closed.clone(),
        ));
        Serving {
            session,
            task: AbortOnDropHandle::new(task),
            closed,
            over,
        }
    }

    /// The session as the gateway sees it.
    pub(super) fn session(&self) -> &Arc<ApiSession> {
        &self.session
    }

    /// Cuts every open request, and opens none from now on.
    pub(super) fn end(&self) {
        self.over.cancel();
    }
}

/// The requests of a session that are under way.
pub(super) struct Serving {
    session: Arc<ApiSession>,
    task: AbortOnDropHandle<()>,
    closed: CancellationToken,
    over: CancellationToken,
}

impl Serving {
    /// Waits, after the command's end, until every request is on record, but not for long.
    pub(super) async fn ended(mut self) {
        self.closed.cancel();
        let mut settled = std::pin::pin!(async {
            note((&mut self.task).await);
            self.session.settled().await;
        });
        // Nobody is left inside: connections end by themselves, with what was answered to the end.
        if tokio::time::timeout(LAST_ANSWERS, settled.as_mut())
            .await
            .is_ok()
        {
            return;
        }
        self.over.cancel();
        if tokio::time::timeout(LAST_REQUESTS, settled).await.is_err() {
            tracing::error!("a session's requests did not end in time");
        }
    }
}

async fn serve(
    gateway: Gateway,
    listener: TcpListener,
    session: Arc<ApiSession>,
    closed: CancellationToken,
) {
    // The thread that runs this is also the one that is woken.
    let listener = match listener.into_std().and_then(TcpListener::from_std) {
        Ok(listener) => listener,
        // Its clients see that nobody listens.
        Err(error) => return tracing::error!("a session's way to its cluster: {error}"),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closed.cancelled() => break,
            Some(ended) = connections.join_next() => note(ended),
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!("a connection that is gone already: {error}");
                    }
                    let (gateway, session) = (gateway.clone(), Arc::clone(&session));
                    connections.spawn(async move {
                        gateway.serve(stream, session, Admission::Inside).await;
                    });
                }
                Err(error) => {
                    tracing::warn!("accepting from a sandbox: {error}");
                    tokio::time::sleep(BREATH).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a session's requests ended badly: {error}");
    }
}
