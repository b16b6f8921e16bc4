//! What goes wrong with a bucket.

use std::path::PathBuf;

use crate::config::secrets::SecretError;

/// Longest sentence of a server that is repeated, in characters.
const SHOWN: usize = 200;

/// Why a bucket did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The server does not answer, or answers that it cannot now. It is worth trying again.
    #[error("{doing}: the object store cannot be used: {reason}")]
    Unavailable {
        /// What was being done.
        doing: String,
        /// What was heard, if anything.
        reason: String,
    },
    /// The server does not let us. Somebody has to change something.
    #[error("{doing}: the object store does not permit it: {reason}")]
    Forbidden {
        /// What was being done.
        doing: String,
        /// What it said.
        reason: String,
    },
    /// The server refuses what was asked for.
    #[error("{doing}: the object store refuses: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// What it said.
        reason: String,
    },
    /// There is no such object, or no such upload any more.
    #[error("{doing}: the object store knows no such bucket, object or upload")]
    Missing {
        /// What was being done.
        doing: String,
    },
    /// What the server has under this key is not what we have. It is never overwritten.
    #[error(
        "{key}: the object store holds something else under this key ({theirs}) than is to be put there ({ours})"
    )]
    Conflict {
        /// The key.
        key: String,
        /// What is to be put there.
        ours: String,
        /// What is there.
        theirs: String,
    },
    /// What the server took is not what it was sent.
    #[error("{key}: what the object store holds after the upload is not what was sent: {reason}")]
    Damaged {
        /// The key.
        key: String,
        /// What differs.
        reason: String,
    },
    /// The CAs that may vouch for the server cannot be used.
    #[error("the CAs for the object store: {0}")]
    Trust(String),
    /// The credentials file cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The credentials file says something else.
    #[error(
        "{}: {what} is missing; write the lines aws_access_key_id = ... and aws_secret_access_key = ...",
        path.display()
    )]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// Which line.
        what: &'static str,
    },
    /// The settings make no bucket.
    #[error("the object store's settings: {0}")]
    Settings(String),
}

impl BucketError {
    /// Sorts an error of the protocol.
    pub(super) fn of(doing: impl Into<String>, error: &object_store::Error) -> Self {
        use object_store::Error as Their;
        let doing = doing.into();
        let reason = said(error);
        match error {
            Their::NotFound { .. } => Self::Missing { doing },
            Their::PermissionDenied { .. } | Their::Unauthenticated { .. } => {
                Self::Forbidden { doing, reason }
            }
            Their::AlreadyExists { .. }
            | Their::Precondition { .. }
            | Their::NotSupported { .. }
            | Their::NotImplemented { .. } => Self::Refused { doing, reason },
            _ if is_refusal(&reason) => Self::Refused { doing, reason },
            _ => Self::Unavailable { doing, reason },
        }
    }

    /// Whether the server as a whole is to blame: then nothing else need be tried for a while.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Forbidden { .. }
                | Self::Secret(_)
                | Self::Credentials { .. }
        )
    }
}

/// Of the statuses that blame the request, all but those that ask for patience.
fn is_refusal(reason: &str) -> bool {
    reason.starts_with('4') && !reason.starts_with("408") && !reason.starts_with("429")
}

/// The HTTP status and S3's own code, or the innermost cause. Never the whole answer: of a signature that was refused,
/// servers repeat what was signed.
fn said(error: &object_store::Error) -> String {
    let text = error.to_string();
    let between = |start: &str, end: &str| {
        let rest = text.split_once(start)?.1;
        Some(rest.split_once(end)?.0.to_owned())
    };
    let status = between("status code: ", ":");
    let code = between("<Code>", "</Code>");
    match (status, code) {
        (Some(status), Some(code)) => printable(&format!("{status}, {code}")),
        (Some(status), None) => printable(&status),
        (None, Some(code)) => printable(&code),
        (None, None) => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            printable(&cause.to_string())
        }
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(SHOWN)
        .collect()
}
