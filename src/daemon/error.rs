//! Why there is no daemon.

use std::path::PathBuf;

use crate::audit::AuditError;
use crate::config;
use crate::config::secrets::SecretError;
use crate::custody::CustodyError;
use crate::gateway::GatewayError;
use crate::https::ServeError;
use crate::issuer::IssuerError;
use crate::locks::LockFileError;
use crate::log::LogError;
use crate::mint::JournalError;
use crate::network::NetworkError;
use crate::oidc::SignOnFileError;
use crate::server::{HostKeyError, ServerError};
use crate::signing::SigningError;
use crate::store::StoreError;
use crate::totp::TotpFileError;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A host key cannot be read, or others can read it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The state directory cannot be used, or others can read it.
    #[error(transparent)]
    StateDir(#[from] config::StateDirError),
    /// Another daemon holds it.
    #[error("another daemon runs on {0}; stop it, or give this one a stateDir of its own")]
    Locked(PathBuf),
    /// Its lock or socket could not be made.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The path is too long for a socket in it.
    #[error("stateDir {path} is {length} bytes long; sockets in it allow {most}")]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// What a socket's path leaves.
        most: usize,
    },
    /// No key to sign with, no evidence.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// No log of what is recorded, or one that is not what it was.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No audit log, no daemon.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No store, no daemon.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No way to the object store, or to what is known of it; no daemon.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// No knowledge of what is locked, no daemon.
    #[error(transparent)]
    Locks(#[from] LockFileError),
    /// No knowledge of who is enrolled for one-time codes, no daemon.
    #[error(transparent)]
    Totp(#[from] TotpFileError),
    /// No knowledge of who has signed on, no daemon.
    #[error(transparent)]
    SignOns(#[from] SignOnFileError),
    /// The pages to sign in by cannot be served.
    #[error(transparent)]
    Login(#[from] ServeError),
    /// No journal of leases, no daemon.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No issuer, no credential on the clusters that trust it.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// No gateway, no way to a cluster.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// Clients could not tell this host from another.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The SSH side could not be opened.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No process to speak SSH.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Nobody can come any more.
#[derive(Debug, thiserror::Error)]
#[error("SSH is not served any more, which is a defect of this program: {0}")]
pub struct Unserved(#[source] pub(super) tokio::task::JoinError);
