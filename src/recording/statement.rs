//! Checkpoints: signed statements of what a recording holds.
//!
//! Each is a C2SP signed note whose text is a line that says of whose recording it is and a line of JSON, the
//! [`Statement`]. It covers the bytes of each file since the one before it, and names that one by its digest: together
//! they are a chain over all that is stored. Docs: docs/RECORDING-FORMAT.md.

use aws_lc_rs::digest::{self, SHA256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::error::ReadError;
use super::header::Bastion;
use super::manifest::{LeaseRecord, Totals};
use super::writing::hex;
use crate::session::SessionId;
use crate::store::Part;

/// How the first line of a checkpoint's text ends; before it stands the name of whoever signs.
const FIRST_LINE: &str = "/recording";

/// The longest line of a checkpoint: a command of 128 KiB, six bytes of JSON each, and what stands around it.
const MAX_LINE: usize = 1 << 20;
/// Lines of signatures under one checkpoint.
const MAX_SIGNATURES: usize = 16;

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Of which recording.
    pub session: SessionId,
    /// Its number; the first is 0.
    pub sequence: u64,
    /// SHA-256 (hex) of the checkpoint before it, signatures included; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// When.
    pub at: Timestamp,
    /// What is new in each file since the checkpoint before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Extent>,
    /// What the recording is now.
    #[serde(flatten)]
    pub standing: Standing,
}

/// A stretch of a file as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extent {
    /// The file's name, see [`Part::name`].
    pub file: String,
    /// Its first byte.
    pub from: u64,
    /// The byte after its last.
    pub to: u64,
    /// SHA-256 of the bytes, hex.
    pub sha256: String,
}

/// What a recording is when a checkpoint is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Standing {
    /// It has begun.
    Opened {
        /// Who, why, what, where; of an encrypted recording without commands and names of objects.
        bastion: Box<Bastion>,
        /// What is kept secret from the disk.
        encrypted: Encrypted,
    },
    /// It goes on.
    Live {
        /// What went through by now.
        totals: Totals,
        /// Credentials issued since the checkpoint before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        leases: Vec<LeaseRecord>,
    },
    /// It has ended, and all of it is there.
    Sealed {
        /// SHA-256 of the manifest, hex.
        manifest: String,
    },
    /// Nobody saw its end.
    Interrupted {
        /// SHA-256 of the manifest, hex.
        manifest: String,
        /// What is known of it.
        reason: String,
        /// What earlier checkpoints cover and was not found any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        missing: Vec<Extent>,
    },
    /// A sealed recording was packed into other files, of which this is a part.
    Packing {
        /// The moment of the first event in it, microseconds since the start.
        since: u64,
    },
    /// It was packed whole.
    Packed {
        /// SHA-256 of its new manifest, hex.
        manifest: String,
    },
}

impl Standing {
    /// SHA-256 (hex) of the manifest that it means, if it closes or packs the recording.
    pub(crate) fn manifest(&self) -> Option<&str> {
        match self {
            Self::Sealed { manifest }
            | Self::Interrupted { manifest, .. }
            | Self::Packed { manifest } => Some(manifest),
            Self::Opened { .. } | Self::Live { .. } | Self::Packing { .. } => None,
        }
    }
}

/// What of a recording is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Encrypted {
    /// The cast.
    pub cast: bool,
    /// The request index.
    pub requests: bool,
}

/// Makes the checkpoints of one recording, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    session: SessionId,
    sequence: u64,
    previous: Option<String>,
}

impl Chain {
    /// Before the first checkpoint.
    pub(crate) fn begin(session: SessionId) -> Self {
        Self {
            session,
            sequence: 0,
            previous: None,
        }
    }

    /// After `last`.
    pub(crate) fn after(last: &Checkpoint) -> Self {
        Self {
            session: last.statement.session,
            sequence: last.statement.sequence.saturating_add(1),
            previous: Some(last.digest.clone()),
        }
    }

    /// The statement of the next one, to be signed: a line.
    pub(crate) fn text(
        &self,
        at: Timestamp,
        files: Vec<Extent>,
        standing: Standing,
    ) -> Result<String, serde_json::Error> {
        let statement = Statement {
            session: self.session,
            sequence: self.sequence,
            previous: self.previous.clone(),
            at,
            files,
            standing,
        };
        // The one control character that JSON leaves as it is, and a signed note does not take.
        let mut json = serde_json::to_string(&statement)?.replace('\u{7f}', "\\u007f");
        json.push('\n');
        Ok(json)
    }

    /// Takes the signed one in; the next one follows it. Returns it as it is stored.
    pub(crate) fn signed(&mut self, note: &str) -> Vec<u8> {
        self.sequence = self.sequence.saturating_add(1);
        self.previous = Some(sha256(note.as_bytes()));
        // An empty line between two: a note ends with its last signature.
        let mut stored = Vec::with_capacity(note.len().saturating_add(1));
        stored.extend_from_slice(note.as_bytes());
        stored.push(b'\n');
        stored
    }

    /// The digest of the checkpoint that was taken in last.
    pub(crate) fn last(&self) -> Option<&str> {
        self.previous.as_deref()
    }
}

/// A checkpoint as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it says. Not proven until its signature is checked.
    pub statement: Statement,
    /// The signed note.
    pub note: String,
    /// SHA-256 of the note, hex.
    pub digest: String,
    /// Where in the file it ends, with the empty line that follows it.
    pub end: u64,
}

/// Reads checkpoints one after the other. Trusts nothing in them.
#[derive(Debug)]
pub struct Checkpoints<R> {
    input: R,
    read: u64,
    number: u64,
}

impl<R: AsyncBufRead + Unpin> Checkpoints<R> {
    /// Over the file.
    pub fn new(input: R) -> Self {
        Self {
            input,
            read: 0,
            number: 0,
        }
    }

    /// The next one. `None` at the end, and at a torn last one.
    pub async fn next(&mut self) -> Result<Option<Checkpoint>, ReadError> {
        let mut note = String::new();
        let number = self.number;
        let damaged = |what: &str| ReadError::Checkpoint {
            number,
            what: what.to_owned(),
        };
        let Some(first) = self.line().await? else {
            return Ok(None);
        };
        if !first.trim_end_matches('\n').ends_with(FIRST_LINE) {
            return Err(damaged("it does not begin as one"));
        }
        note.push_str(&first);
        let Some(json) = self.line().await? else {
            return Ok(None);
        };
        note.push_str(&json);
        match self.line().await?.as_deref() {
            Some("\n") => note.push('\n'),
            Some(_) => return Err(damaged("its text is longer than a line")),
            None => return Ok(None),
        }
        let mut signatures = 0_usize;
        loop {
            match self.line().await?.as_deref() {
                Some("\n") => break,
                Some(line) if line.starts_with("\u{2014} ") && signatures < MAX_SIGNATURES => {
                    signatures = signatures.saturating_add(1);
                    note.push_str(line);
                }
                Some(_) => return Err(damaged("something follows that is no signature")),
                None => return Ok(None),
            }
        }
        if signatures == 0 {
            return Err(damaged("it is not signed"));
        }
        let statement: Statement =
            serde_json::from_str(&json).map_err(|error| damaged(&error.to_string()))?;
        self.number = self.number.saturating_add(1);
        Ok(Some(Checkpoint {
            statement,
            digest: sha256(note.as_bytes()),
            note,
            end: self.read,
        }))
    }

    /// A line with its line feed; `None` at the end and at a torn one.
    async fn line(&mut self) -> Result<Option<String>, ReadError> {
        let damaged = |what: String| ReadError::Checkpoint {
            number: self.number,
            what,
        };
        let mut line = Vec::new();
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(available.len(), |end| end.saturating_add(1));
            line.extend_from_slice(available.get(..taken).unwrap_or_default());
            self.input.consume(taken);
            if line.len() > MAX_LINE {
                return Err(damaged(format!("a line is longer than {MAX_LINE} bytes")));
            }
            if end.is_some() {
                self.read = self.read.saturating_add(line.len() as u64);
                let text = String::from_utf8(line).map_err(|error| damaged(error.to_string()))?;
                return Ok(Some(text));
            }
        }
    }
}

/// Every whole checkpoint, where they end, and whether something that is none follows.
#[cfg(test)]
pub(crate) fn read_whole(
    mut input: impl std::io::Read,
) -> std::io::Result<(Vec<Checkpoint>, u64, bool)> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let mut found = Vec::new();
    let mut checkpoints = Checkpoints::new(bytes.as_slice());
    // What lies in memory is never waited for.
    let damaged = loop {
        match futures_util::FutureExt::now_or_never(checkpoints.next()) {
            Some(Ok(Some(checkpoint))) => found.push(checkpoint),
            Some(Ok(None)) => break false,
            Some(Err(_)) | None => break true,
        }
    };
    let end = found.last().map_or(0, |last| last.end);
    Ok((found, end, damaged))
}

/// The bytes of a file since the last checkpoint.
#[derive(Clone)]
pub(crate) struct Stretch {
    part: Part,
    from: u64,
    to: u64,
    digest: digest::Context,
}

impl Stretch {
    pub(crate) fn of(part: Part) -> Self {
        Self::since(part, 0)
    }

    pub(crate) fn since(part: Part, from: u64) -> Self {
        Self {
            part,
            from,
            to: from,
            digest: digest::Context::new(&SHA256),
        }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.to = self.to.saturating_add(bytes.len() as u64);
    }

    /// Size of the file by now.
    pub(crate) fn end(&self) -> u64 {
        self.to
    }

    /// What was added since the last call, if anything was.
    pub(crate) fn take(&mut self) -> Option<Extent> {
        if self.from == self.to {
            return None;
        }
        let extent = self.extent();
        *self = Self::since(self.part, self.to);
        Some(extent)
    }

    fn extent(&self) -> Extent {
        Extent {
            file: self.part.name().to_owned(),
            from: self.from,
            to: self.to,
            sha256: hex(self.digest.clone().finish().as_ref()),
        }
    }
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&SHA256, bytes).as_ref())
}
