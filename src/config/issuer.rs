//! `spec.issuer` of a Bastion: the OpenID Connect issuer that it is for its clusters.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::CredentialTtl;
use crate::issuer::Jwk;

/// What is between an issuer's URL and its discovery document (OpenID Connect Discovery 1.0, 4).
pub const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Who the daemon is to its clusters, and with what it signs.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerSettings {
    /// `iss` of every token: https, without a slash at its end.
    pub url: String,
    /// Where API servers find the discovery document, if not below `url`; ends with [`WELL_KNOWN`].
    pub discovery_url: Option<String>,
    /// The CA that API servers know the discovery document's server by; default: theirs.
    pub certificate_authority: Option<PathBuf>,
    /// Private keys. The first signs; the others' public halves are published, too.
    pub signing_keys: Vec<IssuerKey>,
    /// Lifetime of each token: 2 to 10 minutes.
    pub token_ttl: CredentialTtl,
    /// Where the documents are served; `None`: they are exported to somewhere else.
    pub listener: Option<HttpsListener>,
}

/// What holds a key that signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKey {
    /// A file, absolute.
    File(PathBuf),
    /// A process behind a unix socket.
    Socket {
        /// The socket, absolute.
        socket: PathBuf,
        /// The key that it must sign with.
        public_key: Jwk,
    },
}

impl IssuerKey {
    /// The file or socket: nobody but the daemon may see it.
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::File(path) | Self::Socket { socket: path, .. } => path,
        }
    }

    /// The file that it is read from.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Socket { .. } => None,
        }
    }
}

/// A listener of its own, by TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpsListener {
    /// Where.
    pub address: SocketAddr,
    /// Its certificate with the chain, PEM.
    pub certificate: PathBuf,
    /// That certificate's private key, PEM.
    pub key: PathBuf,
}

impl IssuerSettings {
    /// Where API servers find the discovery document.
    pub fn discovery(&self) -> String {
        match &self.discovery_url {
            Some(url) => url.clone(),
            None => format!("{}{WELL_KNOWN}", self.url),
        }
    }

    /// Where the discovery document says that the public keys are: beside it.
    pub fn jwks(&self) -> String {
        let discovery = self.discovery();
        let base = discovery.strip_suffix(WELL_KNOWN).unwrap_or(&discovery);
        format!("{base}/jwks.json")
    }

    /// Whether only a restart makes the other of it.
    pub(super) fn needs_restart(&self, other: &Self) -> bool {
        (&self.url, &self.discovery_url, &self.listener)
            != (&other.url, &other.discovery_url, &other.listener)
    }
}
