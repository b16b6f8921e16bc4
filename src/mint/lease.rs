//! What a minter gives out, and what became of it.

use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::leases::Debt;
use crate::config::Name;
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

/// A credential with its id and its end. Dropped without [`super::Minter::release`], it is taken back all the same,
/// in the background: nobody needs to be asked to clean up after a panic or a cancelled task.
#[must_use = "a lease is released, not forgotten"]
#[derive(Debug)]
pub struct Lease {
    pub(super) session: SessionId,
    pub(super) cluster: Name,
    pub(super) credential: Arc<Credential>,
    pub(super) jtis: Vec<String>,
    pub(super) expires: Timestamp,
    pub(super) audit_id: Option<String>,
    pub(super) debt: Option<Debt>,
}

impl Lease {
    /// A lease by a minter of one's own. `jti` is the credential's id as the API server's audit log has it.
    pub fn new(
        session: SessionId,
        cluster: Name,
        credential: Credential,
        jti: String,
        expires: Timestamp,
    ) -> Self {
        Self {
            session,
            cluster,
            credential: Arc::new(credential),
            jtis: vec![jti],
            expires,
            audit_id: None,
            debt: None,
        }
    }

    /// The session that it belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Where it is valid.
    pub fn cluster(&self) -> &Name {
        &self.cluster
    }

    /// The secret. Shared with what uses it for the session, and wiped when the last of them is done.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// The present token's id, as the API server's audit log has it (without `JTI=`).
    pub fn jti(&self) -> &str {
        self.jtis.last().map_or("", String::as_str)
    }

    /// Every id that this lease's tokens have had, oldest first.
    pub fn jtis(&self) -> &[String] {
        &self.jtis
    }

    /// When the present token expires, by the word of whoever issued it.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The API server's `Audit-Id` of the last issue.
    pub fn audit_id(&self) -> Option<&str> {
        self.audit_id.as_deref()
    }

    /// Puts a fresh token in the old one's place.
    pub fn refresh(
        &mut self,
        credential: Credential,
        jti: String,
        expires: Timestamp,
        audit_id: Option<String>,
    ) {
        self.credential = Arc::new(credential);
        self.jtis.push(jti);
        self.expires = expires;
        self.audit_id = audit_id;
    }
}

/// What became of a released lease. Never a false "revoked".
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Release {
    /// The API server refuses it from now on (within its cache of 10 s).
    Released,
    /// It could not be taken back yet, or nothing takes it back; it is valid until then at the latest.
    ExpiresAt(Timestamp),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_does_not_print() {
        let credential = Credential::new("eyJhbGciOi.secret.part".into());
        let lease = Lease::new(
            SessionId::new(Timestamp::UNIX_EPOCH),
            Name::new("prod").unwrap(),
            credential,
            "the-jti".into(),
            Timestamp::UNIX_EPOCH,
        );
        let printed = format!("{lease:?}");
        assert!(printed.contains("the-jti"), "{printed}");
        assert!(!printed.contains("eyJ"), "{printed}");
    }

    #[test]
    fn every_jti_of_a_lease_is_kept() {
        let mut lease = Lease::new(
            SessionId::new(Timestamp::UNIX_EPOCH),
            Name::new("prod").unwrap(),
            Credential::new("one".into()),
            "first".into(),
            Timestamp::UNIX_EPOCH,
        );
        lease.refresh(
            Credential::new("two".into()),
            "second".into(),
            Timestamp::UNIX_EPOCH,
            Some("audit".into()),
        );
        assert_eq!(lease.jtis(), ["first", "second"]);
        assert_eq!(lease.jti(), "second");
        assert_eq!(lease.credential().expose(), "two");
    }
}
