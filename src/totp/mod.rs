//! One-time codes as a second factor (RFC 6238): who is enrolled, which codes are good, and how long one counts.
//!
//! No code is looked at before a signature was verified on the connection: [`Codes::accept`] takes an [`Identity`](crate::identity::Identity). Who is enrolled is
//! a part of the [`Config`](crate::config::Config) in force, as locks are, so that policy knows of it by the one way that it knows of
//! anything; the secrets are not, and leave this module only to be shown once.

mod code;
mod codes;
mod file;
mod hidden;
mod remembered;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::code::{NotASecret, Secret};
pub use self::codes::{Accepted, CodeRefused, Codes, NotEnrolled, NotRemoved, Removed};
pub use self::file::{FILE, TotpFile, TotpFileError};
pub use self::hidden::Hidden;
use crate::config::Name;

/// Identities that are enrolled at once.
pub const MOST: usize = 10_000;

/// How long a code counts on its own connection where it counts on no other.
const ON_ITS_OWN: SignedDuration = SignedDuration::from_hours(24);

/// Who is enrolled, and since when. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enrolled(Arc<BTreeMap<Name, Timestamp>>);

impl Enrolled {
    /// Since when somebody is; `None`: they are not.
    pub fn since(&self, identity: &Name) -> Option<Timestamp> {
        self.0.get(identity).copied()
    }

    /// These, for tests of what judges by them.
    #[cfg(test)]
    pub(crate) fn of(enrolled: impl IntoIterator<Item = (Name, Timestamp)>) -> Self {
        Self(Arc::new(enrolled.into_iter().collect()))
    }
}

/// That a one-time code of an identity's was accepted. Only [`Codes`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    enrolment: Timestamp,
    until: Timestamp,
}

impl Passed {
    fn new(enrolment: Timestamp, now: Timestamp, remember: Duration) -> Self {
        let remember = SignedDuration::try_from(remember).unwrap_or(SignedDuration::ZERO);
        let lasts = if remember.is_zero() {
            ON_ITS_OWN
        } else {
            remember
        };
        Self {
            enrolment,
            until: now.saturating_add(lasts).unwrap_or(now),
        }
    }

    /// The enrolment that it was a code of, by when that began.
    pub fn enrolment(&self) -> Timestamp {
        self.enrolment
    }

    /// From then on nothing new is opened by it.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// For tests of what judges by it.
    #[cfg(test)]
    pub(crate) fn of(enrolment: Timestamp, until: Timestamp) -> Self {
        Self { enrolment, until }
    }
}

/// What is told of an enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Whose.
    pub identity: Name,
    /// Since when.
    pub since: Timestamp,
    /// Who enrolled them: `uid N`.
    pub by: String,
    /// Recovery codes that are left.
    pub recovery_left: usize,
    /// After too many wrong codes: none is looked at before then.
    pub not_before: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
