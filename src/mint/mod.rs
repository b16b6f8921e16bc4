//! From a grant to a short-lived credential, and back.

use async_trait::async_trait;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::policy::Grant;
use crate::session::SessionId;

/// A secret. It cannot be cloned, printed or serialized, and is wiped when dropped.
pub struct Credential(Zeroizing<String>);

impl Credential {
    /// Takes a bearer token in.
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// The token itself. Every caller is a place where it may leak: keep them few.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

/// A credential with its id and its end.
#[derive(Debug)]
pub struct Lease {
    pub(crate) session: SessionId,
    pub(crate) cluster: crate::config::Name,
    pub(crate) credential: Credential,
    /// Every id that this lease's tokens have had; the last one is the present token's.
    pub(crate) jtis: Vec<String>,
    pub(crate) expires: Timestamp,
    /// The `Audit-Id` that the API server answered the last issue with.
    pub(crate) audit_id: Option<String>,
}

impl Lease {
    /// The session that it belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }
    /// The secret.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }
    /// The present token's id, as the API server's audit log has it (without `JTI=`).
    pub fn jti(&self) -> &str {
        self.jtis.last().map_or("", String::as_str)
    }
    /// When the present token expires, by the API server's word.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
    /// The API server's `Audit-Id` of the last issue.
    pub fn audit_id(&self) -> Option<&str> {
        self.audit_id.as_deref()
    }
}

/// What became of a released lease. Never a false "revoked".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The API server refuses it from now on (within its cache of 10 s).
    Released,
    /// It could not be taken back; it is valid until then.
    ExpiresAt(Timestamp),
}

/// Makes and takes back credentials.
#[async_trait]
pub trait Minter: Send + Sync + std::fmt::Debug {
    /// Issues a credential for one session. Answers within 10 s, one way or the other.
    async fn mint(&self, grant: &Grant, session: SessionId) -> Result<Lease, MintError>;
    /// Puts a fresh token into an open lease. On an error the old one stays.
    async fn renew(&self, lease: &mut Lease) -> Result<(), MintError>;
    /// Takes it back.
    async fn release(&self, lease: Lease) -> Release;
}

/// Why no credential was issued. `Display` is the reason for administrators; [`MintError::for_operator`] the
/// sentence for operators.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No API server answered in time.
    #[error("cluster {cluster}: no answer within {seconds} s")]
    Timeout {
        /// Cluster name.
        cluster: String,
        /// How long was waited.
        seconds: u64,
    },
}
