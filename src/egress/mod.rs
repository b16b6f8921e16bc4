//! The way from a sandbox to the hosts that its role lists: a proxy for HTTPS (CONNECT, RFC 9110, 9.3.6) that listens inside
//! the sandbox and connects outside.
//!
//! Names are resolved here, of hosts that are listed only; so a command learns nothing from a name server and says nothing to
//! one. Every connection is in the audit log before its first byte.

mod address;
mod resolve;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, Event};
use crate::clock;
use crate::config::{Config, HostPort, Name};
use crate::policy::{self, Grant, NotReached};
use crate::session::SessionId;
use resolve::Unresolved;

/// Connections of one session at once. More wait in the socket's own backlog.
const CONNECTIONS: usize = 32;
/// For the head of a request.
const HEAD: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 16 * 1024;
/// For each address that is tried.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection holds its place for so long at least, so that a session fills the audit log with no more than so many each second.
const PLACE: Duration = Duration::from_secs(1);
/// Refusals that are told of a session one by one. What tries on after so many is not told better by more of them.
const TOLD: u32 = 100;
/// After an accept that failed: what it lacked (descriptors, memory) does not come back at once.
const BREATH: Duration = Duration::from_millis(100);

/// What a session's connections to other hosts need.
#[derive(Debug)]
pub struct Egress {
    /// Whose.
    pub session: SessionId,
    /// Under which decision.
    pub grant: Grant,
    /// What is allowed now.
    pub config: watch::Receiver<Arc<Config>>,
    /// Where each is told.
    pub audit: Audit,
}

/// Why there is no connection, as whoever asked for it is told.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("this proxy carries HTTPS only: CONNECT HOST:PORT")]
    NoConnect,
    #[error("{0}")]
    Policy(#[from] NotReached),
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    #[error("{to} does not answer: {source}")]
    Unreachable { to: HostPort, source: io::Error },
    #[error("the audit log cannot be written, so nothing is allowed")]
    Unaudited,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoConnect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Policy(_) => StatusCode::FORBIDDEN,
            Self::Unresolved(_) | Self::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            Self::Unaudited => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Serves what connects at `listener`, which leads out of a session's sandbox and nowhere else, until `over`. Then every connection is
/// cut, and on record as over.
pub async fn serve(listener: TcpListener, egress: Egress, over: CancellationToken) {
    let served = Arc::new(Served {
        egress,
        refused: AtomicU32::new(0),
        over: over.clone(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = over.cancelled() => break,
            Some(ended) = connections.join_next() => note(ended),
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(Arc::clone(&served).one(stream))),
                Err(error) => {
                    tracing::warn!("accepting from a sandbox: {error}");
                    sleep(BREATH).await;
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
        tracing::error!("a connection to another host ended badly: {error}");
    }
}

#[derive(Debug)]
struct Served {
    egress: Egress,
    refused: AtomicU32,
    over: CancellationToken,
}

/// A connection that may be used, and what it is.
struct Through {
    upgrade: hyper::upgrade::OnUpgrade,
    outside: TcpStream,
    to: HostPort,
}

impl Served {
    /// One request, then its bytes: nobody needs to ask twice on one connection.
    async fn one(self: Arc<Self>, stream: TcpStream) {
        let place = clock::monotonic() + PLACE;
        let through = tokio::select! {
            biased;
            () = self.over.cancelled() => None,
            through = self.answer(stream) => through,
        };
        if let Some(through) = through {
            self.carry(through).await;
        }
        tokio::select! {
            () = self.over.cancelled() => {}
            () = sleep_until(place) => {}
        }
    }

    async fn answer(self: &Arc<Self>, stream: TcpStream) -> Option<Through> {
        let (through_tx, mut through) = mpsc::channel(1);
        let service = service_fn(|request: Request<Incoming>| {
            let through = through_tx.clone();
            let served = Arc::clone(self);
            async move {
                Ok::<_, Infallible>(match served.connect(request).await {
                    Ok(connected) => {
                        drop(through.try_send(connected));
                        Response::new(Full::default())
                    }
                    Err(refused) => told(&refused),
                })
            }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!("a client of a session's proxy: {error}");
        }
        through.try_recv().ok()
    }

    async fn connect(&self, mut request: Request<Incoming>) -> Result<Through, Refused> {
        let to = asked(&request).ok_or(Refused::NoConnect)?;
        match self.open(&to).await {
            Ok(outside) => Ok(Through {
                upgrade: hyper::upgrade::on(&mut request),
                outside,
                to,
            }),
            Err(refused) => {
                self.tell_refused(&to, &refused).await;
                Err(refused)
            }
        }
    }

    async fn open(&self, to: &HostPort) -> Result<TcpStream, Refused> {
        let config = Arc::clone(&self.egress.config.borrow());
        policy::may_connect(&config, &self.egress.grant, to)?;
        let (address, outside) = reach(to, &resolve::addresses(to).await?).await?;
        let event = Event::EgressOpened {
            session: self.egress.session,
            identity: self.identity(),
            to: &to.to_string(),
            address,
        };
        match self.egress.audit.emit(event).await {
            Ok(()) => Ok(outside),
            Err(error) => {
                tracing::error!("{error}");
                Err(Refused::Unaudited)
            }
        }
    }

    /// Both ways, until both sides have said all, or the session ends.
    async fn carry(&self, through: Through) {
        let Through {
            upgrade,
            outside,
            to,
        } = through;
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let carrying = async {
            let inside = upgrade.await.map_err(io::Error::other)?;
            let (from_inside, to_inside) = tokio::io::split(TokioIo::new(inside));
            let (from_outside, to_outside) = outside.into_split();
            tokio::try_join!(
                one_way(from_inside, to_outside, &sent),
                one_way(from_outside, to_inside, &received),
            )
        };
        tokio::select! {
            biased;
            () = self.over.cancelled() => {}
            carried = carrying => {
                if let Err(error) = carried {
                    tracing::debug!("a connection to {to}: {error}");
                }
            }
        }
        let event = Event::EgressClosed {
            session: self.egress.session,
            identity: self.identity(),
            to: &to.to_string(),
            sent: sent.into_inner(),
            received: received.into_inner(),
        };
        self.egress.audit.tell(event).await;
    }

    async fn tell_refused(&self, to: &HostPort, refused: &Refused) {
        if self.refused.fetch_add(1, Ordering::Relaxed) >= TOLD {
            return;
        }
        let event = Event::EgressRefused {
            session: self.egress.session,
            identity: self.identity(),
            to: &to.to_string(),
            reason: refused.to_string(),
        };
        self.egress.audit.tell(event).await;
    }

    fn identity(&self) -> &Name {
        self.egress.grant.identity()
    }
}

async fn one_way(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let mut counted = InspectReader::new(from, |read| {
        bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
    });
    tokio::io::copy(&mut counted, &mut to).await?;
    to.shutdown().await
}

/// What a request asks to be connected to.
fn asked(request: &Request<Incoming>) -> Option<HostPort> {
    if request.method() != Method::CONNECT {
        return None;
    }
    let authority = request.uri().authority()?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    Some(HostPort {
        host: host.to_ascii_lowercase(),
        port: authority.port_u16()?,
    })
}

/// The first address that answers.
async fn reach(
    to: &HostPort,
    addresses: &[SocketAddr],
) -> Result<(SocketAddr, TcpStream), Refused> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((*address, stream)),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Refused::Unreachable {
        to: to.clone(),
        source: last,
    })
}

/// As a body for those who read it, and in the status line, which is what Go's programs show.
fn told(refused: &Refused) -> Response<Full<Bytes>> {
    let text = refused.to_string();
    let mut response = Response::new(Full::from(format!("bastion-audit: {text}\n")));
    *response.status_mut() = refused.status();
    if let Ok(reason) = ReasonPhrase::try_from(text.into_bytes()) {
        response.extensions_mut().insert(reason);
    }
    response
}

#[cfg(test)]
mod tests;
