//! The listener: admission, limits, drain.

pub(crate) mod algorithms;
mod host_keys;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::host_keys::{HostKeyError, HostKeys};
use crate::config::Limits;
use crate::connection;
use crate::messages::{MonitorLink, Peer};

/// After a failed accept, such as when the process has no file descriptor left.
const BACK_OFF: Duration = Duration::from_millis(50);
const BACK_OFF_AT_MOST: Duration = Duration::from_secs(1);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Front {
    /// By which clients know this host.
    pub host_keys: HostKeys,
    /// Bounds, as they are when a connection comes in. A change does not touch open connections.
    pub limits: watch::Receiver<Limits>,
}

/// Why SSH cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// A bound listener that serves nobody yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is cancelled and every connection has ended: then no more are accepted, and open ones
    /// have until `limits.drain` to finish their sessions.
    ///
    /// `connect` is called for each connection that is admitted, in the accept loop, so it must be quick. It opens
    /// the conversation with the deciding side; `None` closes the connection at once. The conversation is over
    /// when its asks end. A deciding side that drops its end of the orders ends the connection.
    pub async fn serve<C>(self, front: Front, connect: C, shutdown: CancellationToken)
    where
        C: Fn(Peer) -> Option<MonitorLink> + Send + Sync,
    {
        let connections = TaskTracker::new();
        let mut admission = Admission::new(front);
        let mut back_off = BACK_OFF;
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    back_off = BACK_OFF;
                    if !admission.admits(connections.len(), address) {
                        continue;
                    }
                    let peer = Peer {
                        address,
                        client: String::new(),
                    };
                    let Some(link) = connect(peer) else {
                        continue;
                    };
                    let (config, limits) = admission.terms();
                    prepare(&tcp, &limits);
                    let shutdown = shutdown.clone();
                    connections.spawn(async move {
                        let end = connection::serve(tcp, link, config, limits, shutdown).await;
                        tracing::debug!(%address, ?end, "connection ended");
                    });
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(back_off) => {}
                        () = shutdown.cancelled() => break,
                    }
                    back_off = (back_off * 2).min(BACK_OFF_AT_MOST);
                }
            }
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

/// Who is let in, and under which terms.
struct Admission {
    front: Front,
    /// russh's configuration holds the host keys: made anew only when the limits have changed.
    made: Option<(Limits, Arc<russh::server::Config>)>,
    turned_away: u64,
}

impl Admission {
    fn new(front: Front) -> Self {
        Self {
            front,
            made: None,
            turned_away: 0,
        }
    }

    fn admits(&mut self, open: usize, address: SocketAddr) -> bool {
        let limit = self.front.limits.borrow().max_connections;
        let admitted = u32::try_from(open).is_ok_and(|open| open < limit);
        if !admitted {
            self.turned_away = self.turned_away.saturating_add(1);
            // The first, and then ever more rarely: a flood must not become a flood of logs.
            if self.turned_away.is_power_of_two() {
                tracing::warn!(%address, limit, turned_away = self.turned_away, "too many connections: closed at once");
            }
        }
        admitted
    }

    fn terms(&mut self) -> (Arc<russh::server::Config>, Limits) {
        let limits = self.front.limits.borrow().clone();
        if let Some((made_for, config)) = &self.made
            && *made_for == limits
        {
            return (Arc::clone(config), limits);
        }
        let config = Arc::new(algorithms::config(&self.front.host_keys, &limits));
        self.made = Some((limits.clone(), Arc::clone(&config)));
        (config, limits)
    }
}

/// Keystrokes must not wait for Nagle, and the kernel must not hold on to a host that has vanished longer than we do.
fn prepare(tcp: &TcpStream, limits: &Limits) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let patience = limits.keepalive.saturating_mul(4).as_millis();
    let patience = u32::try_from(patience).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(tcp, patience) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT");
    }
}

/// accept(2) also reports what happened to the connection that it would have returned.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
            | TimedOut
    )
}
