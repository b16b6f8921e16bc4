//! Credentials in clients' hands: live until they expire or are revoked, whatever becomes of session and daemon.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::super::error::MintError;
use super::super::journal::{Intent, Means, Record};
use super::super::lease::{Credential, Lease, Release};
use super::table::{Open, Phase};
use super::{Debt, Inner, Leases, RELEASE_LIMIT};
use crate::clock::monotonic;
use crate::config::Name;
use crate::policy::KubernetesSubject;
use crate::session::SessionId;

/// Deletions at once.
const AT_ONCE: usize = 16;

/// A credential on its way to a client.
#[must_use = "it is live until it expires or is revoked"]
#[derive(Debug)]
pub struct HandedOut {
    /// The session that asked for it; what revokes it.
    pub session: SessionId,
    /// The token's id.
    pub jti: String,
    /// When it ends by itself.
    pub until: Timestamp,
    /// The token, for the client and nobody else.
    pub credential: Arc<Credential>,
}

/// Which handed-out credentials are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The one that this session asked for.
    Session(SessionId),
    /// All of this identity.
    Identity(Name),
}

/// What became of a handed-out credential that was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// The session that had asked for it.
    pub session: SessionId,
    /// Whose.
    pub identity: Name,
    /// Where.
    pub cluster: Name,
    /// The token's id.
    pub jti: String,
    /// Whether it is gone. If not, it is tried again in the background, across restarts, where there is something to try.
    pub release: Release,
    /// We signed it ourselves: nothing ends it before its time.
    pub irrevocable: bool,
}

/// A lease that is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveLease {
    /// The session that it belongs to.
    pub session: SessionId,
    /// Whose.
    pub identity: Name,
    /// The key that proved it, `SHA256:...`.
    pub fingerprint: String,
    /// The certificate of that key, OpenSSH format, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The enrolment of the one-time code that was accepted besides, by when it began, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Timestamp>,
    /// Under which role.
    pub role: Name,
    /// Where.
    pub cluster: Name,
    /// As whom.
    pub subject: KubernetesSubject,
    /// The last token's id; none while it is being issued.
    pub jti: Option<String>,
    /// The API server's `Audit-Id` of its issue, if it told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<String>,
    /// When the last token ends by itself.
    pub expires: Timestamp,
    /// Where it is on its way.
    pub state: LeaseState,
}

/// Where a lease is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeaseState {
    /// Being issued.
    Minting,
    /// A session has it.
    InSession,
    /// A client has it.
    HandedOut,
    /// A client has it, and it was to be taken back, but nothing ends before its time what we signed ourselves.
    Expiring,
    /// Being taken back; until that is confirmed the token may be accepted.
    Releasing,
}

impl LeaseState {
    /// Whether a client has it, and it may be good for something.
    pub fn is_with_a_client(self) -> bool {
        matches!(self, Self::HandedOut | Self::Expiring)
    }
}

impl Leases {
    /// Gives a lease's credential to the client. That it is out is on disk before this returns; from then on it lives
    /// until its expiry or [`Leases::revoke`], and the session's end does not matter to it.
    pub async fn hand_out(&self, mut lease: Lease) -> Result<HandedOut, MintError> {
        let (session, until) = (lease.session(), lease.expires());
        let credential = lease.credential().cloned();
        let credential = credential.ok_or(MintError::Closed { session })?;
        let debt = lease.debt.take().ok_or(MintError::Closed { session })?;
        let records = match self.inner.is_signed(session) {
            true => self.inner.account_of(session),
            false => Some(vec![Record::HandedOut { session, until }]),
        };
        let records = records.ok_or(MintError::Closed { session })?;
        let deadline = monotonic() + RELEASE_LIMIT;
        // On an error the debt is dropped here, and the Secret goes.
        let journal = &self.inner.journal;
        journal.record_all_by(records, deadline).await?;
        self.inner
            .table()
            .set_phase(session, Phase::HandedOut(until));
        debt.settle();
        self.inner.bell.notify_one();
        Ok(HandedOut {
            session,
            jti: lease.jti().to_owned(),
            until,
            credential,
        })
    }

    /// Takes handed-out credentials back before their time, within seconds. Sessions' own leases are not meant: those
    /// end with their session.
    pub async fn revoke(&self, filter: &Filter) -> Vec<Revoked> {
        let meant: Vec<(SessionId, Open)> = self
            .inner
            .table()
            .iter()
            .filter(|(_, open)| matches!(open.phase, Phase::HandedOut(_) | Phase::Expiring(_)))
            .filter(|(session, open)| match filter {
                Filter::Session(id) => session == id,
                Filter::Identity(name) => open.intent.identity == *name,
            })
            .map(|(session, open)| (session, open.clone()))
            .collect();
        let mut revoked = Vec::with_capacity(meant.len());
        for some in meant.chunks(AT_ONCE) {
            let mut at_once = JoinSet::new();
            for (session, open) in some.iter().cloned() {
                at_once.spawn(self.inner.clone().revoke(session, open));
            }
            revoked.extend(at_once.join_all().await);
        }
        revoked.sort_by_key(|revoked| revoked.session);
        revoked
    }

    /// Everything that is out, oldest first.
    pub fn live(&self) -> Vec<LiveLease> {
        self.inner
            .table()
            .iter()
            .map(|(session, open)| LiveLease {
                session,
                identity: open.intent.identity.clone(),
                fingerprint: open.intent.fingerprint.clone(),
                certificate: open.intent.certificate.clone(),
                enrolment: open.intent.enrolment,
                role: open.intent.role.clone(),
                cluster: open.intent.cluster.clone(),
                subject: subject(&open.intent),
                jti: open.issued.as_ref().map(|issued| issued.jti.clone()),
                audit_id: open
                    .issued
                    .as_ref()
                    .and_then(|issued| issued.audit_id.clone()),
                expires: open.expires(),
                state: match open.phase {
                    Phase::Minting => LeaseState::Minting,
                    Phase::InSession => LeaseState::InSession,
                    Phase::HandedOut(_) => LeaseState::HandedOut,
                    Phase::Expiring(_) => LeaseState::Expiring,
                    Phase::Leaving | Phase::Due => LeaseState::Releasing,
                },
            })
            .collect()
    }
}

impl Inner {
    async fn revoke(self: Arc<Self>, session: SessionId, open: Open) -> Revoked {
        let signed = open.intent.is_signed();
        // Whoever asked may go away halfway; the revocation does not.
        let debt = (!signed).then(|| Debt::new(&self, session));
        let record = Record::Revoked { session };
        let deadline = monotonic() + RELEASE_LIMIT;
        // A restart must not bring it back to life; but that it cannot be written is no reason to leave it alive now.
        if let Err(error) = self.journal.record_by(record, deadline).await {
            tracing::warn!(%session, %error, "a revocation could not be recorded in the journal");
        }
        let release = match debt {
            None => {
                let until = open.expires();
                self.table().set_phase(session, Phase::Expiring(until));
                Release::ExpiresAt(until)
            }
            Some(debt) if self.release(session).await => {
                debt.settle();
                Release::Released
            }
            Some(_) => Release::ExpiresAt(open.expires()),
        };
        Revoked {
            session,
            identity: open.intent.identity,
            cluster: open.intent.cluster,
            jti: open.issued.map(|issued| issued.jti).unwrap_or_default(),
            release,
            irrevocable: signed,
        }
    }
}

fn subject(intent: &Intent) -> KubernetesSubject {
    match &intent.means {
        Means::Secret {
            namespace,
            service_account,
            ..
        } => KubernetesSubject::ServiceAccount {
            namespace: namespace.clone(),
            name: service_account.clone(),
        },
        Means::Signature { username, groups } => KubernetesSubject::Own {
            username: username.clone(),
            groups: groups.clone(),
        },
    }
}
