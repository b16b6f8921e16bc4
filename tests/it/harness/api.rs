//! An API server in front of the real one, that answers some things otherwise.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::bastion::Bastion;
use super::cluster::{ControlPlane, write_private};
use super::tls::{Validity, certificates};

const AS_IT_IS: u64 = 0;
const REFUSED: u64 = u64::MAX;

/// What it says of tokens that are asked for; anything else passes as it is, one request for each connection.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Arc<Spoken>);

#[derive(Default)]
struct Spoken {
    of_tokens: AtomicU64,
    issued: Mutex<Vec<String>>,
    certificate: Mutex<Option<TlsAcceptor>>,
}

impl Tokens {
    /// Each is said to end after so many seconds.
    pub(crate) fn live_for(&self, seconds: u64) {
        self.0.of_tokens.store(seconds, Ordering::SeqCst);
    }

    /// None is issued any more.
    pub(crate) fn are_refused(&self) {
        self.0.of_tokens.store(REFUSED, Ordering::SeqCst);
    }

    /// Those that were issued so far, oldest first: nobody but the daemon and this has them.
    pub(crate) fn issued(&self) -> Vec<String> {
        self.0.issued.lock().unwrap().clone()
    }

    /// From the next connection on by the certificate of that directory.
    fn serve_by(&self, directory: &Path) {
        let chain = vec![CertificateDer::from_pem_file(directory.join("leaf.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(directory.join("leaf.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        *self.0.certificate.lock().unwrap() = Some(acceptor);
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.0.certificate.lock().unwrap().clone().unwrap()
    }

    fn answer(&self, real: Answer) -> Answer {
        let answer = match self.0.of_tokens.load(Ordering::SeqCst) {
            AS_IT_IS => real,
            REFUSED => return Answer::refusal(),
            seconds => real.ending_in(seconds),
        };
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        if let Some(token) = said["status"]["token"].as_str() {
            self.0.issued.lock().unwrap().push(token.to_owned());
        }
        answer
    }
}

/// A daemon that knows its cluster by such an API server only.
pub(crate) struct Behind {
    pub(crate) bastion: Bastion,
    pub(crate) tokens: Tokens,
    _server: tokio::runtime::Runtime,
    files: tempfile::TempDir,
}

impl Behind {
    /// One that runs on the standard documents.
    pub(crate) fn start() -> Self {
        let mut behind = Self::prepare(|documents| documents);
        behind.bastion.run();
        behind
    }

    /// Everything but the daemon is started.
    pub(crate) fn prepare(edit: impl FnOnce(String) -> String) -> Self {
        let files = tempfile::tempdir().unwrap();
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (kubeconfig, tokens) = server.block_on(in_front(files.path()));
        let bastion = Bastion::prepare(edit);
        std::fs::copy(kubeconfig, bastion.path().join("test.kubeconfig")).unwrap();
        Self {
            bastion,
            tokens,
            _server: server,
            files,
        }
    }

    /// What the daemon knows the cluster's certificate by.
    pub(crate) fn authority(&self) -> PathBuf {
        self.files.path().join("ca.crt")
    }

    /// Another authority, and a certificate by it: where its `ca.crt` is.
    pub(crate) fn another_authority(&self) -> PathBuf {
        let directory = self.files.path().join("next");
        std::fs::create_dir(&directory).unwrap();
        certificates(&directory, Validity::Valid);
        directory.join("ca.crt")
    }

    /// The API server has that authority's certificate from now on.
    pub(crate) fn certified_by(&self, authority: &Path) {
        self.tokens.serve_by(authority.parent().unwrap());
    }
}

/// Starts it. A kubeconfig (0600) with the daemon's own credential, and the way to change what it says.
async fn in_front(directory: &Path) -> (PathBuf, Tokens) {
    certificates(directory, Validity::Valid);
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let plane = ControlPlane::shared();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(plane.ca()).unwrap())
        .unwrap();
    let far = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let far = TlsConnector::from(Arc::new(far));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tokens = Tokens::default();
    tokens.serve_by(directory);
    let of_server = tokens.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (near, far, tokens) = (of_server.acceptor(), far.clone(), of_server.clone());
            tokio::spawn(async move {
                // A client may leave at any time.
                drop(serve(tcp, &near, &far, &tokens).await);
            });
        }
    });
    let direct = std::fs::read_to_string(plane.bastion_kubeconfig()).unwrap();
    let through = direct
        .replace(plane.server(), &format!("https://127.0.0.1:{port}"))
        .replace(
            plane.ca().to_str().unwrap(),
            directory.join("ca.crt").to_str().unwrap(),
        );
    let path = directory.join("kubeconfig");
    write_private(&path, &through);
    (path, tokens)
}

async fn serve(
    tcp: TcpStream,
    near: &TlsAcceptor,
    far: &TlsConnector,
    tokens: &Tokens,
) -> std::io::Result<()> {
    let mut near = near.accept(tcp).await?;
    let Some((head, body)) = message(&mut near).await? else {
        return Ok(());
    };
    let tcp = TcpStream::connect(("127.0.0.1", ControlPlane::shared().port())).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut far = far.connect(name, tcp).await?;
    let (line, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    if !(line.starts_with("POST") && line.contains("/token")) {
        let head = if headers.to_ascii_lowercase().contains("\r\nupgrade:") {
            head
        } else {
            format!("{head}\r\nConnection: close")
        };
        far.write_all(format!("{head}\r\n\r\n").as_bytes()).await?;
        far.write_all(&body).await?;
        // Watches and the like, as they come.
        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        return Ok(());
    }
    // So that the answer comes in one piece and ends with the connection.
    let line = line.replace("HTTP/1.1", "HTTP/1.0");
    far.write_all(format!("{line}\r\n{headers}\r\n\r\n").as_bytes())
        .await?;
    far.write_all(&body).await?;
    let mut said = Vec::new();
    // Go closes without a goodbye of TLS.
    drop(far.read_to_end(&mut said).await);
    let answer = tokens.answer(Answer::parse(&said));
    near.write_all(&answer.bytes()).await?;
    near.shutdown().await
}

/// The head of an HTTP message, without the empty line, and its body.
async fn message(
    from: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let mut body = bytes.split_off(end + 4);
    bytes.truncate(end);
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse().unwrap())
    });
    while body.len() < length.unwrap_or(0) {
        if from.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some((head, body)))
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.unwrap() + 4);
        let head = String::from_utf8(head.to_vec()).unwrap();
        Self {
            head: head.trim_end().replacen("HTTP/1.0", "HTTP/1.1", 1),
            body: body.to_vec(),
        }
    }

    fn refusal() -> Self {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "no more tokens today",
        });
        Self {
            head: "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json".into(),
            body: status.to_string().into_bytes(),
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn ending_in(mut self, seconds: u64) -> Self {
        let mut token: Value = serde_json::from_slice(&self.body).unwrap();
        let seconds = SignedDuration::from_secs(seconds.try_into().unwrap());
        let end = Timestamp::now().checked_add(seconds).unwrap();
        let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        token["status"]["expirationTimestamp"] = end.into();
        self.body = token.to_string().into_bytes();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let kept = self.head.lines().filter(|line| {
            let name = line.split(':').next().unwrap().to_ascii_lowercase();
            !["content-length", "connection", "transfer-encoding"].contains(&name.as_str())
        });
        let kept = kept.collect::<Vec<_>>().join("\r\n");
        let length = self.body.len();
        let head = format!("{kept}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}
