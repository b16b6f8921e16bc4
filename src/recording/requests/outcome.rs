//! What came of a request, and what happens meanwhile.

use serde::{Deserialize, Serialize};

use super::{Mark, RecordedBody, Seconds};
use crate::session::SessionId;

/// What came of a request. How long it took is measured by the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The status that went to the client; `None` if it got none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of bodies and streams from the client.
    pub bytes_in: u64,
    /// Bytes of bodies and streams to the client.
    pub bytes_out: u64,
    /// Why it ended otherwise than it should have, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was learned only while it went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// The body, where it was not in the intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<RecordedBody>,
    /// Recordings of their own that it has. (They are on record since [`super::super::OpenRecording::child`]; here
    /// for readers.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<SessionId>,
    /// Files that were copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<CopiedFile>,
    /// Connections that were forwarded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forwarded>,
}

/// A file in a tar stream (`kubectl cp`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedFile {
    /// Its name in the stream.
    pub name: String,
    /// Which way.
    pub direction: Direction,
    /// Its size by the stream.
    pub bytes: u64,
    /// SHA-256 of its content, hex; `None` if it did not come whole, or has none (a directory, a link).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From the client into the pod.
    ToPod,
    /// From the pod to the client.
    FromPod,
}

impl Direction {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToPod => "to the pod",
            Self::FromPod => "from the pod",
        }
    }
}

/// A connection through a port-forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarded {
    /// The pod's port.
    pub port: u16,
    /// The connection's number in its request, as the client counts.
    pub connection: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// How long it was open, in seconds.
    pub seconds: Seconds,
    /// What the pod's side said went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Something about a request that goes on, put on record at once: requests can take hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Note {
    /// A piece of a body that is kept in full; the pieces are in order.
    Body(RecordedBody),
    /// It has a recording of its own.
    Child(SessionId),
    /// Files were copied.
    Files(Vec<CopiedFile>),
    /// Connections were forwarded, and have ended.
    Forwards(Vec<Forwarded>),
}
