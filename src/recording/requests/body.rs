//! What is kept of a request's body.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::recording::Secrets;

/// The most that is kept of a body, in bytes as they came.
pub const MAX_KEPT: usize = 64 * 1024;

/// A body, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedBody {
    /// `Content-Type` as the client said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The whole body's size.
    pub bytes: u64,
    /// What is kept.
    pub kept: String,
    /// How `kept` is written.
    #[serde(default, skip_serializing_if = "BodyEncoding::is_text")]
    pub encoding: BodyEncoding,
    /// There was more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// `kept` is not what was sent: values of Secrets are left out of it, or a credential is masked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduced: bool,
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyEncoding {
    /// As they are.
    #[default]
    Text,
    /// Base64 (RFC 4648, 4): they are no text.
    Base64,
}

impl BodyEncoding {
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

impl RecordedBody {
    /// A body of `bytes` bytes that begins with `beginning`; of that at most [`MAX_KEPT`] bytes are kept. For a
    /// `reduced` one, `beginning` stands for the whole of it.
    pub fn new(content_type: Option<String>, bytes: u64, beginning: &[u8], reduced: bool) -> Self {
        let cut = beginning.get(..MAX_KEPT).unwrap_or(beginning);
        let truncated = cut.len() < beginning.len() || (!reduced && (cut.len() as u64) < bytes);
        let (kept, encoding) = match std::str::from_utf8(cut) {
            Ok(text) => (text.to_owned(), BodyEncoding::Text),
            // Only the cut went through a character.
            Err(error) if truncated && error.error_len().is_none() => (
                String::from_utf8_lossy(cut.get(..error.valid_up_to()).unwrap_or(&[])).into_owned(),
                BodyEncoding::Text,
            ),
            Err(_) => (STANDARD.encode(cut), BodyEncoding::Base64),
        };
        Self {
            content_type,
            bytes,
            kept,
            encoding,
            truncated,
            reduced,
        }
    }

    /// Without credentials in what is kept.
    pub(super) fn mask(&mut self, secrets: &Secrets) {
        let masked = match self.encoding {
            BodyEncoding::Text => match secrets.masked_text(&self.kept) {
                Cow::Owned(masked) => masked,
                Cow::Borrowed(_) => return,
            },
            BodyEncoding::Base64 => {
                let bytes = STANDARD.decode(&self.kept).unwrap_or_default();
                match secrets.masked(&bytes) {
                    Cow::Owned(masked) => STANDARD.encode(masked),
                    Cow::Borrowed(_) => return,
                }
            }
        };
        self.kept = masked;
        self.reduced = true;
    }
}
