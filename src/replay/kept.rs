//! What keeps a recording, and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::printable::printable;
use super::summary::{Status, Summary};
use crate::clock::to_the_second;
use crate::session::SessionId;
use crate::store::retention::Hold;

/// Of one recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Whether the object store has it; absent where there is none, and while its session goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipped: Option<bool>,
    /// Why nothing may delete it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// Of all that are here.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Whether there is an object store.
    pub ships: bool,
    /// What that does not have yet.
    pub unshipped: BTreeSet<SessionId>,
    /// What is held.
    pub holds: BTreeMap<SessionId, Hold>,
}

impl Marks {
    /// Writes them into a list.
    pub fn put_on(&self, sessions: &mut [Summary]) {
        for summary in sessions {
            summary.kept = self.of(summary);
        }
    }

    /// Those of one recording. A stream is held with its session.
    pub fn of(&self, summary: &Summary) -> Kept {
        let id = summary.id();
        let closed = summary.state != Status::Live;
        let parent = summary.session.parent.map(|parent| parent.session);
        let hold = self
            .holds
            .get(&id)
            .or_else(|| self.holds.get(&parent?))
            .cloned();
        Kept {
            shipped: (self.ships && closed).then(|| !self.unshipped.contains(&id)),
            hold,
        }
    }
}

impl Kept {
    /// As a table says it; empty where there is nothing to say.
    pub(super) fn in_a_word(&self) -> &'static str {
        match (self.shipped == Some(false), self.hold.is_some()) {
            (false, false) => "",
            (true, false) => "waiting",
            (false, true) => "held",
            (true, true) => "held,waiting",
        }
    }

    /// For the page about a session; nothing where there is nothing to say.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        match self.shipped {
            None => {}
            Some(true) => lines.push(("kept", "in the object store".to_owned())),
            Some(false) => lines.push(("kept", "here; not shipped yet".to_owned())),
        }
        if let Some(hold) = &self.hold {
            let since = to_the_second(hold.since);
            lines.push((
                "held",
                format!("since {since}, by {}", printable(&hold.who)),
            ));
            lines.push(("", printable(&hold.reason)));
        }
        lines
    }
}
