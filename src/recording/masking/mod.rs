//! Credentials that the daemon gave out do not get into recordings: where the bytes of one come by, a mask is recorded
//! in their place.
//!
//! [`Secrets`] knows what is out. A [`Masking`] watches one stream: it lets the first [`KEPT`] bytes of a match pass, so
//! that no echo waits, and holds back what follows until it is known what it is. What masks is written down with its
//! stream, its length and the token's id.

mod book;
mod secrets;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub(crate) use book::Book;
pub use secrets::Secrets;
pub(crate) use stream::{Masking, Piece};

use super::Stream;

/// The bytes of a secret that are recorded before its match holds anything back. So many are never told apart from
/// what they may yet become: every token of an API server begins with the same.
pub(crate) const KEPT: usize = 16;

/// How long output may be held back from whoever waits for it.
pub const HELD: std::time::Duration = std::time::Duration::from_millis(50);

/// What is recorded in a secret's place.
pub(crate) const MASK: &str = "[credential masked]";

/// A stretch of a stream that is not on record, because it is part of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Masked {
    /// Where it was.
    pub stream: MaskedStream,
    /// Bytes that are not on record.
    pub length: u64,
    /// Bytes of the mask that is on record in their place: none where the mask before it stands for them too.
    pub shown: u64,
    /// The token's id, if it is known and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// A stream in which something was masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MaskedStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
    /// Standard input.
    Stdin,
}

impl From<Stream> for MaskedStream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// Whether output is on record to its last byte.
#[must_use = "what is held back is not on record yet, and must not be shown"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRecord {
    /// All of it may be shown.
    Whole,
    /// The end of it may be a credential's, and is held back.
    InPart,
}

impl Secrets {
    /// Bytes with a mask for each secret in them, and for the beginning of one at their end.
    pub(crate) fn masked<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        Masking::default().all(&self.book(), bytes)
    }

    /// The same of text. A secret is ASCII: what is left of a text is text.
    pub(crate) fn masked_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.masked(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Cow::Owned(text),
                Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            },
        }
    }
}
