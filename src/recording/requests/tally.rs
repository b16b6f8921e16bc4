//! What the requests of a recording add up to: while it is written, and when it is found after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Intent, Mark, Note, Outcome, RequestNumber};
use crate::recording::CastSummary;
use crate::session::SessionId;

/// Children that a manifest names; what is more is counted. Each is in the index.
const NAMED: usize = 10_000;

/// What a manifest says of the request index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestsSummary {
    /// `requests.jsonl` as it is stored.
    #[serde(flatten)]
    pub file: CastSummary,
    /// How many, of which kinds.
    #[serde(flatten)]
    pub counts: Counts,
    /// The recordings of streams into pods, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildRecord>,
    /// How many more of those there are than are named here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_children: u64,
}

/// How many requests, of which kinds. One may count in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// That changed something, or were to.
    pub writes: u64,
    /// That read Secrets.
    pub secret_reads: u64,
    /// Execs and attaches.
    pub execs: u64,
    /// Port-forwards.
    pub port_forwards: u64,
    /// That may have given a credential to the client.
    pub credentials_issued: u64,
    /// Refused, by the gateway or by the API server (401, 403).
    pub refused: u64,
    /// Without an outcome: they went on, or were just about to begin, when the recording ended.
    pub unanswered: u64,
}

/// A recording that belongs to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildRecord {
    /// Its id.
    pub session: SessionId,
    /// The request.
    pub request: RequestNumber,
}

/// Adds requests up. Holds as much as there are requests under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    last: u64,
    counts: Counts,
    children: Vec<ChildRecord>,
    more_children: u64,
    under_way: BTreeMap<RequestNumber, UnderWay>,
}

#[derive(Clone, Debug)]
struct UnderWay {
    began: Duration,
    counted: BTreeSet<Mark>,
}

impl Tally {
    /// The number of the next request.
    pub(crate) fn next(&self) -> RequestNumber {
        RequestNumber::new(self.last.saturating_add(1))
    }

    /// Takes the next request in. `false` if it is not the next one.
    #[must_use]
    pub(crate) fn intent(&mut self, request: RequestNumber, at: Duration, intent: &Intent) -> bool {
        if request != self.next() {
            return false;
        }
        self.last = request.get();
        self.counts.total = self.counts.total.saturating_add(1);
        let mut under_way = UnderWay {
            began: at,
            counted: BTreeSet::new(),
        };
        self.count(&mut under_way, &intent.marks);
        self.under_way.insert(request, under_way);
        true
    }

    /// Takes in what happens during a request. `false` if it is not under way.
    #[must_use]
    pub(crate) fn note(&mut self, request: RequestNumber, note: &Note) -> bool {
        if !self.under_way.contains_key(&request) {
            return false;
        }
        if let Note::Child(session) = note {
            if self.children.len() < NAMED {
                self.children.push(ChildRecord {
                    session: *session,
                    request,
                });
            } else {
                self.more_children = self.more_children.saturating_add(1);
            }
        }
        true
    }

    /// Takes in that a request is over. Returns when it began; `None` if it is not under way.
    pub(crate) fn outcome(
        &mut self,
        request: RequestNumber,
        outcome: &Outcome,
    ) -> Option<Duration> {
        let mut under_way = self.under_way.remove(&request)?;
        self.count(&mut under_way, &outcome.marks);
        if matches!(outcome.status, Some(401 | 403)) {
            self.count(&mut under_way, &[Mark::Refused]);
        }
        Some(under_way.began)
    }

    /// When this request began, if it is under way.
    pub(crate) fn began(&self, request: RequestNumber) -> Option<Duration> {
        self.under_way.get(&request).map(|it| it.began)
    }

    /// Whether this request is under way.
    pub(crate) fn is_under_way(&self, request: RequestNumber) -> bool {
        self.under_way.contains_key(&request)
    }

    /// How many so far.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            unanswered: self.under_way.len() as u64,
            ..self.counts
        }
    }

    fn count(&mut self, under_way: &mut UnderWay, marks: &[Mark]) {
        for mark in marks {
            let count = match mark {
                Mark::Write => &mut self.counts.writes,
                Mark::Exec => &mut self.counts.execs,
                Mark::PortForward => &mut self.counts.port_forwards,
                Mark::SecretRead => &mut self.counts.secret_reads,
                Mark::CredentialIssued => &mut self.counts.credentials_issued,
                Mark::Refused => &mut self.counts.refused,
                Mark::Proxy | Mark::DryRun => continue,
            };
            if under_way.counted.insert(*mark) {
                *count = count.saturating_add(1);
            }
        }
    }
}

impl RequestsSummary {
    /// `None` if there were no requests: then there is no file either.
    pub(crate) fn of(tally: &Tally, file: CastSummary) -> Option<Self> {
        (file.bytes > 0).then(|| Self {
            file,
            counts: tally.counts(),
            children: tally.children.clone(),
            more_children: tally.more_children,
        })
    }
}

impl RequestsSummary {
    /// Of an index that cannot be read.
    pub(crate) fn unread(file: CastSummary) -> Option<Self> {
        Self::of(&Tally::default(), file)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
