//! The daemon's side: starts the network process, answers it, and starts another when it dies.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::User;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::frames::{self, Incoming, Outgoing, invalid};
use super::protocol::{Counted, MESSAGE, ToDaemon, ToNetwork};
use super::{border, connection, said, tally};
use crate::config::NetworkSocket;
use crate::messages::Peer;
use crate::monitor::Monitor;
use crate::server::{HostKeys, Rules, Turnstile as _};
use crate::spawning::on_lasting_thread;

/// What [`Supervisor`](crate::supervise::Supervisor) calls it.
const NETWORK: &str = "network";

/// From its start until it serves.
const STARTING: Duration = Duration::from_secs(20);

/// It takes what it is told at once; who does not is dead, or somebody else's.
const HEARING: Duration = Duration::from_secs(10);

/// Before one that died is followed by another; twice as long each further time, up to the second one.
const SOON: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(10);
/// What has served for so long was well.
const WELL: Duration = Duration::from_secs(60);

/// Its connections at once beyond `limits.maxConnections`: it counts one as over before the daemon does.
const SLACK: usize = 64;
/// Forwarded connections on one connection, and channels that are over and not gone.
const CHANNELS: usize = 320;

/// Why SSH is not served.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The program cannot be run.
    #[error("the network process cannot be started: {0}")]
    Spawn(#[source] io::Error),
    /// It says why it does not serve.
    #[error("the network process does not serve: {0}")]
    Cannot(String),
    /// It says something else.
    #[error("the network process ended before it served; what it printed says why: {0}")]
    Ended(#[source] io::Error),
    /// It cannot come to where it should.
    #[error("spec.network.socket: {path}: {source}", path = path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody can be told from everybody.
    #[error("spec.network.user: this host knows no user '{0}'; `useradd --system` makes one")]
    NoUser(String),
    /// A host key cannot be handed over.
    #[error("a host key cannot be handed to the network process: {0}")]
    HostKey(#[from] russh::keys::ssh_key::Error),
}

/// How a network process is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// Answers to `network`.
    pub(crate) program: PathBuf,
    pub(crate) log_json: bool,
    /// The uid and gid that it takes, when this is root.
    pub(crate) uid: Option<u32>,
    /// Where it comes to by itself; `None`: it is started.
    pub(crate) socket: Option<NetworkSocket>,
    pub(crate) host_keys: HostKeys,
    pub(crate) rules: watch::Receiver<Rules>,
}

/// A network process that serves.
#[derive(Debug)]
pub(crate) struct Keeper {
    start: Start,
    /// The next one serves on it, too.
    listener: OwnedFd,
    door: Option<Door>,
    /// `None`: it comes later.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// `None`: it is somebody else's to end.
    child: Option<Child>,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl Keeper {
    /// Starts a process that serves on `listener`, or makes the socket that it comes to.
    pub(crate) async fn begin(start: Start, listener: TcpListener) -> Result<Self, NetworkError> {
        let listener = OwnedFd::from(listener);
        let door = start.socket.as_ref().map(Door::open).transpose()?;
        let running = match &door {
            Some(_) => None,
            None => Some(Running::begin(&start, &listener, None).await?),
        };
        Ok(Self {
            start,
            listener,
            door,
            running,
        })
    }

    /// Answers it, and begins another when it dies, until `stop` and then until it has ended its connections.
    pub(crate) async fn serve(self, monitor: Arc<Monitor>, stop: CancellationToken) {
        let Self {
            start,
            listener,
            door,
            mut running,
        } = self;
        let mut listener = Some(listener);
        let supervisor = monitor.custody.supervisor();
        let mut pause = SOON;
        loop {
            let begun = crate::clock::monotonic();
            let ended = match running.take() {
                Some(running) => {
                    running
                        .converse(&start, &monitor, &stop, &mut listener)
                        .await
                }
                None => {
                    let Some(listener) = &listener else {
                        return;
                    };
                    let begin = Running::begin(&start, listener, door.as_ref());
                    let begun = tokio::select! {
                        begun = begin => begun,
                        () = stop.cancelled() => return,
                    };
                    match begun {
                        Ok(begun) => {
                            running = Some(begun);
                            continue;
                        }
                        Err(error) => error.to_string(),
                    }
                }
            };
            if stop.is_cancelled() {
                return;
            }
            if crate::clock::monotonic().saturating_duration_since(begun) >= WELL {
                pause = SOON;
            }
            supervisor.ended(NETWORK, &ended, Some(pause)).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            pause = pause.saturating_mul(2).min(SELDOM);
        }
    }
}

/// Where a network process comes to that is a service of its own.
#[derive(Debug)]
struct Door {
    listener: UnixListener,
    uid: u32,
}

impl Door {
    fn open(at: &NetworkSocket) -> Result<Self, NetworkError> {
        let uid = match at.user.parse() {
            Ok(uid) => uid,
            Err(_) => match User::from_name(&at.user) {
                Ok(Some(user)) => user.uid.as_raw(),
                Ok(None) | Err(_) => return Err(NetworkError::NoUser(at.user.clone())),
            },
        };
        let path = &at.socket;
        let failed = |source| NetworkError::Socket {
            path: path.clone(),
            source,
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Who comes is told by its uid, whatever the file says.
        let everybody = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(path, everybody).map_err(failed)?;
        tracing::info!("the network process is to come to {}", path.display());
        Ok(Self { listener, uid })
    }

    /// The next that comes and may.
    async fn next(&self) -> io::Result<UnixStream> {
        loop {
            let (socket, _) = self.listener.accept().await?;
            let uid = socket.peer_cred()?.uid();
            if uid == self.uid {
                return Ok(socket);
            }
            tracing::warn!(
                "uid {uid} came to the network process's socket, which is for uid {}",
                self.uid
            );
        }
    }
}

impl Running {
    async fn begin(
        start: &Start,
        listener: &OwnedFd,
        door: Option<&Door>,
    ) -> Result<Self, NetworkError> {
        let (here, child) = match door {
            Some(door) => (door.next().await.map_err(NetworkError::Spawn)?, None),
            None => {
                let (here, there) = frames::pair().map_err(NetworkError::Spawn)?;
                let mut command = command(start, there);
                let child = on_lasting_thread(move || command.spawn()).await;
                let mut child = child.flatten().map_err(NetworkError::Spawn)?;
                if let Some(log) = child.stderr.take() {
                    tokio::spawn(said::pass_on(log, start.log_json));
                }
                (here, Some(child))
            }
        };
        let (incoming, outgoing) = frames::on(here);
        let mut running = Self {
            child,
            incoming,
            outgoing,
        };
        let host_keys: Result<Vec<Zeroizing<String>>, _> = start.host_keys.to_openssh().collect();
        let message = ToNetwork::Start {
            host_keys: host_keys?,
            rules: start.rules.borrow().clone(),
        };
        let said = async {
            let listener = Some(listener.as_fd());
            running.outgoing.say(MESSAGE, &message, listener).await?;
            let frame = running.incoming.next().await?;
            frame
                .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?
                .message()
        };
        let said = tokio::time::timeout(STARTING, said).await;
        match said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(ToDaemon::Serving) => Ok(running),
            Ok(ToDaemon::Cannot(why)) => Err(NetworkError::Cannot(why)),
            Ok(_) => Err(NetworkError::Ended(invalid("it spoke before it served"))),
            Err(error) => Err(NetworkError::Ended(error)),
        }
    }

    /// Answers it until it ends; how it did.
    async fn converse(
        mut self,
        start: &Start,
        monitor: &Arc<Monitor>,
        stop: &CancellationToken,
        listener: &mut Option<OwnedFd>,
    ) -> String {
        let error = match self.until_end(start, monitor, stop, listener).await {
            Ok(()) => "it ended".to_owned(),
            Err(error) => error.to_string(),
        };
        let Some(mut child) = self.child else {
            return error;
        };
        // It has no other end than this: whatever it still does is nobody's.
        drop(child.start_kill());
        match child.wait().await {
            Ok(status) => format!("{error} ({status})"),
            Err(_) => error,
        }
    }

    async fn until_end(
        &mut self,
        start: &Start,
        monitor: &Arc<Monitor>,
        stop: &CancellationToken,
        listener: &mut Option<OwnedFd>,
    ) -> io::Result<()> {
        let connections = TaskTracker::new();
        let over = CancellationToken::new();
        // Whatever it has done with the other ends: what it carried ends with it.
        let _over = over.clone().drop_guard();
        let mut rules = start.rules.clone();
        let mut stopping = false;
        loop {
            tokio::select! {
                frame = self.incoming.next() => {
                    let Some(mut frame) = frame? else {
                        return Ok(());
                    };
                    match (frame.message()?, frame.descriptor.take()) {
                        (ToDaemon::Connected(peer), Some(socket)) => {
                            let carried = (&connections, &over);
                            attend(monitor, carried, peer, socket)?;
                        }
                        // Its other end is closed by now, and the connection with it.
                        (ToDaemon::Connected(peer), None) => {
                            tracing::warn!(address = %peer.address, "no file descriptor is left for a connection");
                        }
                        (ToDaemon::Counted(counted), None) => count(monitor, counted),
                        _ => return Err(invalid("it said what it never says")),
                    }
                }
                Ok(()) = rules.changed() => {
                    let new = rules.borrow_and_update().clone();
                    self.tell(&ToNetwork::Rules(new)).await?;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    // Whoever comes now is refused, and waits for nothing.
                    *listener = None;
                    self.tell(&ToNetwork::Stop).await?;
                }
            }
        }
    }

    async fn tell(&self, message: &ToNetwork) -> io::Result<()> {
        let told = self.outgoing.say(MESSAGE, message, None);
        match tokio::time::timeout(HEARING, told).await {
            Ok(told) => told,
            Err(_) => Err(invalid("it does not listen")),
        }
    }
}

/// Begins the conversation with a connection.
fn attend(
    monitor: &Arc<Monitor>,
    (connections, over): (&TaskTracker, &CancellationToken),
    peer: Peer,
    socket: OwnedFd,
) -> io::Result<()> {
    let limits = &monitor.config().bastion.limits;
    let most = usize::try_from(limits.max_connections).unwrap_or(usize::MAX);
    if connections.len() >= most.saturating_add(SLACK) {
        tracing::warn!(address = %peer.address, "one connection more than there may be");
        return Ok(());
    }
    let sessions = usize::try_from(limits.max_sessions_per_connection).unwrap_or(usize::MAX);
    let channels = sessions.saturating_add(CHANNELS);
    let socket = frames::on_sent(socket)?;
    let conversation = monitor.converse(border::peer(peer));
    let over = over.child_token();
    connections.spawn(connection::inside(socket, conversation, channels, over));
    Ok(())
}

/// Takes its numbers over. It can lie in them, and in nothing else by them.
fn count(monitor: &Monitor, counted: Counted) {
    for (source, reason, times) in counted.turned_away.into_iter().take(tally::SOURCES * 2) {
        monitor.strangers.were_turned_away(source, reason, times);
    }
    let (unproven, refused_sources) = (counted.unproven, counted.refused_sources);
    monitor.strangers.stand(unproven, refused_sources);
}

/// With an environment of its own: the daemon's may hold what opens other doors. And out of the terminal's foreground: Ctrl-C
/// is for the daemon, which tells it.
fn command(start: &Start, control: OwnedFd) -> Command {
    let mut command = Command::new(&start.program);
    command
        .args(["network", "--log-json"])
        .env_clear()
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(uid) = start.uid {
        command.args(["--uid", &uid.to_string()]);
    }
    for kept in ["RUST_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}
