//! Why there is no issuer, or no token.

use std::path::PathBuf;

use crate::config::secrets::SecretError;
use crate::https::ServeError;

/// Why there is no issuer, or no token of it. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A key file cannot be read, or others can read it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What a key file holds.
    #[error("{} is no key for ES256 (ECDSA on P-256) or RS256 (RSA of 2048 bits or more) in PEM; make one with: bastion-audit issuer new-key FILE", path.display())]
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
    /// The CA that the documents' server is to be known by.
    #[error("{}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The documents cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The process that holds the key cannot be reached, or went away in mid-answer.
    #[error("the issuer's signer at {} does not answer: {source}; is 'bastion-audit issuer signer' running there?", socket.display())]
    SignerGone {
        /// Its socket.
        socket: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// It says no.
    #[error("the issuer's signer at {} refuses: {reason}", socket.display())]
    SignerRefused {
        /// Its socket.
        socket: PathBuf,
        /// Its sentence, cut and made printable.
        reason: String,
    },
    /// What it answers is no signature by the key that it should be.
    #[error("the issuer's signer at {} answered with something that is no signature of the publicKey that is configured for it", socket.display())]
    SignerLied {
        /// Its socket.
        socket: PathBuf,
    },
    /// It does not answer in time.
    #[error("the issuer's signer at {} is slow or hangs: no signature in time", socket.display())]
    SignerSlow {
        /// Its socket.
        socket: PathBuf,
    },
    /// Too many wait for signatures already.
    #[error("no signature in time: what holds the issuer's key is slow, or asked too often")]
    Busy,
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
