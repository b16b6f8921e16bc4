//! Serves the issuer's documents over TLS, and nothing else: two paths, one request for each connection, everything bounded.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
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

use super::{IssuerError, Issuing};
use crate::config::IssuerListener;
use crate::config::secrets::read_secret;

/// At once; more wait in the system's queue.
const CONNECTIONS: usize = 128;
/// From accepting a connection to its end, handshake and answer included.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Of a request's head, bytes; the least that hyper takes.
const MAX_HEAD: usize = 8192;
const MAX_HEADERS: usize = 32;
/// A certificate that was renewed is served so soon.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(60);
/// After an accept that failed for want of something, such as file descriptors.
const BACK_OFF: Duration = Duration::from_millis(200);

/// The listener, bound, with a certificate that fits its key.
pub struct DocumentServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
    issuing: Issuing,
    patience: Duration,
}

impl DocumentServer {
    /// Binds, and reads the certificate.
    ///
    /// # Errors
    ///
    /// If the address is taken, or the certificate cannot be served.
    pub async fn bind(settings: &IssuerListener, issuing: Issuing) -> Result<Self, IssuerError> {
        let certificate = Arc::new(Certificate::open(settings)?);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unusable = |error: rustls::Error| IssuerError::Certificate {
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
            listener: listener.map_err(|source| IssuerError::Listen {
                address: settings.address,
                source,
            })?,
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            certificate,
            issuing,
            patience: PATIENCE,
        })
    }

    /// Whether it could serve with what these files hold.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn check(settings: &IssuerListener) -> Result<(), IssuerError> {
        read(settings).map(drop)
    }

    /// Where it listens, with the port that the system chose if the configuration left it open.
    pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
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
                Some((place, Ok((tcp, _)))) => {
                    let (acceptor, issuing) = (self.acceptor.clone(), self.issuing.clone());
                    let patience = self.patience;
                    tokio::spawn(async move {
                        let served = tokio::time::timeout(patience, answer(tcp, acceptor, issuing));
                        if served.await.is_err() {
                            tracing::debug!("a reader of the issuer's documents was too slow");
                        }
                        drop(place);
                    });
                }
                Some((_, Err(error))) => {
                    tracing::debug!(%error, "a reader of the issuer's documents was not accepted");
                    tokio::time::sleep(BACK_OFF).await;
                }
                None => return,
            }
        }
    }
}

impl std::fmt::Debug for DocumentServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DocumentServer")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

async fn answer(tcp: TcpStream, acceptor: TlsAcceptor, issuing: Issuing) {
    let stream = match acceptor.accept(tcp).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!("a reader of the issuer's documents: {error}"),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &issuing);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a reader of the issuer's documents: {error}");
    }
}

fn respond(method: &Method, path: &str, issuing: &Issuing) -> Response<Full<Bytes>> {
    let issuer = issuing.issuer();
    let document = issuer
        .as_ref()
        .and_then(|issuer| issuer.documents().at(path));
    let (status, body) = match (document, method) {
        (None, _) => (StatusCode::NOT_FOUND, Bytes::new()),
        (Some(document), &Method::GET | &Method::HEAD) => (StatusCode::OK, document.clone()),
        (Some(_), _) => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    match status {
        StatusCode::OK => {
            set(header::CONTENT_TYPE, "application/json");
            // API servers look for a key that they do not know no sooner than what they have may be forgotten.
            set(header::CACHE_CONTROL, "no-store");
        }
        StatusCode::METHOD_NOT_ALLOWED => set(header::ALLOW, "GET, HEAD"),
        _ => {}
    }
    response
}

/// What the documents are served under, read again now and then: whoever renews a certificate replaces its file.
#[derive(Debug)]
struct Certificate {
    settings: IssuerListener,
    current: Mutex<Arc<CertifiedKey>>,
}

impl Certificate {
    fn open(settings: &IssuerListener) -> Result<Self, IssuerError> {
        Ok(Self {
            current: Mutex::new(Arc::new(read(settings)?)),
            settings: settings.clone(),
        })
    }

    async fn look_again(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let read = read(&this.settings)?;
            *lock(&this.current) = Arc::new(read);
            Ok::<_, IssuerError>(())
        });
        if let Ok(Err(error)) = read.await {
            tracing::error!("the issuer's certificate stays what it was: {error}");
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&lock(&self.current)))
    }
}

fn read(settings: &IssuerListener) -> Result<CertifiedKey, IssuerError> {
    let wrong = |path: &Path, why: String| IssuerError::Certificate {
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
