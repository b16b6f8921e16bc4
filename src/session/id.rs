//! One name for a session, its recording and its lease.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use jiff::Timestamp;

/// A session's id: a ULID, so that ids sort by time and name the day they belong to. 26 characters of
/// Crockford base 32, upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(Ulid);

/// A string that is no session id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 26 characters of Crockford base 32")]
pub struct NotASessionId;

impl SessionId {
    /// A new id, random, with `now` in its first ten characters (millisecond resolution).
    pub fn new(now: Timestamp) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let random = Ulid::generate().random();
        Self(Ulid::from_parts(millis, random))
    }

    /// Parses a whole id, upper or lower case.
    pub fn parse(id: &str) -> Result<Self, NotASessionId> {
        Ulid::from_string(&id.to_ascii_uppercase())
            .map(Self)
            .map_err(|_| NotASessionId)
    }

    /// When the session was opened, to the millisecond.
    pub fn opened(&self) -> Timestamp {
        i64::try_from(self.0.timestamp_ms())
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// As Kubernetes wants names: lower case.
    pub fn to_lowercase(self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for SessionId {
    type Error = NotASessionId;
    fn try_from(id: String) -> Result<Self, NotASessionId> {
        Self::parse(&id)
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.to_string()
    }
}
