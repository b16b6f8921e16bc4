//! The local socket: live sessions, kill, revoke. One JSON object a line each way; each act is audited.

mod client;
mod locks;
mod metrics;
mod oidc;
mod serve;
mod totp;

use serde::{Deserialize, Serialize};

use crate::log::Standing;
use crate::mint::LiveLease;
use crate::session::LiveSession;
use crate::store::ship::Waiting;
use crate::totp::Hidden;

pub use client::{AdminError, ask};
pub use serve::AdminSocket;

/// The socket's name in the state directory.
pub const SOCKET: &str = "admin.sock";
/// Longest line either way, in bytes.
const LONGEST: u64 = 4 << 20;

/// What an administrator asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// What is open, and which credentials are out.
    Sessions,
    /// What is counted.
    Metrics,
    /// End a session now.
    Kill {
        /// Its id, whole.
        session: crate::session::SessionId,
    },
    /// Take back credentials that were handed out, and end open sessions.
    Revoke {
        /// Those of one session.
        session: Option<crate::session::SessionId>,
        /// Those of one identity.
        identity: Option<crate::config::Name>,
    },
    /// Lock something at once, and end what it takes away.
    Lock {
        /// What.
        on: crate::locks::Target,
        /// For how many seconds; without it until it is unlocked.
        #[serde(rename = "for")]
        seconds: Option<u64>,
        /// Why.
        reason: String,
    },
    /// End a lock.
    Unlock {
        /// On what.
        on: crate::locks::Target,
    },
    /// What is locked.
    Locks,
    /// A new secret for somebody's one-time codes. Nothing is kept of it.
    TotpOffer {
        /// For whom.
        identity: crate::config::Name,
    },
    /// Enroll somebody for one-time codes.
    TotpEnroll {
        /// Whom.
        identity: crate::config::Name,
        /// What the codes are made from, base32, as it was offered.
        secret: Hidden,
        /// The code that their authenticator shows.
        code: Hidden,
    },
    /// Remove an enrolment.
    TotpRemove {
        /// Whose.
        identity: crate::config::Name,
    },
    /// Who is enrolled.
    TotpList,
    /// Remove what providers have said of whoever holds a key.
    OidcRemove {
        /// Of this key, `SHA256:...`,
        key: Option<String>,
        /// or of all keys of an identity.
        identity: Option<crate::config::Name>,
    },
    /// What providers have said of whoever holds which key.
    OidcList,
    /// Hold a recording: nothing deletes it until it is released.
    Hold {
        /// Which one.
        session: crate::session::SessionId,
        /// Why.
        reason: String,
    },
    /// End a hold.
    Release {
        /// Which one.
        session: crate::session::SessionId,
    },
    /// Delete a recording.
    Delete {
        /// Which one.
        session: crate::session::SessionId,
        /// Why.
        reason: String,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// To [`Request::Sessions`].
    Sessions {
        /// Open ones, oldest first.
        live: Vec<LiveSession>,
        /// Credentials that outlive their session.
        handed_out: Vec<LiveLease>,
        /// Recordings that the object store does not have yet, oldest first.
        waiting: Vec<Waiting>,
        /// How it goes to keep checkpoints of the evidence log elsewhere.
        #[serde(default)]
        witnesses: Vec<Standing>,
        /// What is locked.
        #[serde(default)]
        locks: Vec<crate::locks::Lock>,
    },
    /// To [`Request::Metrics`], in the text format of Prometheus.
    Metrics(String),
    /// To [`Request::Kill`]: whether it was open.
    Killed(bool),
    /// To [`Request::Revoke`].
    Revoked {
        /// What became of each credential.
        credentials: Vec<crate::revoke::TakenBack>,
        /// Open sessions that were ended.
        sessions: usize,
    },
    /// To [`Request::Lock`].
    Locked {
        /// As it is in force.
        lock: crate::locks::Lock,
        /// What became of each credential that it takes away.
        credentials: Vec<crate::revoke::TakenBack>,
        /// Open sessions that were ended.
        sessions: usize,
        /// Why a restart of the daemon would unlock it; `None`: it would not.
        not_kept: Option<String>,
    },
    /// To [`Request::Unlock`]: whether it was locked.
    Unlocked(bool),
    /// To [`Request::Locks`], in the order in which they were made.
    Locks(Vec<crate::locks::Lock>),
    /// To [`Request::TotpOffer`].
    TotpOffered {
        /// Base32.
        secret: Hidden,
        /// The same for an authenticator.
        url: Hidden,
        /// Whether there is such an Identity document.
        listed: bool,
    },
    /// To [`Request::TotpEnroll`]: the recovery codes.
    TotpEnrolled(Vec<Hidden>),
    /// To [`Request::TotpEnroll`]: that code is wrong.
    TotpWrongCode(String),
    /// To [`Request::TotpRemove`].
    TotpRemoved {
        /// Whether they were enrolled.
        was: bool,
        /// What became of each credential that it takes away.
        credentials: Vec<crate::revoke::TakenBack>,
        /// Open sessions that were ended.
        sessions: usize,
        /// Why a restart of the daemon would bring it back; `None`: it would not.
        not_kept: Option<String>,
    },
    /// To [`Request::TotpList`], by name.
    TotpList(Vec<crate::totp::Listed>),
    /// To [`Request::OidcRemove`].
    OidcRemoved {
        /// What is removed.
        sign_ons: Vec<crate::oidc::SignOn>,
        /// What became of each credential that it takes away.
        credentials: Vec<crate::revoke::TakenBack>,
        /// Open sessions that were ended.
        sessions: usize,
        /// Why a restart of the daemon would bring it back; `None`: it would not.
        not_kept: Option<String>,
    },
    /// To [`Request::OidcList`], by identity.
    OidcList(Vec<crate::oidc::SignOn>),
    /// To [`Request::Hold`] and [`Request::Release`]: whether it changed anything.
    Held(bool),
    /// To [`Request::Delete`]: it is gone.
    Deleted,
    /// What was asked makes no sense, or may not be.
    Error(String),
}
