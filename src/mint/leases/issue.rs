//! Issuing and renewing: each step is written down before the next is taken.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::api_server::ApiServer;
use super::super::error::MintError;
use super::super::journal::{Intent, Issued, Means, Record};
use super::super::lease::{Acting, Lease};
use super::super::token_request::{self, NotCreated, SessionSecret};
use super::table::Phase;
use super::{Debt, Inner, MINT_LIMIT};
use crate::clock::monotonic;
use crate::config::{CredentialTtl, Name};
use crate::policy::{Grant, KubernetesSubject};
use crate::session::SessionId;

/// What a grant asks a cluster for.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) session: SessionId,
    pub(super) cluster: Name,
    pub(super) subject: KubernetesSubject,
    pub(super) identity: Name,
    pub(super) fingerprint: String,
    pub(super) certificate: Option<String>,
    pub(super) enrolment: Option<Timestamp>,
    pub(super) role: Name,
    pub(super) ttl: CredentialTtl,
}

impl Order {
    pub(super) fn new(grant: &Grant, session: SessionId) -> Result<Self, MintError> {
        // They become part of a URL's path.
        if let KubernetesSubject::ServiceAccount { namespace, name } = grant.subject()
            && (!is_object_name(namespace) || !is_object_name(name))
        {
            return Err(MintError::NotAServiceAccount {
                namespace: namespace.clone(),
                name: name.clone(),
            });
        }
        Ok(Self {
            session,
            cluster: grant.cluster().clone(),
            subject: grant.subject().clone(),
            identity: grant.identity().clone(),
            fingerprint: grant.fingerprint().to_owned(),
            certificate: grant.certificate().map(str::to_owned),
            enrolment: grant.enrolment(),
            role: grant.role().clone(),
            ttl: grant.ttl(),
        })
    }
}

impl Order {
    /// A ServiceAccount's token is bound to a Secret that nobody else's is.
    fn means(&self, instance: &Name) -> Means {
        match &self.subject {
            KubernetesSubject::ServiceAccount { namespace, name } => Means::Secret {
                namespace: namespace.clone(),
                service_account: name.clone(),
                secret: token_request::secret_name(instance, self.session),
            },
            KubernetesSubject::Own { username, groups }
            | KubernetesSubject::Impersonated { username, groups } => Means::Signature {
                username: username.clone(),
                groups: groups.clone(),
            },
        }
    }

    /// As it is written down.
    pub(super) fn intent(&self, instance: &Name, server: String, at: Timestamp) -> Intent {
        Intent {
            session: self.session,
            cluster: self.cluster.clone(),
            server,
            means: self.means(instance),
            identity: self.identity.clone(),
            fingerprint: self.fingerprint.clone(),
            certificate: self.certificate.clone(),
            enrolment: self.enrolment,
            role: self.role.clone(),
            ttl: self.ttl.as_secs(),
            at,
        }
    }
}

/// An RFC 1123 subdomain, as Kubernetes names objects.
fn is_object_name(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name
            .bytes()
            .all(|b| alphanumeric(b) || b == b'-' || b == b'.')
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().last().is_some_and(alphanumeric)
        && !name.contains("..")
}

impl Inner {
    /// Intent, Secret, token, record; whatever fails on the way, the debt is dropped and the janitor cleans up.
    pub(super) async fn mint(self: Arc<Self>, order: Order) -> Result<Lease, MintError> {
        let deadline = monotonic() + MINT_LIMIT;
        let upstream = self
            .upstream(&order.cluster)
            .ok_or_else(|| MintError::NotConfigured {
                cluster: order.cluster.to_string(),
            })?;
        let api = upstream.api(deadline).await?;
        let (debt, secret) = self.intend(&order, &api, deadline).await?;
        let session = order.session;

        let uid = match secret.create(&api, order.identity.as_str(), deadline).await {
            Ok(uid) => uid,
            Err(NotCreated::Surely(error)) => {
                self.note(&order.cluster, &error);
                debt.settle();
                self.strike(session).await;
                return Err(error);
            }
            Err(NotCreated::Perhaps(error)) => return Err(error),
        };
        self.table().change(session, |open| {
            open.created = true;
            open.uid.clone_from(&uid);
        });

        let now = self.clock.now();
        let issued = secret
            .request_token(&api, order.ttl, uid, now, deadline)
            .await?;
        let record = Issued {
            session,
            jti: issued.jti.clone(),
            audit_id: issued.audit_id.clone(),
            expires: issued.expires,
        };
        self.journal
            .record_by(Record::Issued(record.clone()), deadline)
            .await?;
        self.table().change(session, |open| {
            open.issued = Some(record);
            open.phase = Phase::InSession;
        });
        let credential = Arc::new(issued.credential);
        let (jti, expires) = (&issued.jti, issued.expires);
        self.secrets
            .token(session, &credential, jti, expires, self.clock.now());
        Ok(Lease {
            session,
            cluster: order.cluster,
            acting: Acting::Credential(credential),
            jtis: vec![issued.jti],
            expires: issued.expires,
            audit_id: issued.audit_id,
            debt: Some(debt),
        })
    }

    /// Writes down what is about to be created.
    async fn intend(
        self: &Arc<Self>,
        order: &Order,
        api: &ApiServer,
        deadline: Instant,
    ) -> Result<(Debt, SessionSecret), MintError> {
        let intent = order.intent(&self.instance, api.server().to_owned(), self.clock.now());
        let Some(secret) = SessionSecret::of(&intent) else {
            return Err(MintError::Closed {
                session: order.session,
            });
        };
        self.table().begin(intent.clone())?;
        let debt = Debt::new(self, order.session);
        if let Err(error) = self
            .journal
            .record_by(Record::Intent(intent), deadline)
            .await
        {
            // Nothing was sent yet.
            debt.settle();
            self.table().remove(order.session);
            return Err(error.into());
        }
        Ok((debt, secret))
    }

    /// A new token on the same Secret: one deletion still ends them all.
    pub(super) async fn renew(&self, lease: &mut Lease) -> Result<(), MintError> {
        let deadline = monotonic() + MINT_LIMIT;
        let session = lease.session();
        let closed = MintError::Closed { session };
        let open = self.table().get(session);
        let Some(open) = open.filter(|open| open.phase == Phase::InSession) else {
            return Err(closed);
        };
        let (Ok(ttl), Some(secret)) = (
            CredentialTtl::from_secs(open.intent.ttl),
            SessionSecret::of(&open.intent),
        ) else {
            return self.sign_again(lease, &open).await;
        };
        let api = self
            .api_for(&open.intent.cluster, &open.intent.server, deadline)
            .await?;
        let issued = secret
            .request_token(&api, ttl, open.uid.clone(), self.clock.now(), deadline)
            .await
            .inspect_err(|error| self.note(&open.intent.cluster, error))?;
        let record = Issued {
            session,
            jti: issued.jti.clone(),
            audit_id: issued.audit_id.clone(),
            expires: issued.expires,
        };
        self.journal
            .record_by(Record::Issued(record.clone()), deadline)
            .await?;
        self.table()
            .change(session, |open| open.issued = Some(record));
        let credential = lease.refresh(
            issued.credential,
            issued.jti,
            issued.expires,
            issued.audit_id,
        );
        self.secrets.token(
            session,
            &credential,
            lease.jti(),
            lease.expires(),
            self.clock.now(),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_object_name;

    #[test]
    fn only_object_names_become_part_of_a_path() {
        for name in ["viewer", "a", "team-a.viewer", "0"] {
            assert!(is_object_name(name), "{name}");
        }
        for name in [
            "",
            "..",
            ".",
            "a/b",
            "a?x=y",
            "a%2fb",
            "A",
            "-a",
            "a-",
            "a..b",
            "a b",
            &"a".repeat(254),
        ] {
            assert!(!is_object_name(name), "{name}");
        }
    }
}
