//! What a minter gives out, and what became of it.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::leases::Debt;
use crate::config::{Name, is_kubernetes_own};
use crate::session::SessionId;

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// The key is [`crate::issuer::SESSION`], as a header can hold it: the API server undoes the `%2f`.
const SESSION: HeaderName =
    HeaderName::from_static("impersonate-extra-bastion-audit.dev%2fsession-id");

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

/// How the requests of a session are made in its name.
#[derive(Clone, Debug)]
pub enum Acting {
    /// By a credential of the session's own.
    Credential(Arc<Credential>),
    /// By the daemon's own, naming whom it acts for.
    Impersonating(Arc<Impersonated>),
}

/// As whom the daemon asks. There is no way to name one of Kubernetes' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    username: String,
    groups: Vec<String>,
    session: SessionId,
}

impl Impersonated {
    /// None if the user or a group is one of Kubernetes' own, or if there is no group: the API server would then give those
    /// that it has of its own for such a user.
    pub fn new(username: String, groups: Vec<String>, session: SessionId) -> Option<Self> {
        let fine = |name: &String| !name.is_empty() && !is_kubernetes_own(name);
        let fine = !groups.is_empty() && fine(&username) && groups.iter().all(fine);
        fine.then_some(Self {
            username,
            groups,
            session,
        })
    }

    /// The Kubernetes user.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Its groups; at least one.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// What says so to an API server ("User impersonation" in Kubernetes' reference). One group after the other.
    ///
    /// # Errors
    ///
    /// If a name holds what no header can.
    pub fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        let mut headers = vec![(USER, HeaderValue::from_str(&self.username)?)];
        for group in &self.groups {
            headers.push((GROUP, HeaderValue::from_str(group)?));
        }
        let session = HeaderValue::from_str(&self.session.to_string())?;
        headers.push((SESSION, session));
        Ok(headers)
    }
}

/// A credential with its id and its end. Dropped without [`super::Minter::release`], it is taken back all the same,
/// in the background: nobody needs to be asked to clean up after a panic or a cancelled task.
#[must_use = "a lease is released, not forgotten"]
#[derive(Debug)]
pub struct Lease {
    pub(super) session: SessionId,
    pub(super) cluster: Name,
    pub(super) acting: Acting,
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
            acting: Acting::Credential(Arc::new(credential)),
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

    /// How requests are made under it.
    pub fn acting(&self) -> &Acting {
        &self.acting
    }

    /// The secret, if there is one. Shared with what uses it for the session, and wiped when the last of them is done.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        match &self.acting {
            Acting::Credential(credential) => Some(credential),
            Acting::Impersonating(_) => None,
        }
    }

    /// The present token's id, as the API server's audit log has it (without `JTI=`). Where the daemon acts for somebody, the
    /// session's, which that log has beside the user.
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

    /// Puts a fresh token in the old one's place; answers with it.
    pub fn refresh(
        &mut self,
        credential: Credential,
        jti: String,
        expires: Timestamp,
        audit_id: Option<String>,
    ) -> Arc<Credential> {
        let credential = Arc::new(credential);
        self.acting = Acting::Credential(Arc::clone(&credential));
        self.jtis.push(jti);
        self.expires = expires;
        self.audit_id = audit_id;
        credential
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
        let _two = lease.refresh(
            Credential::new("two".into()),
            "second".into(),
            Timestamp::UNIX_EPOCH,
            Some("audit".into()),
        );
        assert_eq!(lease.jtis(), ["first", "second"]);
        assert_eq!(lease.jti(), "second");
        assert_eq!(lease.credential().unwrap().expose(), "two");
    }
}
