//! The listener: admission, limits, drain.

pub(crate) mod admission;
pub(crate) mod algorithms;
mod host_certificates;
mod host_keys;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::{Conduct, Gate, Place, Unannounced};
pub use self::admission::{HeaderError, Source, Turnstile, read_header};
pub use self::host_certificates::{HostCertificateError, HostCertificates};
pub use self::host_keys::{HostKeyError, HostKeys};
use crate::config::{Admission, Algorithms, Limits};
use crate::connection::{self, Terms};
use crate::messages::{MonitorLink, Peer};
use crate::strangers::Reason;

/// After a failed accept, such as when the process has no file descriptor left.
const BACK_OFF: Duration = Duration::from_millis(50);
const BACK_OFF_AT_MOST: Duration = Duration::from_secs(1);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Front {
    /// By which clients know this host.
    pub host_keys: HostKeys,
    /// What connections are served by, as it is when one comes in. A change does not touch open ones.
    pub rules: watch::Receiver<Rules>,
    /// Counts who is not let in.
    pub strangers: Arc<dyn Turnstile>,
}

/// What connections are served by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Who is let in.
    pub admission: Admission,
    /// Bounds.
    pub limits: Limits,
    /// What every client is shown before it proves anything.
    pub banner: Option<String>,
    /// Which cryptography is spoken.
    pub algorithms: Algorithms,
    /// By which clients know this host that trust their authority.
    pub host_certificates: HostCertificates,
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
    /// The socket cannot be handed over.
    #[error("the listening socket: {0}")]
    Listener(#[from] std::io::Error),
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

    /// Serves on a socket that listens already.
    ///
    /// # Errors
    ///
    /// What the kernel says of one that does not.
    pub fn on(listener: std::net::TcpListener) -> Result<Self, ServerError> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The socket alone.
    ///
    /// # Errors
    ///
    /// What the runtime says that looks after it.
    pub fn into_listener(self) -> Result<std::net::TcpListener, ServerError> {
        Ok(self.listener.into_std()?)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is cancelled and every connection has ended: then no more are accepted, and open ones
    /// have until `limits.drain` to finish their sessions.
    ///
    /// `connect` is called for each connection that is admitted, so it must be quick. It opens
    /// the conversation with the deciding side; `None` closes the connection at once. The conversation is over
    /// when its asks end. A deciding side that drops its end of the orders ends the connection.
    pub async fn serve<C>(self, front: Front, connect: C, shutdown: CancellationToken)
    where
        C: Fn(Peer) -> Option<MonitorLink> + Send + Sync + 'static,
    {
        let connections = TaskTracker::new();
        let connect = Arc::new(connect);
        let mut door = Door::new(front);
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
                    let Some(arrival) = door.arrival(connections.len(), address.ip()) else {
                        continue;
                    };
                    prepare(&tcp, &arrival.terms.limits);
                    let (connect, shutdown) = (Arc::clone(&connect), shutdown.clone());
                    connections.spawn(arrival.serve(tcp, address, connect, shutdown));
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
struct Door {
    rules: watch::Receiver<Rules>,
    host_keys: HostKeys,
    gate: Gate,
    /// russh's configuration holds the host keys: made anew only when the rules have changed.
    made: Option<(Rules, Terms)>,
}

impl Door {
    fn new(front: Front) -> Self {
        Self {
            gate: Gate::new(front.rules.clone(), front.strangers),
            rules: front.rules,
            host_keys: front.host_keys,
            made: None,
        }
    }

    /// A connection from `address` that may be listened to.
    fn arrival(&mut self, open: usize, address: IpAddr) -> Option<Arrival> {
        let limit = self.rules.borrow().limits.max_connections;
        if !u32::try_from(open).is_ok_and(|open| open < limit) {
            self.gate.turn_away(address, Reason::Full);
            return None;
        }
        let entry = if self.gate.is_proxy(address) {
            Entry::Proxied(self.gate.listen_to(address)?)
        } else {
            Entry::Admitted(self.gate.admit(address)?)
        };
        Some(Arrival {
            entry,
            gate: self.gate.clone(),
            terms: self.terms(),
        })
    }

    fn terms(&mut self) -> Terms {
        let rules = self.rules.borrow();
        if let Some((made_for, terms)) = &self.made
            && *made_for == *rules
        {
            return terms.clone();
        }
        let rules = rules.clone();
        let terms = Terms {
            config: Arc::new(algorithms::config(&self.host_keys, &rules)),
            limits: rules.limits.clone(),
            banner: rules.banner.as_deref().map(as_lines),
        };
        self.made = Some((rules, terms.clone()));
        terms
    }
}

/// Lines of a banner end as RFC 4252, 5.4 has them.
fn as_lines(banner: &str) -> Arc<str> {
    let lines = banner.lines().map(|line| format!("{line}\r\n"));
    lines.collect::<String>().into()
}

/// A connection that was accepted.
struct Arrival {
    entry: Entry,
    gate: Gate,
    terms: Terms,
}

/// How far a connection has come.
enum Entry {
    /// It is from a proxy, which has to say for whom.
    Proxied(Unannounced),
    /// It has a place.
    Admitted(Place),
}

impl Arrival {
    async fn serve<C>(
        self,
        mut tcp: TcpStream,
        address: SocketAddr,
        connect: Arc<C>,
        shutdown: CancellationToken,
    ) where
        C: Fn(Peer) -> Option<MonitorLink> + Send + Sync,
    {
        let (place, address) = match self.entry {
            Entry::Admitted(place) => (place, address),
            Entry::Proxied(unannounced) => {
                let announced = tokio::select! {
                    announced = read_header(&mut tcp) => announced,
                    () = shutdown.cancelled() => return,
                };
                drop(unannounced);
                let client = match announced {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::debug!(proxy = %address, %error, "a proxy is refused");
                        return self.gate.turn_away(address.ip(), Reason::Proxy);
                    }
                };
                let Some(place) = self.gate.admit(client.ip()) else {
                    return;
                };
                (place, client)
            }
        };
        let peer = Peer {
            address,
            client: String::new(),
        };
        let Some(link) = connect(peer) else {
            return place.over(Conduct::Fine);
        };
        let place = Arc::new(place);
        tokio::select! {
            biased;
            () = place.makes_way() => {
                place.made_way();
                tracing::debug!(%address, "it made way for another");
            }
            end = connection::serve(tcp, link, self.terms, Arc::clone(&place), shutdown) => {
                tracing::debug!(%address, ?end, "connection ended");
            }
        }
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
