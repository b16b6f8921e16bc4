//! The way to servers that are not an API server: HTTPS by rustls over hyper, to whom these CAs vouch for. And what is served by it.

mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

pub use server::{HttpsServer, ServeError, Site};

/// TCP alone: a server that is gone is not waited for.
const CONNECT: Duration = Duration::from_secs(10);

/// Why the CAs that may vouch for a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read, or is no PEM.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// What is in the file is no CA.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// There is none in the file.
    #[error("{}: there is no certificate in it", path.display())]
    Nothing {
        /// Which file.
        path: PathBuf,
    },
    /// No version of TLS can be spoken.
    #[error("TLS cannot be spoken: {0}")]
    Tls(#[source] rustls::Error),
}

/// Connects to servers that the CAs of `ca_file`, or the system's, vouch for. It would speak plain HTTP, too: whoever has it
/// judges which addresses may be plain. Blocks.
pub(crate) fn connector(
    ca_file: Option<&Path>,
) -> Result<HttpsConnector<HttpConnector>, TrustError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls(roots(ca_file)?)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

/// Whether a host of a URL is an address of loopback. Names are not: who answers for them may change.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, TrustError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        // Without any, a server on loopback can still be spoken to; every other is refused by its certificate.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let pem = |source| TrustError::File {
        path: path.to_owned(),
        source,
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(pem)? {
        let certificate = certificate.map_err(pem)?;
        roots
            .add(certificate)
            .map_err(|source| TrustError::Certificate {
                path: path.to_owned(),
                source,
            })?;
    }
    if roots.is_empty() {
        return Err(TrustError::Nothing {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}
