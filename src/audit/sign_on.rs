//! The events about signing in with an identity provider, with their stable names. None of them holds a link, a code or a token.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::Name;
use crate::identity::Group;
use crate::messages::Peer;

/// How somebody signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SignOnFlow {
    /// The authorization code flow, by a link of the daemon's.
    Code,
    /// The device flow (RFC 8628), which is weaker.
    Device,
}

impl SignOnFlow {
    /// As events and metrics call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Device => "device",
        }
    }
}

/// One of them; as for [`Event`](super::Event), names are stable within `v: 1`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum SignOnEvent<'a> {
    /// Somebody whose key has signed was given a link to sign in by, or has asked for a code of the provider's instead.
    #[serde(rename = "sign-on.begun")]
    Begun {
        /// Who connects.
        peer: &'a Peer,
        /// Whose key it is; none if it is nobody's.
        identity: Option<&'a Name>,
        /// The key that signed.
        fingerprint: &'a str,
        /// The login name that was asked for, escaped and cut to 256 characters.
        principal: &'a str,
        /// By a link, or by a code of the provider's.
        flow: SignOnFlow,
    },
    /// A provider has said who holds the key. By a link, and the code that came of it was typed into the ssh that it was for; or by the device flow, for one
    /// connection and the role of its login name. Written before it counts.
    #[serde(rename = "sign-on.accepted")]
    Accepted {
        /// Who connects.
        peer: &'a Peer,
        /// For whom that was taken.
        identity: &'a Name,
        /// The key that signed.
        fingerprint: &'a str,
        /// The login name that was asked for, escaped and cut to 256 characters.
        principal: &'a str,
        /// By a link, or by a code of the provider's.
        flow: SignOnFlow,
        /// Which provider.
        provider: &'a Name,
        /// Its `sub`.
        subject: &'a str,
        /// What its `usernameClaim` said.
        username: &'a str,
        /// The groups that it put them into; none by the device flow.
        groups: &'a BTreeSet<Group>,
        /// Where the browser was; none by the device flow, where nobody can say.
        browser: Option<IpAddr>,
        /// From then on it counts no more, and by the device flow no longer than its connection.
        counts_until: Timestamp,
    },
    /// Somebody whose key has signed did not sign in, or not as somebody who counts here.
    #[serde(rename = "sign-on.refused")]
    Refused {
        /// Who connects.
        peer: &'a Peer,
        /// Whose key it is; none if it is nobody's.
        identity: Option<&'a Name>,
        /// The key that signed.
        fingerprint: &'a str,
        /// The login name that was asked for, escaped and cut to 256 characters.
        principal: &'a str,
        /// Which provider, if one was chosen.
        provider: Option<&'a Name>,
        /// Why.
        reason: String,
    },
    /// An administrator removed what a provider has said of whoever holds a key.
    #[serde(rename = "sign-on.removed")]
    Removed {
        /// For whom it was taken.
        identity: &'a Name,
        /// The key.
        fingerprint: &'a str,
        /// Which provider.
        provider: &'a Name,
        /// Who said so.
        who: &'a str,
        /// Why a restart of the daemon would bring it back; none if it would not.
        not_kept: Option<&'a str>,
    },
}

impl SignOnEvent<'_> {
    /// Whether it may take what is kept back for a full disk: what anybody with some key can cause, may not.
    pub(super) fn is_owed(&self) -> bool {
        !matches!(
            self,
            Self::Begun { identity: None, .. } | Self::Refused { identity: None, .. }
        )
    }
}
