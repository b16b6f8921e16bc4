//! Why a checkpoint is not kept. No sentence here holds a token, or more of a webhook's URL than its server.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

use crate::config::secrets::SecretError;
use crate::https::TrustError;

/// See there.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A file or a socket cannot be used.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The operating system's word.
        #[source]
        source: std::io::Error,
    },
    /// The token cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What is in the token's file is none.
    #[error("{} holds no token: it must be one line of visible ASCII", path.display())]
    NoToken {
        /// Which file.
        path: PathBuf,
    },
    /// The CAs cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A request cannot be made of it. The configuration does not let such a one through.
    #[error("the webhook's URL cannot be asked")]
    Url(#[source] http::Error),
    /// It would go in clear over a network. The configuration does not let such a one through.
    #[error("{server} would be asked without TLS, which only loopback is")]
    Plain {
        /// Which server.
        server: String,
    },
    /// There was no answer.
    #[error("{server}: {reason}")]
    Unreachable {
        /// Which server.
        server: String,
        /// Why, with all causes.
        reason: String,
    },
    /// There was none in time.
    #[error("{server} has not answered within {} s", after.as_secs())]
    Late {
        /// Which server.
        server: String,
        /// How long it had.
        after: Duration,
    },
    /// It took nothing.
    #[error("{server} answered {status}{}", if status.is_redirection() { ", and is not followed elsewhere" } else { "" })]
    Refused {
        /// Which server.
        server: String,
        /// Its answer.
        status: StatusCode,
    },
    /// The log was closed before it was kept.
    #[error("the daemon stops")]
    Stopping,
    /// The thread that wrote is gone.
    #[error("the thread that wrote it ended")]
    Thread,
}

impl WitnessError {
    pub(super) fn io(
        path: &std::path::Path,
        doing: &'static str,
    ) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            doing,
            source,
        }
    }
}
