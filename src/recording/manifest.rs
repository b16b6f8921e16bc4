//! What closes a recording.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ReadError;
use super::header::{Bastion, Metadata};
use super::masking::{Masked, MaskedStream};
use super::requests::RequestsSummary;
use super::statement::Encrypted;
use crate::config::RecordInput;

/// The version of the manifest. Version 1 had no checkpoints beside it, and named the cast's digest itself.
pub(super) const VERSION: u32 = 2;

/// The last word on a recording. Without one, a recording is live or interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this document: 2, or 1 of an old one.
    pub version: u32,
    /// Whether the daemon saw the end.
    pub state: State,
    /// Why it is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the session ended, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// When it ended: of an interrupted recording, when its last event happened.
    pub closed: Timestamp,
    /// The cast in clear.
    pub cast: CastSummary,
    /// What went through.
    pub totals: Totals,
    /// Every credential that was issued, in order.
    pub leases: Vec<LeaseRecord>,
    /// The request index; absent if there were no requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestsSummary>,
    /// What is on record and what is not.
    pub coverage: Coverage,
    /// What is encrypted.
    #[serde(default)]
    pub encrypted: Encrypted,
    /// Of a packed recording, its files as they are stored, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, CastSummary>,
    /// The newest signed head of the evidence log when this was written, a note of c2sp.org/tlog-checkpoint, all of it: so each
    /// recording is a witness of the log. Manifests of old have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_head: Option<String>,
    /// Who, why, what, where; of an encrypted recording without commands and names of objects.
    pub session: Metadata,
}

/// Whether a recording has its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// The daemon saw the end of the session and sealed the recording.
    Complete,
    /// The daemon did not live to see it. Never called complete.
    Interrupted,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The command ended with this status.
    Exit(u32),
    /// The command was ended by this signal (RFC 4254 name, without `SIG`).
    Signal(String),
    /// The session was ended by us or by its client.
    Cut {
        /// Why, in a sentence.
        reason: String,
    },
}

/// A file that a manifest speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CastSummary {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, hex. Of a file that is spooled or encrypted the checkpoints say it, not this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl CastSummary {
    pub(crate) fn of(bytes: u64) -> Self {
        Self {
            bytes,
            sha256: None,
        }
    }
}

/// Bytes that went through a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Standard output, or the terminal.
    pub stdout_bytes: u64,
    /// Standard error.
    pub stderr_bytes: u64,
    /// Standard input, recorded or not.
    pub stdin_bytes: u64,
}

impl Totals {
    /// Has the total count what was masked, not the mask.
    pub(super) fn add_masked(&mut self, masked: &Masked) {
        let total = match masked.stream {
            MaskedStream::Stdout => &mut self.stdout_bytes,
            MaskedStream::Stderr => &mut self.stderr_bytes,
            MaskedStream::Stdin => &mut self.stdin_bytes,
        };
        *total = total
            .saturating_sub(masked.shown)
            .saturating_add(masked.length);
    }
}

/// A credential that was issued for a session. Never the credential itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecord {
    /// The token's id, as the API server's audit log has it (without `JTI=`).
    pub jti: String,
    /// The API server's `Audit-Id` of the issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<String>,
    /// When the token expires.
    pub expires: Timestamp,
}

/// What is on record of each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// What the terminal showed.
    pub terminal: Covered,
    /// Standard input (keystrokes, at a terminal).
    pub stdin: Covered,
    /// Standard output.
    pub stdout: Covered,
    /// Standard error.
    pub stderr: Covered,
    /// Requests to the cluster.
    pub requests: Covered,
}

/// How far a channel is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Covered {
    /// Every byte.
    Recorded,
    /// Length and SHA-256.
    Digest,
    /// It was there and is not on record.
    Off,
    /// There was no such channel.
    Absent,
    /// The credential went to the client: what was done with it, only the API server's audit log knows.
    HandedOut,
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ReadError::Manifest(error.to_string()))?;
        if (1..=VERSION).contains(&manifest.version) {
            Ok(manifest)
        } else {
            Err(ReadError::Manifest(format!(
                "it is of version {}; this program reads versions 1 to {VERSION}",
                manifest.version
            )))
        }
    }

    /// The head of the log in a manifest, whatever else is in it.
    pub(super) fn log_head_of(bytes: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Carries {
            log_head: Option<String>,
        }
        serde_json::from_slice::<Carries>(bytes).ok()?.log_head
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        // In one line: of a short session the manifest is most of what is stored.
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        Ok(json)
    }
}

impl Ending {
    /// The exit status that a shell would report, if there is one: 128 and more for a signal.
    pub fn exit_status(&self) -> Option<u32> {
        match self {
            // Players read it as a signed 32-bit number.
            Self::Exit(status) => Some((*status).min(i32::MAX as u32)),
            Self::Signal(name) => SIGNALS
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, number)| 128 + number),
            Self::Cut { .. } => None,
        }
    }
}

/// The signals of RFC 4254, 6.10, by their numbers on Linux.
const SIGNALS: [(&str, u32); 13] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("ABRT", 6),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
];

impl Coverage {
    pub(crate) fn of(bastion: &Bastion) -> Self {
        let terminal = bastion.metadata.terminal.is_some();
        let pipes = if terminal {
            Covered::Absent
        } else {
            Covered::Recorded
        };
        Self {
            terminal: if terminal {
                Covered::Recorded
            } else {
                Covered::Absent
            },
            stdin: InputCoverage::of(terminal, bastion.record_input).into(),
            stdout: pipes,
            stderr: pipes,
            requests: bastion.requests,
        }
    }
}

/// What is kept of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputCoverage {
    Full,
    Digest,
    Off,
}

impl InputCoverage {
    pub(super) fn of(terminal: bool, record_input: RecordInput) -> Self {
        match (record_input, terminal) {
            (RecordInput::Always, _) | (RecordInput::Auto, false) => Self::Full,
            (RecordInput::Auto, true) => Self::Off,
            (RecordInput::Digest, _) => Self::Digest,
        }
    }
}

impl From<InputCoverage> for Covered {
    fn from(input: InputCoverage) -> Self {
        match input {
            InputCoverage::Full => Self::Recorded,
            InputCoverage::Digest => Self::Digest,
            InputCoverage::Off => Self::Off,
        }
    }
}
