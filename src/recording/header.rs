//! The first line of a cast.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::Covered;
use super::requests::{Parent, Pod, PodStream};
use super::statement::Encrypted;
use crate::config::{Name, RecordInput, SessionKind};
use crate::identity::certificate::CertificateFacts;
use crate::messages::{Peer, Terminal};
use crate::session::SessionId;

/// The version of what is ours in a cast and of the manifest.
pub(super) const VERSION: u32 = 1;

/// The longest command line in a header; what is longer is cut, with a mark. The header is one line, and readers
/// bound lines.
const MAX_COMMAND: usize = 128 * 1024;

/// The longest one in a checkpoint.
const BRIEF: usize = 4 * 1024;

/// Who, why, what, where: all that is known of a session when it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The session.
    pub session: SessionId,
    /// The daemon's name.
    pub instance: Name,
    /// Who was proven.
    pub identity: Name,
    /// Its groups, each with its source.
    pub groups: BTreeSet<String>,
    /// The key that proved it: `SHA256:...`.
    pub fingerprint: String,
    /// The certificate of that key, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFacts>,
    /// The role that was granted.
    pub role: Name,
    /// By which binding.
    pub binding: Name,
    /// The binding's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// On which cluster.
    pub cluster: Name,
    /// As which Kubernetes user: `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// What is recorded.
    pub kind: Kind,
    /// Of a stream into a pod: the request that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Of a stream into a pod: where it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The command line, if there is one; bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// From where, with which client.
    pub client: Peer,
    /// The terminal, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// The configuration that the decision was made under.
    pub config_digest: String,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it ends at the latest.
    pub ends: Timestamp,
}

/// What is recorded: a session, or a stream into a pod that is part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kind {
    /// A session of this kind.
    Session(SessionKind),
    /// A stream of the API.
    Stream(PodStream),
}

impl From<SessionKind> for Kind {
    fn from(kind: SessionKind) -> Self {
        Self::Session(kind)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session(kind) => kind.fmt(f),
            Self::Stream(stream) => stream.fmt(f),
        }
    }
}

/// A cast's header: asciicast v3 with one key of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of asciicast: 3.
    pub version: u32,
    /// The terminal; without one, the customary size.
    pub term: TermSize,
    /// When it was opened, seconds since 1970.
    pub timestamp: u64,
    /// As in [`Metadata`]: players show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Players show it.
    pub title: String,
    /// What is ours.
    pub bastion: Bastion,
}

/// asciicast v3 `term`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// `TERM`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
}

/// What is ours in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bastion {
    /// Version of what is ours.
    pub version: u32,
    /// What is kept of standard input.
    pub record_input: RecordInput,
    /// Whether requests to the cluster are on record: they were not before there was a gateway.
    #[serde(default = "off")]
    pub requests: Covered,
    /// The session.
    #[serde(flatten)]
    pub metadata: Metadata,
}

impl Bastion {
    /// What stands beside the cast, for everybody who can read the store: of an encrypted recording neither commands nor
    /// the names of objects. How a terminal was set up is long, and in the header only.
    pub(super) fn in_clear(&self, encrypted: Encrypted) -> Self {
        let mut clear = self.clone();
        if let Some(terminal) = &mut clear.metadata.terminal {
            terminal.modes.clear();
        }
        if encrypted.cast {
            clear.metadata.command = None;
            clear.metadata.pod = None;
        }
        clear
    }

    /// The same for a checkpoint, which is signed and so bounded. All of it is in the header.
    pub(super) fn in_brief(&self, encrypted: Encrypted) -> Self {
        let mut brief = self.in_clear(encrypted);
        if let Some(command) = &mut brief.metadata.command {
            shorten(command, BRIEF);
        }
        if let Some(pod) = &mut brief.metadata.pod {
            // Argument by argument, as long as there is room.
            let mut room = BRIEF;
            pod.command.retain(|argument| {
                let fits = argument.len() <= room;
                room = room.saturating_sub(argument.len());
                fits
            });
        }
        brief
    }
}

impl Header {
    pub(super) fn new(mut metadata: Metadata, record_input: RecordInput) -> Self {
        if let Some(command) = &mut metadata.command {
            shorten(command, MAX_COMMAND);
        }
        let (cols, rows) = metadata
            .terminal
            .as_ref()
            .map_or((80, 24), |t| (t.size.cols, t.size.rows));
        Self {
            version: 3,
            term: TermSize {
                cols,
                rows,
                term: metadata.terminal.as_ref().map(|t| t.term.clone()),
            },
            timestamp: u64::try_from(metadata.opened.as_second()).unwrap_or(0),
            command: metadata.command.clone(),
            title: format!(
                "{} as {} on {} ({})",
                metadata.identity, metadata.role, metadata.cluster, metadata.session
            ),
            bastion: Bastion {
                version: VERSION,
                record_input,
                requests: match metadata.kind {
                    Kind::Session(SessionKind::Credential) => Covered::HandedOut,
                    Kind::Session(_) => Covered::Recorded,
                    Kind::Stream(_) => Covered::Absent,
                },
                metadata,
            },
        }
    }

    /// The session.
    pub fn metadata(&self) -> &Metadata {
        &self.bastion.metadata
    }
}

fn off() -> Covered {
    Covered::Off
}

fn shorten(command: &mut String, most: usize) {
    if command.len() > most {
        let cut = command.floor_char_boundary(most);
        let left_out = command.len().saturating_sub(cut);
        command.truncate(cut);
        command.push_str(&format!(" [and {left_out} bytes more]"));
    }
}
