use std::os::unix::fs::PermissionsExt as _;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::clock::SystemClock;

fn open(directory: &Path) -> Result<Authority, AuthorityError> {
    Authority::open(directory, Arc::new(SystemClock))
}

/// Whether a client that trusts `pem` takes `authority` for `name`.
async fn verifies(pem: &str, authority: Authority, name: &str) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(authority));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    client.is_ok() && server.is_ok()
}

#[tokio::test]
async fn what_was_written_once_stays_right_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let written = open(dir.path()).unwrap().pem().to_owned();
    for name in ["127.0.0.1", "kubernetes", "viewer.prod", "localhost"] {
        let again = open(dir.path()).unwrap();
        assert_eq!(again.pem(), written);
        assert!(verifies(&written, again, name).await, "{name}");
    }
    let other = tempfile::tempdir().unwrap();
    let other = open(other.path()).unwrap();
    assert!(!verifies(&written, other, "kubernetes").await);
}

#[tokio::test]
async fn a_certificate_that_was_lost_is_made_again_over_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let written = open(dir.path()).unwrap().pem().to_owned();
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let again = open(dir.path()).unwrap();
    assert!(verifies(&written, again, "kubernetes").await);
}

#[test]
fn its_files_are_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("gateway");
    open(&inside).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inside), 0o700);
    assert_eq!(mode(&inside.join("ca.key")), 0o600);
    fs::set_permissions(inside.join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = open(&inside).unwrap_err().to_string();
    assert!(error.contains("ca.key"), "{error}");
}

#[test]
fn a_key_or_certificate_that_is_none_is_said_and_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    let pem = fs::read_to_string(dir.path().join("ca.pem")).unwrap();
    let other = tempfile::tempdir().unwrap();
    let others = open(other.path()).unwrap().pem().to_owned();
    for (file, content, says) in [
        ("ca.pem", others.as_str(), "not the certificate of the key"),
        ("ca.pem", "nonsense", "not a certificate"),
        ("ca.key", "nonsense", "not a private key"),
    ] {
        fs::write(dir.path().join(file), content).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("move it away"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(dir.path().join(file)).unwrap(), content);
        fs::write(dir.path().join("ca.pem"), &pem).unwrap();
    }
}

#[test]
fn leaves_are_kept_but_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let first = authority.leaf(Some("viewer.prod")).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &authority.leaf(Some("viewer.prod")).unwrap()
    ));
    assert!(!Arc::ptr_eq(&first, &authority.leaf(None).unwrap()));
    for n in 0..MAX_LEAVES {
        authority.leaf(Some(&format!("r{n}.prod"))).unwrap();
    }
    assert!(authority.leaves.lock().unwrap().len() <= MAX_LEAVES);
}
