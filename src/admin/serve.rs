//! The daemon's end of the socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{LONGEST, Reply, Request, SOCKET, locks, metrics, oidc, totp};
use crate::audit::{Act, Event};
use crate::custody::CustodyError;
use crate::mint::LiveLease;
use crate::monitor::Monitor;
use crate::oidc::Whose;
use crate::revoke;

/// Administrators at once.
const AT_ONCE: usize = 16;
/// A silent administrator is sent away: programs say at once what they want.
const SILENCE: Duration = Duration::from_secs(5);
/// From a request to the end of its answer: a revoke waits for an API server.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Binds it (0600). Only the holder of the state directory's lock may call this: a socket of a dead
    /// daemon is replaced.
    pub fn bind(state_dir: &Path) -> std::io::Result<Self> {
        let path = state_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers administrators until it is dropped.
    pub async fn serve(self, monitor: Arc<Monitor>) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the admin socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let monitor = Arc::clone(&monitor);
            tokio::spawn(async move {
                let _place = place;
                match tokio::time::timeout(PATIENCE, answer(&monitor, stream)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!("an administrator: {error}"),
                    Err(_) => tracing::debug!("an administrator was silent for too long"),
                }
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // The next daemon replaces one that stays.
        drop(std::fs::remove_file(&self.path));
    }
}

async fn answer(monitor: &Arc<Monitor>, stream: UnixStream) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let own = rustix::process::geteuid().as_raw();
    let reply = if uid != own && uid != 0 {
        // The file's mode says so already; whoever passed the socket on does not make it theirs.
        Reply::Error("only the daemon's own OS user and root may ask".into())
    } else {
        let mut line = Vec::new();
        let mut read = BufReader::new(read.take(LONGEST));
        tokio::time::timeout(SILENCE, read.read_until(b'\n', &mut line)).await??;
        match serde_json::from_slice(&line) {
            Ok(request) => act(monitor, uid, request).await,
            Err(error) => Reply::Error(format!("not understood: {error}")),
        }
    };
    let mut line = serde_json::to_vec(&reply).map_err(std::io::Error::other)?;
    line.push(b'\n');
    write.write_all(&line).await
}

async fn act(monitor: &Arc<Monitor>, uid: u32, request: Request) -> Reply {
    match request {
        Request::Sessions => {
            monitor
                .audit
                .tell(Event::AdminAct {
                    uid,
                    act: Act::Sessions,
                })
                .await;
            Reply::Sessions {
                live: monitor.live.list(),
                handed_out: handed_out(monitor),
                waiting: monitor.custody.waiting(),
                witnesses: monitor.witnesses.list(),
                locks: locks::standing(monitor),
            }
        }
        // Asked every few seconds, and nothing that an auditor would look for.
        Request::Metrics => Reply::Metrics(metrics::text(monitor).await),
        Request::Lock {
            on,
            seconds,
            reason,
        } => locks::lock(monitor, &who(uid), on, seconds, reason).await,
        Request::Unlock { on } => locks::unlock(monitor, &who(uid), &on).await,
        Request::Locks => Reply::Locks(locks::standing(monitor)),
        Request::TotpOffer { identity } => totp::offer(monitor, &identity),
        Request::TotpEnroll {
            identity,
            secret,
            code,
        } => totp::enroll(monitor, who(uid), identity, &secret, &code).await,
        Request::TotpRemove { identity } => totp::remove(monitor, &who(uid), &identity).await,
        Request::TotpList => Reply::TotpList(monitor.codes.list(monitor.clock.now()).await),
        Request::OidcRemove { key, identity } => {
            let whose = match (key, identity) {
                (Some(key), None) => Whose::Key(key),
                (None, Some(identity)) => Whose::Identity(identity),
                _ => return Reply::Error("remove one key's or one identity's".into()),
            };
            oidc::remove(monitor, &who(uid), whose).await
        }
        Request::OidcList => Reply::OidcList(monitor.sign_ons.list(monitor.clock.now()).await),
        Request::Kill { session } => {
            let found = monitor.live.cut(session, "an administrator ended it");
            let act = Act::Kill {
                session: &session.to_string(),
                found,
            };
            monitor.audit.tell(Event::AdminAct { uid, act }).await;
            Reply::Killed(found)
        }
        Request::Hold { session, reason } => told(
            monitor
                .custody
                .hold(session, &who(uid), &reason)
                .await
                .map(Reply::Held),
        ),
        Request::Release { session } => told(
            monitor
                .custody
                .release(session, &who(uid))
                .await
                .map(Reply::Held),
        ),
        Request::Delete { session, reason } => {
            let deleted = monitor.custody.delete(session, &who(uid), &reason).await;
            let act = Act::Delete {
                session: &session.to_string(),
                done: deleted.is_ok(),
            };
            monitor.audit.tell(Event::AdminAct { uid, act }).await;
            told(deleted.map(|()| Reply::Deleted))
        }
        Request::Revoke { session, identity } => {
            let (what, filter) = match (session, identity) {
                (Some(session), None) => (session.to_string(), revoke::Filter::Session(session)),
                (None, Some(identity)) => {
                    (identity.to_string(), revoke::Filter::Identity(identity))
                }
                _ => return Reply::Error("revoke one session or one identity".into()),
            };
            let revoked = revoke::revoke(monitor, &filter, "an administrator revoked it").await;
            let met = revoked.credentials.len() + revoked.sessions;
            monitor
                .audit
                .tell(Event::AdminAct {
                    uid,
                    act: Act::Revoke { what: &what, met },
                })
                .await;
            Reply::Revoked {
                credentials: revoked.credentials,
                sessions: revoked.sessions,
            }
        }
    }
}

/// An administrator, as records name them.
fn who(uid: u32) -> String {
    format!("uid {uid}")
}

fn told(result: Result<Reply, CustodyError>) -> Reply {
    result.unwrap_or_else(|error| Reply::Error(error.to_string()))
}

fn handed_out(monitor: &Monitor) -> Vec<LiveLease> {
    let mut leases = monitor.leases.live();
    leases.retain(|lease| lease.state.is_with_a_client());
    leases
}
