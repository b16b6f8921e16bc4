//! The gateway between a client and an API server that a test has in its hands: what a real one can't be made to do.

mod faults;
mod slow;
mod spdy;
mod streams;
mod way;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::SystemClock;
use crate::config::{Name, RecordBodies, RecordInput};
use crate::mint::{Acting, Credential};
use crate::recording::requests::{Done, IndexReader, Intent, RequestStep};
use crate::recording::roundtrip::metadata;
use crate::recording::testing::recordings;
use crate::recording::{OpenRecording, RecordingError, Secrets};
use crate::store::{FsStore, RecordingStore};

const TOKEN: &str = "the-sessions-own-token";

/// A connection of an API server's, after TLS.
type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// A gateway with one session, whose API server is a test's own.
struct Bench {
    gateway: Gateway,
    session: Arc<ApiSession>,
    store: Arc<dyn RecordingStore>,
    recording: OpenRecording,
    over: CancellationToken,
    unrecorded: mpsc::Receiver<RecordingError>,
    renew: watch::Sender<Acting>,
    _state: TempDir,
}

impl Bench {
    /// With an API server that does `serve` with each connection.
    async fn new<F, S>(serve: F) -> Self
    where
        F: Fn(ServerStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let state = TempDir::new().unwrap();
        let store = Arc::new(FsStore::new(state.path()));
        Self::over(state, store, api_server(serve).await).await
    }

    async fn over(state: TempDir, store: Arc<dyn RecordingStore>, upstream: Upstream) -> Self {
        let gateway =
            Gateway::open(state.path(), Arc::new(SystemClock), Secrets::default()).unwrap();
        let recording = crate::recording::testing::open(&store, metadata(true), RecordInput::Auto)
            .await
            .unwrap();
        let own = Arc::new(Credential::new(TOKEN.to_owned()));
        let (renew, acting) = watch::channel(Acting::Credential(own));
        let (tell, unrecorded) = mpsc::channel(1);
        let over = CancellationToken::new();
        let session = ApiSession::new(ApiSessionParts {
            session: recording.id(),
            identity: Name::new("operator-a").unwrap(),
            role: Name::new("viewer").unwrap(),
            cluster: Name::new("prod").unwrap(),
            upstream,
            acting,
            recording: recording.clone(),
            bodies: RecordBodies::Writes,
            over: over.clone(),
            unrecorded: tell,
        });
        Self {
            gateway,
            session,
            store,
            recording,
            over,
            unrecorded,
            renew,
            _state: state,
        }
    }

    /// A client's connection, after TLS.
    async fn connect(&self, alpn: &[&[u8]], admission: Admission) -> TlsStream<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (gateway, session) = (self.gateway.clone(), Arc::clone(&self.session));
        tokio::spawn(async move { gateway.serve(far, session, admission).await });
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.gateway.ca_pem().as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("kubernetes").unwrap();
        TlsConnector::from(Arc::new(tls))
            .connect(name, near)
            .await
            .unwrap()
    }

    async fn http1(&self) -> http1::SendRequest<Full<Bytes>> {
        let stream = self.connect(&[b"http/1.1"], Admission::Inside).await;
        let (send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        send
    }

    async fn http2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = self.connect(&[b"h2"], Admission::Inside).await;
        let io = TokioIo::new(stream);
        let (send, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        send
    }

    /// What a client is answered that says these bytes.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(&[], Admission::Inside).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // How the gateway hangs up is its own affair.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Intents and outcomes, once all have ended. That a connection is gone is noticed a moment after it went.
    async fn record(&self) -> Vec<(Intent, Option<Done>)> {
        let complete = async {
            loop {
                let record = self.so_far().await;
                if record.iter().all(|(_, done)| done.is_some()) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), complete)
            .await
            .expect("all outcomes")
    }

    async fn so_far(&self) -> Vec<(Intent, Option<Done>)> {
        self.session.settled().await;
        let stored = recordings(&self.store)
            .open(self.recording.id())
            .await
            .unwrap();
        let mut requests = Vec::new();
        let Some(index) = stored.requests().await.unwrap() else {
            return requests;
        };
        let mut index = IndexReader::open(index).await.unwrap().unwrap();
        while let Some(entry) = index.next().await.unwrap() {
            match entry.what {
                RequestStep::Intent(intent) => requests.push((*intent, None)),
                RequestStep::Outcome(done) => {
                    let at = usize::try_from(entry.request.get()).unwrap() - 1;
                    requests[at].1 = Some(*done);
                }
                RequestStep::Note(_) => {}
            }
        }
        requests
    }

    /// The one request's outcome.
    async fn outcome(&self) -> Done {
        let mut record = self.record().await;
        assert_eq!(record.len(), 1, "{record:?}");
        record.remove(0).1.expect("an outcome")
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// An API server that does `serve` with each connection, and the way there.
async fn api_server<F, S>(serve: F) -> Upstream
where
    F: Fn(ServerStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    api_server_of(serve, Upstream::new).await
}

/// As [`api_server`], by another way there.
async fn api_server_of<F, S>(
    serve: F,
    way: fn(&kube::Config) -> Result<Upstream, UpstreamError>,
) -> Upstream
where
    F: Fn(ServerStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream));
            }
        }
    });
    let mut config = kube::Config::new(format!("https://{address}/").parse().unwrap());
    config.root_cert = Some(vec![made.cert.der().to_vec()]);
    // Seen by the API server where the daemon acts for somebody, and never else.
    config.auth_info.token = Some("the-daemons-own-token".to_owned().into());
    way(&config).unwrap()
}

/// Serves HTTP/1.1 by a function.
fn http<F, A>(
    answer: F,
) -> impl Fn(ServerStream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    move |stream| {
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |request| {
            let answered = answer(request);
            async move { Ok::<_, std::convert::Infallible>(answered.await) }
        });
        Box::pin(async move {
            let http = hyper::server::conn::http1::Builder::new();
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        })
    }
}

/// Reads the head of a request, and then says these bytes, piece by piece with a pause between.
fn script(
    pieces: &'static [&'static str],
) -> impl Fn(ServerStream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send {
    move |mut stream| {
        Box::pin(async move {
            let mut head = [0; 8192];
            drop(stream.read(&mut head).await);
            for piece in pieces {
                drop(stream.write_all(piece.as_bytes()).await);
                drop(stream.flush().await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header("host", "kubernetes")
        .body(Full::default())
        .unwrap()
}

async fn text(answer: Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// `message` of a `Status`.
async fn message(answer: Response<Incoming>) -> String {
    let code = answer.status().as_u16();
    let status: serde_json::Value = serde_json::from_str(&text(answer).await).unwrap();
    assert_eq!(
        (&status["kind"], &status["code"]),
        (&"Status".into(), &code.into())
    );
    status["message"].as_str().unwrap().to_owned()
}
