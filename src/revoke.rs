//! Takes things back: by an administrator's word, or because the configuration changed.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::audit::Event;
use crate::config::{Config, Name};
use crate::mint::{self, LeaseState, Release};
use crate::monitor::Monitor;
use crate::policy;
use crate::session::SessionId;

/// Credentials that are taken back at once.
const AT_ONCE: usize = 64;

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// One session and the credential that it handed out.
    Session(SessionId),
    /// All of one identity's.
    Identity(Name),
}

/// What was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Credentials that were out, and what became of each.
    pub credentials: Vec<TakenBack>,
    /// Open sessions that were ended.
    pub sessions: usize,
}

/// A credential that was to be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenBack {
    /// By which session it was handed out.
    pub session: SessionId,
    /// Until when it stays valid. `None`: refused from now on, within the API server's cache of 10 s.
    pub valid_until: Option<Timestamp>,
    /// It stays so because nothing ends before its time what the daemon signed itself; otherwise the API server could not be
    /// told, and will be.
    pub irrevocable: bool,
}

/// Ends the sessions that are meant and takes back the credentials that they handed out.
pub async fn revoke(monitor: &Monitor, filter: &Filter, reason: &str) -> Revoked {
    let sessions = monitor.live.cut_where(|told, _, _| {
        let meant = match filter {
            Filter::Session(session) => told.session == *session,
            Filter::Identity(identity) => told.identity == *identity,
        };
        meant.then(|| reason.to_owned())
    });
    let filter = match filter {
        Filter::Session(session) => mint::Filter::Session(*session),
        Filter::Identity(identity) => mint::Filter::Identity(identity.clone()),
    };
    Revoked {
        credentials: take_back(monitor, &filter).await,
        sessions,
    }
}

/// Takes back the handed-out credentials of identities that may no longer hold them; what became of each.
pub(crate) async fn no_longer_allowed(monitor: &Arc<Monitor>, config: &Config) -> Vec<TakenBack> {
    let now = monitor.clock.now();
    let handed_out = |lease: &mint::LiveLease| lease.state == LeaseState::HandedOut;
    // At once: a cluster that does not answer must not hold up the others.
    let (mut all, mut taken_back) = (JoinSet::new(), Vec::new());
    for lease in monitor.leases.live().into_iter().filter(handed_out) {
        let held = policy::Held {
            identity: &lease.identity,
            fingerprint: &lease.fingerprint,
            certificate: lease.certificate.as_deref(),
            enrolment: lease.enrolment,
            role: &lease.role,
            cluster: &lease.cluster,
            subject: &lease.subject,
        };
        if !policy::may_hold(config, held, now) {
            let monitor = Arc::clone(monitor);
            all.spawn(
                async move { take_back(&monitor, &mint::Filter::Session(lease.session)).await },
            );
            if all.len() >= AT_ONCE {
                taken_back.extend(
                    all.join_next()
                        .await
                        .and_then(Result::ok)
                        .unwrap_or_default(),
                );
            }
        }
    }
    while let Some(one) = all.join_next().await {
        taken_back.extend(one.unwrap_or_default());
    }
    taken_back
}

async fn take_back(monitor: &Monitor, filter: &mint::Filter) -> Vec<TakenBack> {
    let mut credentials = Vec::new();
    for revoked in monitor.leases.revoke(filter).await {
        let valid_until = match revoked.release {
            Release::Released => None,
            Release::ExpiresAt(until) => Some(until),
        };
        let (session, jti) = (revoked.session, revoked.jti.as_str());
        monitor
            .audit
            .tell(Event::LeaseReleased {
                session,
                jti,
                valid_until,
            })
            .await;
        credentials.push(TakenBack {
            session,
            valid_until,
            irrevocable: revoked.irrevocable,
        });
    }
    credentials
}
