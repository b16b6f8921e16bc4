//! What a recording tells, without how it is written.

use std::time::Duration;

use super::requests::{Answered, Asked, Noted};
use super::{Ending, LeaseRecord, Masked, Stream};
use crate::messages::WindowSize;

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, since the start.
    pub at: Duration,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// Output. All `bytes` of a stream in a row are exactly what it carried.
    Output {
        /// From where.
        stream: Stream,
        /// The bytes. None where this event only shows what earlier ones carried.
        bytes: Vec<u8>,
        /// How a reader of text sees it.
        shown: Shown,
    },
    /// Input. All of them in a row are exactly what the client sent.
    Input(Vec<u8>),
    /// No more input.
    InputEnd,
    /// The input that is not kept.
    InputDigest {
        /// Its length in bytes.
        length: u64,
        /// Its SHA-256, hex.
        sha256: String,
    },
    /// The terminal's new size.
    Resize(WindowSize),
    /// A sentence of ours to the operator.
    Marker(String),
    /// A credential was issued.
    Lease(LeaseRecord),
    /// Part of a credential was not recorded. The mask in its place is output or input that came before.
    Masked(Masked),
    /// A request to the cluster, about to be forwarded.
    Request(Box<Asked>),
    /// Something about a request that goes on.
    Note(Box<Noted>),
    /// What came of a request.
    Answer(Box<Answered>),
    /// The end.
    End(Ending),
    /// Something that this version does not know.
    Unknown {
        /// The event's code.
        code: char,
    },
}

/// How output is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As this text.
    Text(String),
    /// Not at all: it is no text.
    Binary,
    /// By another event.
    Elsewhere,
}
