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

/// What time has ended.
#[derive(Debug, Default)]
pub(super) struct Expired {
    /// Nothing of these is to be undone.
    pub(super) ended: Vec<SessionId>,
    /// When the next one that a client has ends.
    pub(super) next: Option<Timestamp>,
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
    /// As [`Phase::HandedOut`], and it was to be taken back, which nothing can.
    Expiring(Timestamp),
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
            let signed = entry.intent.is_signed();
            let phase = match entry.handed_out {
                Some(until) if until > now && !entry.revoked => {
                    table.recovered.handed_out.push(session);
                    Phase::HandedOut(until)
                }
                // Nothing is to be undone; it ends by itself, also one of which no more than the intent was written.
                until if signed => {
                    let until = until.unwrap_or(entry.intent.longest());
                    if until > now {
                        table.recovered.handed_out.push(session);
                    }
                    Phase::Expiring(until)
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
            .filter(|open| !open.intent.is_signed())
            .filter(|open| matches!(open.phase, Phase::Due | Phase::Leaving))
            .count()
    }

    /// Where something is due.
    pub(super) fn due_places(&self) -> BTreeSet<Place> {
        self.open
            .values()
            .filter(|open| open.phase == Phase::Due && !open.intent.is_signed())
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

    /// Makes due what clients had until now, where there is something to be undone.
    pub(super) fn expire(&mut self, now: Timestamp) -> Expired {
        let mut expired = Expired::default();
        for (session, open) in &mut self.open {
            let (Phase::HandedOut(until) | Phase::Expiring(until)) = open.phase else {
                continue;
            };
            if until > now {
                expired.next = Some(expired.next.map_or(until, |next| next.min(until)));
            } else if open.intent.is_signed() {
                expired.ended.push(*session);
            } else {
                open.phase = Phase::Due;
            }
        }
        expired
    }

    /// Nobody needs it any more. Answers whether something of it is to be undone; if not, it is gone.
    pub(super) fn abandon(&mut self, session: SessionId) -> bool {
        let signed = |open: &Open| open.intent.is_signed();
        if self.open.get(&session).is_some_and(signed) {
            self.open.remove(&session);
            return false;
        }
        self.set_phase(session, Phase::Due);
        true
    }

    /// Whether a lease is out on that API server.
    pub(super) fn needs(&self, cluster: &Name, server: &str) -> bool {
        self.open
            .values()
            .filter(|open| !open.intent.is_signed())
            .any(|open| open.intent.cluster == *cluster && open.intent.server == server)
    }

    pub(super) fn orphans(&self, configured: impl Fn(&Name) -> bool) -> Vec<Orphan> {
        self.iter()
            .filter(|(_, open)| !configured(&open.intent.cluster))
            .filter_map(|(session, open)| {
                let secret = open.secret()?;
                Some(Orphan {
                    session,
                    cluster: open.intent.cluster.clone(),
                    server: open.intent.server.clone(),
                    namespace: secret.namespace,
                    secret: secret.name,
                })
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

    pub(super) fn secret(&self) -> Option<SessionSecret> {
        SessionSecret::of(&self.intent)
    }

    /// When the last token that may be out ends.
    pub(super) fn expires(&self) -> Timestamp {
        let issued = self.issued.as_ref().map(|issued| issued.expires);
        issued.unwrap_or_else(|| self.intent.longest())
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
