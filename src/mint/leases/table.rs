//! The leases that are out, in memory.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::super::error::MintError;
use super::super::journal::{Found, Intent, Issued};
use super::super::token_request::SessionSecret;
use crate::config::Name;
use crate::session::SessionId;

/// Open leases and those that wait to be taken back. Far beyond what one daemon serves; below what a cluster that
/// refuses deletions may be allowed to pile up.
const MAX_OPEN: usize = 16_384;

/// An API server gives a request up after 60 s by default. Until then a creation that was not answered may still happen.
const CREATION_IN_DOUBT: SignedDuration = SignedDuration::from_secs(75);

#[derive(Debug, Default)]
pub(super) struct Table {
    open: BTreeMap<SessionId, Open>,
    pub(super) recovered: Recovered,
}

/// One lease.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) intent: Intent,
    pub(super) issued: Option<Issued>,
    /// The API server confirmed that it created the Secret.
    pub(super) created: bool,
    /// The Secret's, where it is known.
    pub(super) uid: Option<String>,
    pub(super) phase: Phase,
}

/// Where a lease is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Being issued.
    Minting,
    /// A session has it.
    InSession,
    /// A client has it, until then.
    HandedOut(Timestamp),
    /// Being deleted by whoever released it.
    Leaving,
    /// To be deleted in the background.
    Due,
}

/// What an earlier life of the daemon had left.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    /// Sessions whose Secrets are being deleted: what was running when the daemon stopped.
    pub leftovers: Vec<SessionId>,
    /// Credentials in clients' hands that are still live.
    pub handed_out: Vec<SessionId>,
    /// Lines of the journal that could not be read, kept in `leases.damaged.jsonl`: a Secret that they name may be
    /// left behind (its name begins with `session-<instance>-`; its token ends by itself within the hour).
    pub damaged: usize,
}

/// A lease of a cluster that is not configured any more. It cannot be taken back; its token ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Orphan {
    /// The session that it belonged to.
    pub session: SessionId,
    /// The cluster's name in the configuration of that time.
    pub cluster: Name,
    /// The API server's URL.
    pub server: String,
    /// Where the Secret is.
    pub namespace: String,
    /// The Secret to delete by hand if the cluster is not to be configured again.
    pub secret: String,
}

impl Table {
    pub(super) fn restore(found: Found, now: Timestamp) -> Self {
        let mut table = Self::default();
        table.recovered.damaged = found.damaged;
        for (session, entry) in found.book.open {
            let phase = match entry.handed_out {
                Some(until) if until > now && !entry.revoked => {
                    table.recovered.handed_out.push(session);
                    Phase::HandedOut(until)
                }
                _ => {
                    table.recovered.leftovers.push(session);
                    Phase::Due
                }
            };
            table.open.insert(
                session,
                Open {
                    created: entry.issued.is_some(),
                    intent: entry.intent,
                    issued: entry.issued,
                    uid: None,
                    phase,
                },
            );
        }
        table
    }

    pub(super) fn begin(&mut self, intent: Intent) -> Result<(), MintError> {
        let session = intent.session;
        if self.open.len() >= MAX_OPEN {
            return Err(MintError::Full {
                open: self.open.len(),
            });
        }
        if self.open.contains_key(&session) {
            return Err(MintError::Twice { session });
        }
        self.open.insert(
            session,
            Open {
                intent,
                issued: None,
                created: false,
                uid: None,
                phase: Phase::Minting,
            },
        );
        Ok(())
    }

    pub(super) fn get(&self, session: SessionId) -> Option<Open> {
        self.open.get(&session).cloned()
    }

    pub(super) fn change(&mut self, session: SessionId, change: impl FnOnce(&mut Open)) {
        if let Some(open) = self.open.get_mut(&session) {
            change(open);
        }
    }

    pub(super) fn set_phase(&mut self, session: SessionId, phase: Phase) {
        self.change(session, |open| open.phase = phase);
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        self.open.remove(&session);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Open)> {
        self.open.iter().map(|(session, open)| (*session, open))
    }

    /// How many wait to be taken back.
    pub(super) fn due_count(&self) -> usize {
        self.open
            .values()
            .filter(|open| matches!(open.phase, Phase::Due | Phase::Leaving))
            .count()
    }

    /// Where something is due.
    pub(super) fn due_places(&self) -> BTreeSet<Place> {
        self.open
            .values()
            .filter(|open| open.phase == Phase::Due)
            .map(Open::place)
            .collect()
    }

    /// What is due there.
    pub(super) fn due_at(&self, place: &Place) -> Vec<SessionId> {
        self.iter()
            .filter(|(_, open)| open.phase == Phase::Due && open.place() == *place)
            .map(|(session, _)| session)
            .collect()
    }

    /// Makes due what clients had until now. Answers when the next one ends.
    pub(super) fn expire(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        for open in self.open.values_mut() {
            if let Phase::HandedOut(until) = open.phase {
                if until <= now {
                    open.phase = Phase::Due;
                } else {
                    next = Some(next.map_or(until, |next| next.min(until)));
                }
            }
        }
        next
    }

    /// Whether a lease is out on that API server.
    pub(super) fn needs(&self, cluster: &Name, server: &str) -> bool {
        self.open
            .values()
            .any(|open| open.intent.cluster == *cluster && open.intent.server == server)
    }

    pub(super) fn orphans(&self, configured: impl Fn(&Name) -> bool) -> Vec<Orphan> {
        self.iter()
            .filter(|(_, open)| !configured(&open.intent.cluster))
            .map(|(session, open)| Orphan {
                session,
                cluster: open.intent.cluster.clone(),
                server: open.intent.server.clone(),
                namespace: open.intent.namespace.clone(),
                secret: open.intent.secret.clone(),
            })
            .collect()
    }
}

/// An API server under a cluster's name.
pub(super) type Place = (Name, String);

impl Open {
    pub(super) fn place(&self) -> Place {
        (self.intent.cluster.clone(), self.intent.server.clone())
    }

    pub(super) fn secret(&self) -> SessionSecret {
        SessionSecret {
            session: self.intent.session,
            namespace: self.intent.namespace.clone(),
            name: self.intent.secret.clone(),
        }
    }

    /// When the last token that may be out ends.
    pub(super) fn expires(&self) -> Timestamp {
        let asked = self
            .intent
            .at
            .saturating_add(SignedDuration::from_secs(i64::from(self.intent.ttl)))
            .unwrap_or(self.intent.at);
        self.issued.as_ref().map_or(asked, |issued| issued.expires)
    }

    /// Whether "there is no such Secret" means that it is gone.
    pub(super) fn absence_is_proof(&self, same_server: bool, now: Timestamp) -> bool {
        let since = |moment: Timestamp, wait: SignedDuration| {
            moment
                .saturating_add(wait)
                .is_ok_and(|settled| now >= settled)
        };
        if !same_server {
            // Another API server has the cluster's name now; what it does not have proves nothing about the first.
            since(self.expires(), SignedDuration::ZERO)
        } else {
            self.created || since(self.intent.at, CREATION_IN_DOUBT)
        }
    }
}
