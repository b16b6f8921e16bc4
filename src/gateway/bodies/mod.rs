//! What is kept of a request's body: what was written, but no value of a Secret and no token.

mod embedded;
mod reduce;
#[cfg(test)]
mod tests;

use http::HeaderValue;
use serde_json::Value;

use super::request_info::RequestInfo;
use crate::config::RecordBodies;
use crate::recording::requests::{MAX_KEPT, Mark, RecordedBody};

/// The longest body of a Secret that is read for the names of its keys. The API server takes no more than 3 MiB.
const MAX_READ: usize = 3 << 20;

/// What is to be done with a body.
pub(super) enum Keep {
    /// Nothing is looked for in it.
    Nothing,
    /// It is looked at, and its beginning kept.
    Beginning(Capture),
    /// All of it is kept: it goes to something that the API server does not know.
    InFull,
}

impl Keep {
    /// Of the body of a request.
    pub(super) fn of(
        bodies: RecordBodies,
        info: &RequestInfo,
        content_type: Option<&HeaderValue>,
    ) -> Self {
        if info.is_proxied() {
            return Self::InFull;
        }
        let about = info.summary();
        let writes = matches!(
            about.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection" | "post" | "put"
        );
        if !writes {
            return Self::Nothing;
        }
        let secret = info.is("", "secrets");
        Self::Beginning(Capture {
            kept: bodies == RecordBodies::Writes,
            reads: match () {
                () if secret && about.verb.starts_with("delete") => Reads::SecretDeletion,
                () if secret => Reads::Secret,
                () if info.is("authentication.k8s.io", "tokenreviews") => Reads::Token,
                () if about.verb.starts_with("delete") => Reads::Deletion,
                () => Reads::Nothing,
            },
            content_type: content_type
                .map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned()),
            bytes: 0,
            beginning: Vec::new(),
        })
    }
}

/// A body while it passes.
pub(super) struct Capture {
    kept: bool,
    reads: Reads,
    content_type: Option<String>,
    bytes: u64,
    beginning: Vec<u8>,
}

/// Without what has passed: it may be a Secret's.
impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("reads", &self.reads)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// What a body is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// That no Secret is embedded in it.
    Nothing,
    /// It holds the values of a Secret.
    Secret,
    /// It holds a token, to be asked about.
    Token,
    /// It may say that nothing is to be deleted.
    Deletion,
    /// The same of a Secret, should one be sent along.
    SecretDeletion,
}

/// What is left of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) body: Option<RecordedBody>,
    pub(super) marks: Vec<Mark>,
}

impl Capture {
    /// More of it.
    pub(super) fn feed(&mut self, data: &[u8]) {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        let most = match self.reads {
            Reads::Nothing | Reads::Deletion | Reads::SecretDeletion => MAX_KEPT,
            Reads::Secret => MAX_READ,
            Reads::Token => 0,
        };
        let room = most.saturating_sub(self.beginning.len());
        let taken = data.get(..room).unwrap_or(data);
        self.beginning.extend_from_slice(taken);
    }

    /// All of it has passed.
    pub(super) fn finish(self) -> Kept {
        let whole = self.beginning.len() as u64 == self.bytes;
        let value = match self.reads {
            Reads::Secret | Reads::Deletion | Reads::SecretDeletion if whole => {
                reduce::read(&self.beginning)
            }
            _ => None,
        };
        let deletion = || value.as_ref().map(reduce::deletion).unwrap_or_default();
        let (reduced, marks) = match self.reads {
            Reads::Nothing => (embedded::reduced(&self.beginning, whole), Vec::new()),
            Reads::Secret => (
                Some(reduce::secret(value.as_ref())),
                reduce::marks(value.as_ref(), &self.beginning, whole),
            ),
            Reads::Token => (Some(Value::Null), Vec::new()),
            Reads::Deletion => (embedded::reduced(&self.beginning, whole), deletion()),
            Reads::SecretDeletion => (Some(reduce::secret(value.as_ref())), deletion()),
        };
        let body = match reduced {
            None => RecordedBody::new(self.content_type, self.bytes, &self.beginning, false),
            Some(Value::Null) => RecordedBody::new(self.content_type, self.bytes, b"", true),
            Some(reduced) => {
                let text = reduced.to_string();
                RecordedBody::new(self.content_type, self.bytes, text.as_bytes(), true)
            }
        };
        let wanted = self.kept && self.bytes > 0;
        Kept {
            body: wanted.then_some(body),
            marks,
        }
    }
}
