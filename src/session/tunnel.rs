//! Tunnels: a client's own kubectl, k9s, helm against the gateway. A session is all that one connection forwards to the same
//! role and cluster: opened by the first forwarded connection, sealed when the SSH connection ends or when nothing was
//! forwarded for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::audit::Ended;
use crate::clock;
use crate::config::SessionKind;
use crate::messages::{Command, Destination, Open, SessionLink};
use crate::mint::Lease;
use crate::monitor::Monitor;
use crate::policy::{self, Circumstances, Grant};
use crate::recording::OpenRecording;

use super::Caller;
use super::api::{Api, LAST_REQUESTS};
use super::forwarded::Forwarded;
use super::live::{LiveSession, Place};
use super::operate::{close, unrecorded};
use super::renewal::renewals;
use super::steps;

/// Without a forwarded connection for so long, the session is over; the next one begins another.
const IDLE: Duration = Duration::from_secs(600);
/// Forwarded connections of one session at once, and as many that wait while it is being opened.
const CONNECTIONS: usize = 128;
/// Sessions of one connection.
const SESSIONS: usize = 32;
/// A renewal under way when a session ends is waited for, so that its token is on record.
const RENEWAL: Duration = Duration::from_secs(10);

/// The tunnels of one connection.
#[derive(Debug, Default)]
pub(crate) struct Tunnels(BTreeMap<Destination, mpsc::Sender<SessionLink>>);

impl Tunnels {
    /// Leads a forwarded connection to its session, which is opened if it is not yet. Whether there is room for it.
    pub(crate) fn connect(
        &mut self,
        monitor: &Arc<Monitor>,
        caller: &Caller,
        to: Destination,
        link: SessionLink,
    ) -> bool {
        let (to, caller) = resolved(monitor, caller, to);
        self.0.retain(|_, session| !session.is_closed());
        let link = match self.0.get(&to) {
            Some(session) => match session.try_send(link) {
                Ok(()) => return true,
                Err(TrySendError::Full(_)) => return false,
                Err(TrySendError::Closed(link)) => link,
            },
            None if self.0.len() >= SESSIONS => return false,
            None => link,
        };
        let (session, connections) = mpsc::channel(CONNECTIONS);
        let led = session.try_send(link).is_ok();
        monitor
            .tasks
            .spawn(serve(Arc::clone(monitor), caller, connections));
        self.0.insert(to, session);
        led
    }
}

/// By the login name that it stands for; and where `kubernetes` leads, so that it is the same session as by its name.
fn resolved(monitor: &Monitor, caller: &Caller, to: Destination) -> (Destination, Caller) {
    let mut caller = caller.clone();
    if let Destination::Named { role, cluster } = &to {
        caller.principal = format!("{role}+{cluster}");
    }
    let request = policy::Request {
        principal: caller.principal.clone(),
        kind: SessionKind::Tunnel,
    };
    // What it says no to is asked again, for the record.
    let decision = policy::decide(
        &monitor.config(),
        &caller.identity,
        &request,
        Circumstances {
            now: monitor.clock.now(),
            from: caller.peer.address.ip(),
            // What it leads to may be open already, and is no other session then.
            open: &[],
        },
    );
    let to = match decision {
        Ok(grant) => Destination::Named {
            role: grant.role().to_string(),
            cluster: grant.cluster().to_string(),
        },
        Err(_) => to,
    };
    (to, caller)
}

/// One session, from its first forwarded connection to the seal.
async fn serve(monitor: Arc<Monitor>, caller: Caller, connections: mpsc::Receiver<SessionLink>) {
    let id = steps::new_session(&monitor);
    if let Err((sentence, connections)) = run(&monitor, &caller, id, connections).await {
        let sentence = format!("{sentence} (session {id})");
        refuse(&monitor, &caller, &sentence, connections).await;
    }
}

/// Decides, records, mints, serves, seals, releases.
async fn run(
    monitor: &Monitor,
    caller: &Caller,
    id: super::SessionId,
    connections: mpsc::Receiver<SessionLink>,
) -> Result<(), (String, mpsc::Receiver<SessionLink>)> {
    let open = Open {
        command: Command::Tunnel(Destination::Own),
        terminal: None,
    };
    let grant = match steps::decide(monitor, caller, SessionKind::Tunnel, false, id).await {
        Ok(grant) => grant,
        Err(sentence) => return Err((sentence, connections)),
    };
    let recording = match steps::record(monitor, caller, &grant, &open, id).await {
        Ok(recording) => recording,
        Err(sentence) => return Err((sentence, connections)),
    };
    let lease = match steps::mint(monitor, caller, &grant, id).await {
        Ok(lease) => lease,
        Err(sentence) => {
            let reason = sentence.clone();
            close(monitor, caller, id, &recording, Ended::Cut { reason }).await;
            return Err((sentence, connections));
        }
    };
    let tunnel = Tunnel {
        grant,
        recording,
        lease,
    };
    tunnel.run(monitor, caller, &open, connections).await
}

/// Everything that an open tunnel has.
struct Tunnel {
    grant: Grant,
    recording: OpenRecording,
    lease: Lease,
}

impl Tunnel {
    async fn run(
        mut self,
        monitor: &Monitor,
        caller: &Caller,
        open: &Open,
        mut connections: mpsc::Receiver<SessionLink>,
    ) -> Result<(), (String, mpsc::Receiver<SessionLink>)> {
        let id = self.recording.id();
        let told = LiveSession::of(id, caller, &self.grant);
        let mut place = monitor
            .live
            .enter(told, caller.identity.clone(), self.grant.clone());
        let api = match steps::still_stands(monitor, caller, &self.grant, id).await {
            Ok(()) => Api::open(monitor, &self.grant, &self.recording, &self.lease, open).await,
            Err(sentence) => Err(sentence),
        };
        let (ended, refused) = match api {
            Ok(api) => {
                let attended = self.attend(monitor, caller, api, &mut connections, &mut place);
                (attended.await, None)
            }
            Err(sentence) => {
                let reason = sentence.clone();
                (Ended::Cut { reason }, Some(sentence))
            }
        };
        tokio::join!(
            steps::release(monitor, self.lease),
            close(monitor, caller, id, &self.recording, ended),
        );
        match refused {
            Some(sentence) => Err((sentence, connections)),
            None => Ok(()),
        }
    }

    /// Serves what is forwarded until the SSH connection ends, nothing was forwarded for a while, or something ends it.
    async fn attend(
        &mut self,
        monitor: &Monitor,
        caller: &Caller,
        mut api: Api,
        connections: &mut mpsc::Receiver<SessionLink>,
        place: &mut Place,
    ) -> Ended {
        let admission = monitor.gateway.admission(caller.identity.name());
        let renewing = AtomicBool::new(false);
        let mut renewals = std::pin::pin!(renewals(
            monitor,
            &mut self.lease,
            &api.in_use,
            &self.recording,
            &renewing,
            self.grant.ttl(),
        ));
        let mut time_over = std::pin::pin!(sleep(clock::remaining(
            self.grant.ends(),
            monitor.clock.now()
        )));
        let mut serving = JoinSet::new();
        let mut idle_since = clock::monotonic();
        let ended = loop {
            let busy = serving.len();
            tokio::select! {
                // In this order: whoever ends a session ends its connection next, and the record must say why.
                biased;
                reason = place.cut() => break Ended::Cut { reason },
                Some(error) = api.unrecorded.recv() => break unrecorded(&error),
                reason = renewals.as_mut() => break Ended::Cut { reason },
                () = time_over.as_mut() => break Ended::Cut { reason: "its time is over".into() },
                Some(served) = serving.join_next() => {
                    if let Err(error) = served {
                        tracing::error!("a forwarded connection ended badly: {error}");
                    }
                    idle_since = clock::monotonic();
                }
                connection = connections.recv(), if busy < CONNECTIONS => match connection {
                    Some(link) => {
                        let (gateway, admission) = (monitor.gateway.clone(), admission.clone());
                        let session = Arc::clone(api.session());
                        let serve = async move {
                            gateway.serve(Forwarded::new(link), session, admission).await;
                        };
                        serving.spawn_on(serve, monitor.gateway.workers());
                    }
                    // The SSH connection has ended.
                    None => break Ended::Exit { status: 0 },
                },
                () = sleep_until(idle_since + IDLE), if busy == 0 => break Ended::Exit { status: 0 },
            }
        };
        api.end();
        // Before the seal, so that what became of each request is in it.
        let settled = async {
            while serving.join_next().await.is_some() {}
            api.session().settled().await;
        };
        if timeout(LAST_REQUESTS, settled).await.is_err() {
            tracing::error!("a session's requests did not end in time");
        }
        if renewing.load(Ordering::Relaxed) {
            drop(timeout(RENEWAL, renewals).await);
        }
        ended
    }
}

/// Tells what was forwarded that there is no session for it, and why.
async fn refuse(
    monitor: &Monitor,
    caller: &Caller,
    sentence: &str,
    mut connections: mpsc::Receiver<SessionLink>,
) {
    // What comes from now on asks anew.
    connections.close();
    let mut refusing = JoinSet::new();
    while let Some(link) = connections.recv().await {
        let (gateway, sentence) = (monitor.gateway.clone(), sentence.to_owned());
        let admission = gateway.admission(caller.identity.name());
        refusing.spawn(async move {
            let stream = Forwarded::new(link);
            gateway.refuse(stream, &sentence, admission).await;
        });
    }
    while refusing.join_next().await.is_some() {}
}
