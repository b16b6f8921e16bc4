//! API servers that misbehave, with certificates that are trusted, or once were.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::cluster::write_private;

/// What it does with a connection after the handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behaviour {
    /// Reads and never answers.
    Hang,
    /// Answers these bytes to each request, and closes.
    Say(&'static str),
}

/// Until when its certificate was valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Still.
    Valid,
    /// The year 2020.
    Expired,
}

/// A kubeconfig (0600) for a new server on loopback, which runs as long as the runtime does.
pub(crate) async fn kubeconfig(
    directory: &Path,
    validity: Validity,
    behaviour: Behaviour,
) -> PathBuf {
    certificates(directory, validity);
    let chain = vec![CertificateDer::from_pem_file(directory.join("leaf.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(directory.join("leaf.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    return;
                };
                let mut request = [0; 16 << 10];
                while let Ok(1..) = stream.read(&mut request).await {
                    if let Behaviour::Say(answer) = behaviour {
                        drop(stream.write_all(answer.as_bytes()).await);
                        drop(stream.shutdown().await);
                        return;
                    }
                }
            });
        }
    });
    let path = directory.join("kubeconfig");
    write_private(&path, &plain_kubeconfig(port, &directory.join("ca.crt")));
    path
}

/// For whatever listens on that port.
pub(crate) fn plain_kubeconfig(port: u16, ca: &Path) -> String {
    format!(
        r#"apiVersion: v1
kind: Config
current-context: it
clusters: [{{name: it, cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: "{}"}}}}]
users: [{{name: it, user: {{token: some-token}}}}]
contexts: [{{name: it, context: {{cluster: it, user: it}}}}]
"#,
        ca.display()
    )
}

/// An authority (ca.crt) and a server's certificate by it (leaf.crt, leaf.key).
pub(crate) fn certificates(directory: &Path, validity: Validity) {
    let end = match validity {
        Validity::Valid => "20491231235959Z",
        Validity::Expired => "20200131235959Z",
    };
    std::fs::write(
        directory.join("openssl.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\nserial=serial\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n[leaf]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n",
    )
    .unwrap();
    std::fs::write(directory.join("index"), "").unwrap();
    std::fs::write(directory.join("serial"), "01\n").unwrap();
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let authority = [
        "req",
        "-x509",
        "-subj",
        "/CN=it-ca",
        "-days",
        "2",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ];
    let request = [
        "req", "-subj", "/CN=it", "-keyout", "leaf.key", "-out", "leaf.csr",
    ];
    openssl(directory, &[&authority[..], &key].concat());
    openssl(directory, &[&request[..], &key].concat());
    openssl(
        directory,
        &[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "openssl.cnf",
            "-extensions",
            "leaf",
            "-cert",
            "ca.crt",
            "-keyfile",
            "ca.key",
            "-startdate",
            "20200101000000Z",
            "-enddate",
            end,
            "-in",
            "leaf.csr",
            "-out",
            "leaf.crt",
        ],
    );
}

fn openssl(directory: &Path, args: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(directory)
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "openssl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
