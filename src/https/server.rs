//! Serves a few pages or documents over TLS: one request for each connection, everything bounded.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::secrets::{SecretError, read_secret};
use crate::config::{Admission, HttpsListener};
use crate::server::admission::Source;

/// At once; more wait in the system's queue.
const CONNECTIONS: usize = 128;
/// Of these, from one source; one more is closed, so that nobody keeps all others out.
const FROM_ONE: usize = 32;
/// For the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Of a request's head, bytes; the least that hyper takes.
const MAX_HEAD: usize = 8192;
const MAX_HEADERS: usize = 32;
/// A certificate that was renewed is served so soon.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(60);
/// After an accept that failed for want of something, such as file descriptors.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The key file cannot be read, or others can read it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate, or its key.
    #[error("{}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The address.
    #[error("{what} cannot be served on {address}: {source}")]
    Listen {
        /// What was to be served.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The operating system's word.
        #[source]
        source: std::io::Error,
    },
}

/// What is served.
pub trait Site: Clone + Send + Sync + 'static {
    /// What it is, for the log.
    const WHAT: &'static str;
    /// From accepting a connection to its end, handshake and answer included.
    const PATIENCE: Duration;

    /// The answer to one request from there.
    fn answer(
        &self,
        from: IpAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// The listener, bound, with a certificate that fits its key.
pub struct HttpsServer<S> {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
    site: S,
    patience: Duration,
}

impl<S: Site> HttpsServer<S> {
    /// Binds, and reads the certificate.
    ///
    /// # Errors
    ///
    /// If the address is taken, or the certificate cannot be served.
    pub async fn bind(settings: &HttpsListener, site: S) -> Result<Self, ServeError> {
        let certificate = Arc::new(Certificate::open(settings, S::WHAT)?);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unusable = |error: rustls::Error| ServeError::Certificate {
            path: settings.certificate.clone(),
            why: error.to_string(),
        };
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        let listener = TcpListener::bind(settings.address).await;
        Ok(Self {
            listener: listener.map_err(|source| ServeError::Listen {
                what: S::WHAT,
                address: settings.address,
                source,
            })?,
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            certificate,
            site,
            patience: S::PATIENCE,
        })
    }

    /// Whether it could serve with what these files hold.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn check(settings: &HttpsListener) -> Result<(), ServeError> {
        read(settings).map(drop)
    }

    /// Where it listens, with the port that the system chose if the configuration left it open.
    pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let sources = Sources::default();
        let mut look = tokio::time::interval(CERTIFICATE_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let accepting = async {
                // The semaphore is never closed; if it were, nothing more would be accepted.
                let place = Arc::clone(&room).acquire_owned().await.ok()?;
                Some((place, self.listener.accept().await))
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {
                    self.certificate.look_again().await;
                    continue;
                }
                accepted = accepting => accepted,
            };
            match accepted {
                Some((place, Ok((tcp, from)))) => {
                    let Some(among) = sources.enter(from.ip()) else {
                        tracing::debug!(%from, "too many at once read {}", S::WHAT);
                        continue;
                    };
                    let (acceptor, site) = (self.acceptor.clone(), self.site.clone());
                    let patience = self.patience;
                    tokio::spawn(async move {
                        let served =
                            tokio::time::timeout(patience, answer(tcp, from.ip(), acceptor, site));
                        if served.await.is_err() {
                            tracing::debug!("a reader of {} was too slow", S::WHAT);
                        }
                        drop((place, among));
                    });
                }
                Some((_, Err(error))) => {
                    tracing::debug!(%error, "a reader of {} was not accepted", S::WHAT);
                    tokio::time::sleep(BACK_OFF).await;
                }
                None => return,
            }
        }
    }
}

impl<S> std::fmt::Debug for HttpsServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpsServer")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// How many there are from each source.
#[derive(Clone, Debug, Default)]
struct Sources(Arc<Mutex<BTreeMap<Source, usize>>>);

/// One of them.
struct Among {
    sources: Sources,
    source: Source,
}

impl Sources {
    fn enter(&self, from: IpAddr) -> Option<Among> {
        let source = Source::of(from, &Admission::default());
        let mut all = lock(&self.0);
        let there = all.entry(source).or_default();
        if *there >= FROM_ONE {
            return None;
        }
        *there += 1;
        Some(Among {
            sources: self.clone(),
            source,
        })
    }
}

impl Drop for Among {
    fn drop(&mut self) {
        let mut all = lock(&self.sources.0);
        let left = all.remove(&self.source).unwrap_or(0).saturating_sub(1);
        if left > 0 {
            all.insert(self.source, left);
        }
    }
}

async fn answer<S: Site>(tcp: TcpStream, from: IpAddr, acceptor: TlsAcceptor, site: S) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("a reader of {}: {error}", S::WHAT),
        Err(_) => return tracing::debug!("a reader of {} was too slow", S::WHAT),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let answered = site.answer(from, request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a reader of {}: {error}", S::WHAT);
    }
}

/// What is served under, read again now and then: whoever renews a certificate replaces its file.
#[derive(Debug)]
struct Certificate {
    what: &'static str,
    settings: HttpsListener,
    current: Mutex<Arc<CertifiedKey>>,
}

impl Certificate {
    fn open(settings: &HttpsListener, what: &'static str) -> Result<Self, ServeError> {
        Ok(Self {
            what,
            current: Mutex::new(Arc::new(read(settings)?)),
            settings: settings.clone(),
        })
    }

    async fn look_again(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let read = read(&this.settings)?;
            *lock(&this.current) = Arc::new(read);
            Ok::<_, ServeError>(())
        });
        if let Ok(Err(error)) = read.await {
            tracing::error!(
                "the certificate of {} stays what it was: {error}",
                self.what
            );
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&lock(&self.current)))
    }
}

fn read(settings: &HttpsListener) -> Result<CertifiedKey, ServeError> {
    let wrong = |path: &Path, why: String| ServeError::Certificate {
        path: path.to_owned(),
        why,
    };
    let certificate =
        |error: rustls::pki_types::pem::Error| wrong(&settings.certificate, error.to_string());
    let chain: Vec<_> = CertificateDer::pem_file_iter(&settings.certificate)
        .map_err(certificate)?
        .collect::<Result<_, _>>()
        .map_err(certificate)?;
    if chain.is_empty() {
        let why = "there is no certificate in it".to_owned();
        return Err(wrong(&settings.certificate, why));
    }
    let key = PrivateKeyDer::from_pem_slice(&read_secret(&settings.key)?)
        // The parser's own message may quote the file.
        .map_err(|_| wrong(&settings.key, "there is no private key in it".to_owned()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map_err(|error| wrong(&settings.certificate, error.to_string()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
