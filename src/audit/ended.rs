//! What events say of acts and of ends.

use serde::Serialize;

/// What an administrator did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Act<'a> {
    /// Listed live sessions.
    Sessions,
    /// Ended a session.
    Kill {
        /// Which one.
        session: &'a str,
        /// Whether it was live.
        found: bool,
    },
    /// Took back handed-out credentials and ended the sessions concerned.
    Revoke {
        /// A session id or an identity's name.
        what: &'a str,
        /// How many leases and sessions it met.
        met: usize,
    },
    /// Asked for a recording to be deleted.
    Delete {
        /// Which one.
        session: &'a str,
        /// Whether it is.
        done: bool,
    },
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    /// By itself.
    Exit {
        /// Its status.
        status: u32,
    },
    /// By a signal.
    Signal {
        /// Its name, without `SIG`.
        name: String,
    },
    /// We ended it.
    Cut {
        /// Why.
        reason: String,
    },
}
