//! What the log says of each recording.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::{Leaf, Position};
use crate::session::SessionId;
use crate::signing::Digest;
use jiff::Timestamp;

/// The log, by recording. Keeps some hundred bytes for each.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    recordings: BTreeMap<SessionId, InLog>,
    /// From which leaf on which key signs.
    keys: BTreeMap<u64, String>,
    /// How many leaves there are.
    leaves: u64,
    /// When the leaves were entered: the first, and every thousandth.
    times: BTreeMap<u64, Timestamp>,
    /// Deletions that are on record and not carried out yet.
    under_way: BTreeSet<SessionId>,
}

/// What the log says of one.
#[derive(Clone, Debug, Default)]
pub struct InLog {
    /// Its beginning.
    pub opened: Option<Entry>,
    /// Its ends: one, or another for each start that found it unfinished.
    pub closed: Vec<Entry>,
    /// The checkpoints over its packed files.
    pub packed: Vec<Digest>,
    /// That it was deleted.
    pub deleted: Option<Deletion>,
}

/// A leaf that means a checkpoint.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub position: u64,
    /// The digest of the checkpoint.
    pub note: Digest,
}

/// A leaf that says that a recording was deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// Its number.
    pub position: u64,
    /// By which rule, or for which reason.
    pub why: String,
}

/// Leaves between two times that are kept.
const EVERY: u64 = 1000;

impl Entries {
    /// Takes a leaf in. Of the same log given twice, the later one counts.
    pub fn add(&mut self, position: Position, leaf: Leaf) {
        let position = position.0;
        self.leaves = self.leaves.max(position.saturating_add(1));
        if position.is_multiple_of(EVERY) {
            self.times.insert(position, at(&leaf));
        }
        match leaf {
            Leaf::Started { key, .. } | Leaf::Key { key, .. } => {
                self.keys.insert(position, key.label());
            }
            Leaf::Opened { session, note, .. } => {
                self.of_mut(session).opened = Some(Entry { position, note });
            }
            Leaf::Sealed { session, note, .. } => self.close(session, position, note),
            Leaf::Interrupted { session, note, .. } => {
                if let Some(note) = note {
                    self.close(session, position, note);
                }
            }
            Leaf::Packed { session, note, .. } => self.of_mut(session).packed.push(note),
            Leaf::Deleted { session, why, .. } => {
                self.of_mut(session).deleted = Some(Deletion { position, why });
            }
            Leaf::AuditHead { .. } => {}
        }
    }

    /// Forgets everything that the log said: it is given again.
    pub fn clear(&mut self) {
        *self = Self {
            under_way: std::mem::take(&mut self.under_way),
            ..Self::default()
        };
    }

    /// Deletions that the daemon has begun and not finished: what is left of these is no recording that came back.
    pub fn set_under_way(&mut self, sessions: BTreeSet<SessionId>) {
        self.under_way = sessions;
    }

    /// The deletion of a recording that is on record and goes on.
    pub(super) fn deletion_under_way(&self, session: SessionId) -> Option<&Deletion> {
        let deletion = self.of(session)?.deleted.as_ref()?;
        self.under_way.contains(&session).then_some(deletion)
    }

    /// What it says of one.
    pub fn of(&self, session: SessionId) -> Option<&InLog> {
        self.recordings.get(&session)
    }

    /// Those that it knows.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.recordings.keys().copied()
    }

    /// The key that was in force when a leaf was entered, by its name and id.
    pub fn key_at(&self, position: u64) -> Option<&str> {
        let (_, key) = self.keys.range(..=position).next_back()?;
        Some(key)
    }

    /// The key that signs heads over so many leaves, by its name and id; `None` of more than there are.
    pub(super) fn key_of_head(&self, size: u64) -> Option<&str> {
        (size <= self.leaves).then(|| self.key_at(size.checked_sub(1)?))?
    }

    /// About when a leaf was entered, never later.
    pub fn time_at(&self, position: u64) -> Option<Timestamp> {
        let (_, at) = self.times.range(..=position).next_back()?;
        Some(*at)
    }

    fn of_mut(&mut self, session: SessionId) -> &mut InLog {
        self.recordings.entry(session).or_default()
    }

    fn close(&mut self, session: SessionId, position: u64, note: Digest) {
        self.of_mut(session).closed.push(Entry { position, note });
    }
}

impl InLog {
    /// The first leaf about it.
    pub(super) fn first_position(&self) -> u64 {
        let opened = self.opened.iter().chain(&self.closed);
        opened.map(|entry| entry.position).min().unwrap_or(0)
    }
}

fn at(leaf: &Leaf) -> Timestamp {
    match leaf {
        Leaf::Started { at, .. }
        | Leaf::Key { at, .. }
        | Leaf::Opened { at, .. }
        | Leaf::Sealed { at, .. }
        | Leaf::Interrupted { at, .. }
        | Leaf::Packed { at, .. }
        | Leaf::Deleted { at, .. }
        | Leaf::AuditHead { at, .. } => *at,
    }
}
