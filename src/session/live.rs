//! The sessions that are open now, and the way to end one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Caller, SessionId};
use crate::config::{Name, SessionKind};
use crate::identity::Identity;
use crate::messages::Peer;
use crate::policy::{Grant, KubernetesSubject, OpenSession};

/// What is told of an open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveSession {
    /// Its id.
    pub session: SessionId,
    /// Who.
    pub identity: Name,
    /// As what.
    pub role: Name,
    /// Where.
    pub cluster: Name,
    /// As whom there.
    pub subject: KubernetesSubject,
    /// How.
    pub kind: SessionKind,
    /// From where.
    pub client: Peer,
    /// Since when.
    pub opened: Timestamp,
    /// Until when at the latest.
    pub ends: Timestamp,
}

impl LiveSession {
    pub(super) fn of(session: SessionId, caller: &Caller, grant: &Grant) -> Self {
        Self {
            session,
            identity: grant.identity().clone(),
            role: grant.role().clone(),
            cluster: grant.cluster().clone(),
            subject: grant.subject().clone(),
            kind: grant.kind(),
            client: caller.peer.clone(),
            opened: session.opened(),
            ends: grant.ends(),
        }
    }
}

/// All open sessions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Live(Arc<Mutex<Sessions>>);

#[derive(Debug, Default)]
struct Sessions {
    open: BTreeMap<SessionId, Entry>,
    /// How many have ever been open.
    entered: u64,
    /// Why none may be open any more.
    closed: Option<String>,
}

#[derive(Debug)]
struct Entry {
    told: LiveSession,
    /// The how manieth it is.
    number: u64,
    identity: Identity,
    grant: Grant,
    cut: watch::Sender<Option<String>>,
    ends: watch::Sender<Timestamp>,
}

/// A session's own place among the open ones; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    live: Live,
    session: SessionId,
    cut: watch::Receiver<Option<String>>,
    ends: watch::Receiver<Timestamp>,
}

impl Live {
    pub(super) fn enter(&self, told: LiveSession, identity: Identity, grant: Grant) -> Place {
        let mut sessions = self.sessions();
        let (cut, cut_rx) = watch::channel(sessions.closed.clone());
        let (ends, ends_rx) = watch::channel(grant.ends());
        let session = told.session;
        sessions.entered += 1;
        let number = sessions.entered;
        sessions.open.insert(
            session,
            Entry {
                told,
                number,
                identity,
                grant,
                cut,
                ends,
            },
        );
        Place {
            live: self.clone(),
            session,
            cut: cut_rx,
            ends: ends_rx,
        }
    }

    /// The open sessions, oldest first.
    pub fn list(&self) -> Vec<LiveSession> {
        self.sessions()
            .open
            .values()
            .map(|entry| entry.told.clone())
            .collect()
    }

    /// One of them.
    pub(super) fn told(&self, session: SessionId) -> Option<LiveSession> {
        let sessions = self.sessions();
        sessions.open.get(&session).map(|entry| entry.told.clone())
    }

    /// What it was granted, as it is now.
    pub(super) fn grant(&self, session: SessionId) -> Option<Grant> {
        let sessions = self.sessions();
        sessions.open.get(&session).map(|entry| entry.grant.clone())
    }

    /// Lets a session end as late as this grant says; whether it is open, and nobody ends it.
    pub(super) fn extend(&self, session: SessionId, grant: Grant) -> bool {
        let mut sessions = self.sessions();
        let Some(entry) = sessions.open.get_mut(&session) else {
            return false;
        };
        if entry.cut.borrow().is_some() {
            return false;
        }
        entry.told.ends = grant.ends();
        entry.ends.send_replace(grant.ends());
        entry.grant = grant;
        true
    }

    /// What an identity has open.
    pub(super) fn of(&self, identity: &Name) -> Vec<OpenSession> {
        self.sessions().of(identity, u64::MAX)
    }

    /// What an identity had open when one of its sessions was entered.
    pub(super) fn before(&self, session: SessionId, identity: &Name) -> Vec<OpenSession> {
        let sessions = self.sessions();
        let own = sessions.open.get(&session).map(|entry| entry.number);
        sessions.of(identity, own.unwrap_or(u64::MAX))
    }

    /// How many are such.
    pub(super) fn count(&self, judge: impl Fn(&Grant) -> bool) -> usize {
        let sessions = self.sessions();
        let open = sessions.open.values();
        open.filter(|entry| judge(&entry.grant)).count()
    }

    /// Ends one; whether it was open. `reason` is told to the operator and to the record.
    pub fn cut(&self, session: SessionId, reason: &str) -> bool {
        self.cut_where(|told, _, _| (told.session == session).then(|| reason.to_owned())) > 0
    }

    /// Ends every session, and each that begins from now on: one that was being opened would be missed otherwise.
    pub fn close(&self, reason: &str) {
        self.sessions().closed = Some(reason.to_owned());
        self.cut_where(|_, _, _| Some(reason.to_owned()));
    }

    /// Ends every session for which `judge` gives a reason; how many.
    pub fn cut_where(
        &self,
        judge: impl Fn(&LiveSession, &Identity, &Grant) -> Option<String>,
    ) -> usize {
        let mut met = 0;
        for entry in self.sessions().open.values() {
            if let Some(reason) = judge(&entry.told, &entry.identity, &entry.grant) {
                met += 1;
                // The first reason stands.
                entry.cut.send_if_modified(|cut| {
                    cut.is_none() && {
                        *cut = Some(reason);
                        true
                    }
                });
            }
        }
        met
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn of(&self, identity: &Name, before: u64) -> Vec<OpenSession> {
        self.open
            .values()
            .filter(|entry| entry.number < before && entry.told.identity == *identity)
            .map(|entry| OpenSession {
                role: entry.told.role.clone(),
                cluster: entry.told.cluster.clone(),
            })
            .collect()
    }
}

impl Place {
    /// When the session ends at the latest, as that changes.
    pub(super) fn ends(&self) -> watch::Receiver<Timestamp> {
        self.ends.clone()
    }

    /// Waits until somebody ends the session, and says why.
    pub(super) async fn cut(&mut self) -> String {
        let reason = self
            .cut
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender lives in the registry as long as this place does.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.sessions().open.remove(&self.session);
    }
}
