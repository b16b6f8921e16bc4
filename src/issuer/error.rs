//! Why there is no issuer, or no token.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::secrets::SecretError;

/// Why there is no issuer, or no token of it. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A key file cannot be read, or others can read it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What a key file holds.
    #[error("{} is no key for ES256 (ECDSA on P-256, PEM); make one with: bastion-audit issuer new-key FILE", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// Two files hold the same key.
    #[error("{} holds a key that another of the issuer's signingKeys holds, too; name it once", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// No key, no issuer.
    #[error("the issuer has no signing key; make one with: bastion-audit issuer new-key FILE")]
    NoKey,
    /// A file could not be read or made.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The certificate that the documents are served under.
    #[error("{}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The documents cannot be served.
    #[error("the issuer's documents cannot be served on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The library that signs did not.
    #[error("a token could not be signed")]
    Sign,
    /// The cluster is none of the issuer's.
    #[error("cluster {0} does not mint by oidcIssuer")]
    NotAClusterOfOurs(String),
    /// No issuer in the configuration.
    #[error("the Bastion has no spec.issuer")]
    NotConfigured,
}
