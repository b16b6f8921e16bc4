//! What the log holds: one JSON object a leaf.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LogError;
use crate::session::SessionId;
use crate::signing::{Digest, PublicKey};

/// Longest leaf, in bytes. An entry bundle has room for 65,535.
pub const LONGEST_LEAF: usize = 16 << 10;

/// Longest text that somebody else chose (`who`, `why`, `reason`), in bytes; more is cut.
const LONGEST_TEXT: usize = 2 << 10;

/// The version of leaves.
const VERSION: u8 = 1;

/// A leaf's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened. `at` is by the daemon's clock, which may be set; the order is that of the leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "leaf",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Leaf {
    /// The daemon started.
    Started {
        /// When.
        at: Timestamp,
        /// The daemon's version.
        version: String,
        /// The key that signs from here on.
        key: PublicKey,
    },
    /// Another key signs from here on.
    Key {
        /// When.
        at: Timestamp,
        /// The key that signs from here on.
        key: PublicKey,
        /// The key that signed until here.
        previous: PublicKey,
        /// The signed note that says so, whole; by both keys where the old one was at hand.
        note: String,
    },
    /// A recording was begun. Before anything ran.
    Opened {
        /// Which.
        session: SessionId,
        /// When.
        at: Timestamp,
        /// Of a stream into a pod: the session that it is part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<SessionId>,
        /// Its first signed note.
        note: Digest,
    },
    /// A recording was closed for good.
    Sealed {
        /// Which.
        session: SessionId,
        /// When.
        at: Timestamp,
        /// Its last signed note.
        note: Digest,
    },
    /// A recording was found unfinished and closed.
    Interrupted {
        /// Which.
        session: SessionId,
        /// When it was closed.
        at: Timestamp,
        /// The last signed note that was found, if one was.
        note: Option<Digest>,
        /// Why it was not sealed, as far as is known.
        reason: String,
    },
    /// A closed recording was put into the form in which it is kept.
    Packed {
        /// Which.
        session: SessionId,
        /// When.
        at: Timestamp,
        /// The signed note over that form.
        note: Digest,
    },
    /// A recording was deleted.
    Deleted {
        /// Which.
        session: SessionId,
        /// When.
        at: Timestamp,
        /// By whose order.
        who: String,
        /// By which rule, or for which reason.
        why: String,
    },
    /// Where the chain of audit events was.
    AuditHead {
        /// When.
        at: Timestamp,
        /// The number of the last event.
        seq: u64,
        /// SHA-256 of its line.
        hash: Digest,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    v: u8,
    #[serde(flatten)]
    leaf: &'a Leaf,
}

impl Leaf {
    /// As it stands in the log: JSON on one line. What others chose is cut where it is too long.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, LogError> {
        let mut leaf = self.clone();
        match &mut leaf {
            Self::Interrupted { reason, .. } => cut(reason),
            Self::Deleted { who, why, .. } => {
                cut(who);
                cut(why);
            }
            _ => {}
        }
        let written = Written {
            v: VERSION,
            leaf: &leaf,
        };
        serde_json::to_vec(&written)
            .ok()
            .filter(|bytes| bytes.len() <= LONGEST_LEAF)
            .ok_or(LogError::LeafTooLong)
    }

    /// Parses a leaf. `None`: it is none of this version.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut value: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(bytes).ok()?;
        if value.remove("v")? != VERSION {
            return None;
        }
        serde_json::from_value(value.into()).ok()
    }

    /// The key that signs after this leaf, if it names one.
    pub(super) fn key(&self) -> Option<&PublicKey> {
        match self {
            Self::Started { key, .. } | Self::Key { key, .. } => Some(key),
            _ => None,
        }
    }
}

fn cut(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        let end = text.floor_char_boundary(LONGEST_TEXT);
        text.truncate(end);
    }
}
