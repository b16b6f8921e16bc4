//! The lines of `requests.jsonl`, and the events on the cast's timeline.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    CopiedFile, Forwarded, Intent, Mark, Note, Outcome, RequestNumber, RequestSummary, Seconds,
};
use crate::recording::{RecordingError, write_seconds};
use crate::session::SessionId;

/// The version of the index.
pub(super) const VERSION: u32 = 1;

/// The longest line, as in a cast.
pub(super) const MAX_LINE: usize = 1 << 20;

/// The longest name of a file, error and user agent on record, in bytes; what is longer is cut, with a mark.
const MAX_TEXT: usize = 4096;

/// The most that a list takes in one line, as JSON.
const MAX_LIST: usize = 256 * 1024;

/// The first line of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct First {
    pub(super) version: u32,
    pub(super) session: SessionId,
}

/// Any other line: one of the three.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) request: RequestNumber,
    pub(super) at: Seconds,
    #[serde(default)]
    pub(super) intent: Option<Intent>,
    #[serde(default)]
    pub(super) note: Option<Note>,
    #[serde(default)]
    pub(super) outcome: Option<Done>,
}

/// An outcome with its duration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// From the intent to the outcome.
    pub seconds: Seconds,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A request on the cast's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Its number: more is in the index.
    pub request: RequestNumber,
    /// What it means to the API server.
    #[serde(flatten)]
    pub info: RequestSummary,
    /// The path, where it is about no resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The query, decoded, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    /// What stands out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// What came of a request, on the cast's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// Its number.
    pub request: RequestNumber,
    /// The status that went to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it took.
    pub seconds: Seconds,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was learned only while it went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// Something during a request, on the cast's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// Its number.
    pub request: RequestNumber,
    /// What.
    pub note: Note,
}

/// Appends a line: `{"request":N,"at":SECONDS,"WHAT":JSON}`.
pub(super) fn line(
    request: RequestNumber,
    at: Duration,
    what: &str,
    json: &str,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(format!("{{\"request\":{request},\"at\":").as_bytes());
    write_seconds(Seconds::from(at).as_micros(), out);
    out.extend_from_slice(format!(",\"{what}\":").as_bytes());
    out.extend_from_slice(json.as_bytes());
    out.extend_from_slice(b"}\n");
}

/// That a line with this in it is not too long. A text in a cast is escaped once more: each quote takes two bytes
/// more, each backslash one.
pub(super) fn check_length(json: &str) -> Result<(), RecordingError> {
    let escaped = json
        .bytes()
        .filter(|byte| matches!(byte, b'"' | b'\\'))
        .count();
    let bytes = json.len().saturating_add(escaped).saturating_add(256);
    if bytes > MAX_LINE {
        return Err(RecordingError::TooLarge { bytes });
    }
    Ok(())
}

/// Cuts a text of a stranger.
pub(super) fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT {
        let cut = text.floor_char_boundary(MAX_TEXT);
        let left_out = text.len().saturating_sub(cut);
        text.truncate(cut);
        text.push_str(&format!(" [and {left_out} bytes more]"));
    }
}

/// Takes from the front of a list what one line may hold.
pub(super) fn portion<T>(list: &mut Vec<T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut left = MAX_LIST;
    let fits = list
        .iter()
        .take_while(|item| {
            let takes = size(item);
            let fits = takes <= left;
            left = left.saturating_sub(takes);
            fits
        })
        .count();
    let rest = list.split_off(fits);
    std::mem::replace(list, rest)
}

/// What a file takes in a line at most: six bytes for a control character.
pub(super) fn file_size(file: &CopiedFile) -> usize {
    file.name.len().saturating_mul(6).saturating_add(256)
}

/// What a forwarded connection takes in a line at most.
pub(super) fn forward_size(forward: &Forwarded) -> usize {
    let error = forward.error.as_ref().map_or(0, String::len);
    error.saturating_mul(6).saturating_add(256)
}
