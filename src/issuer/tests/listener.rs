//! The listener, and readers that mean no good.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::HttpsListener;

struct Served {
    address: SocketAddr,
    directory: tempfile::TempDir,
    stop: CancellationToken,
}

impl Served {
    async fn start() -> Self {
        Self::with_patience(Duration::from_secs(10)).await
    }

    async fn with_patience(patience: Duration) -> Self {
        let directory = keys();
        let listener = HttpsListener {
            address: "127.0.0.1:0".parse().unwrap(),
            certificate: directory.path().join("tls.crt"),
            key: directory.path().join("tls.key"),
        };
        certificate(&listener);
        let issuing = Issuing::default();
        issuing
            .update(Some(&settings(directory.path(), &["one"])))
            .unwrap();
        let server = DocumentServer::bind(&listener, issuing)
            .await
            .unwrap()
            .with_patience(patience);
        let address = server.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(stop.clone()));
        Self {
            address,
            directory,
            stop,
        }
    }

    /// Everything that comes back for what is sent over TLS.
    async fn asked(&self, request: &str) -> String {
        let mut roots = rustls::RootCertStore::empty();
        let certificate = self.directory.path().join("tls.crt");
        let certificate = rustls::pki_types::CertificateDer::from_pem_file(certificate).unwrap();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut tls = connector.connect(name, tcp).await.unwrap();
        // A server that has heard enough may hang up meanwhile.
        drop(tls.write_all(request.as_bytes()).await);
        let mut said = Vec::new();
        drop(tls.read_to_end(&mut said).await);
        String::from_utf8(said).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One that vouches for itself.
fn certificate(to: &HttpsListener) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&to.certificate, made.cert.pem()).unwrap();
    let mut key = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&to.key)
        .unwrap();
    std::io::Write::write_all(&mut key, made.signing_key.serialize_pem().as_bytes()).unwrap();
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[tokio::test]
async fn two_documents_are_served_and_nothing_else() {
    let served = Served::start().await;
    for path in ["/b/.well-known/openid-configuration", "/b/jwks.json"] {
        let answer = served.asked(&get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("content-type: application/json")
                && answer.contains("cache-control: no-store"),
            "{answer}"
        );
        let head = served.asked(&get(path).replace("GET", "HEAD")).await;
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        for method in ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS"] {
            let answer = served.asked(&get(path).replace("GET", method)).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{method}: {answer}");
        }
    }
    for path in [
        "/",
        "/metrics",
        "/b/",
        "/b/jwks.json/..",
        "//b/jwks.json",
        "/one",
        "*",
    ] {
        let answer = served.asked(&get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn one_request_is_one_connection_and_heads_are_bounded() {
    let served = Served::start().await;
    let two = get("/b/jwks.json").repeat(2);
    let answer = served.asked(&two).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    for long in [
        format!(
            "GET /b/jwks.json HTTP/1.1\r\nA: {}\r\n\r\n",
            "a".repeat(20_000)
        ),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000)),
        format!(
            "GET /b/jwks.json HTTP/1.1\r\n{}\r\n",
            "A: a\r\n".repeat(100)
        ),
    ] {
        let answer = served.asked(&long).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
}

#[tokio::test]
async fn who_says_nothing_is_hung_up_on_and_others_are_served() {
    let served = Served::with_patience(Duration::from_secs(1)).await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let answer = served.asked(&get("/b/jwks.json")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut nothing = [0; 1];
    let ended = tokio::time::timeout(Duration::from_secs(60), silent.read(&mut nothing)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

/// As many as there is room for, and more.
#[tokio::test]
async fn who_comes_a_hundred_times_keeps_nobody_else_out() {
    let served = Served::start().await;
    let from = |last: u8| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::from(([127, 0, 9, last], 0)))
            .unwrap();
        socket.connect(served.address)
    };
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(from(1).await.unwrap());
    }
    let document = get("/b/jwks.json");
    let asked = tokio::time::timeout(Duration::from_secs(3), served.asked(&document));
    let answer = asked.await.expect("it had to wait");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // And who is too many is not kept waiting, nor who does not get on with the handshake.
    for mut stream in silent {
        let read = tokio::time::timeout(Duration::from_secs(9), stream.read_u8());
        assert!(read.await.expect("it is kept waiting").is_err());
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_at_the_start() {
    let served = Served::start().await;
    let at = |name: &str| served.directory.path().join(name);
    let other = HttpsListener {
        address: "127.0.0.1:0".parse().unwrap(),
        certificate: at("other.crt"),
        key: at("other.key"),
    };
    assert!(DocumentServer::check(&other).is_err());
    certificate(&other);
    assert!(DocumentServer::check(&other).is_ok());
    let mixed = HttpsListener {
        key: at("tls.key"),
        ..other
    };
    let error = DocumentServer::check(&mixed).unwrap_err();
    assert!(
        matches!(error, crate::https::ServeError::Certificate { .. }),
        "{error}"
    );
}
