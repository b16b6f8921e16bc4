//! OpenID Connect as a way to say who holds a key: the authorization code flow with PKCE (RFC 6749, RFC 7636), in a browser, beside a stock ssh.
//!
//! A provider is asked only about a connection on which a signature was verified. Its word goes to the browser that asked for it, as a short code
//! ([`Attempts`]), and counts where that code is typed: into the ssh that the link was made for. So a link that somebody else passed on is of no use to
//! them: they do not see the code. What was said is kept with the key's fingerprint ([`SignOnStore`]), so that the next logins need the key alone, and is a
//! part of the [`Config`] in force, as locks and enrolments are.
//!
//! The device flow (`device.rs`) is another way, weaker and for roles that opt in: what it proves is kept by nobody but its connection.

mod attempts;
mod client;
mod counts;
mod device;
mod error;
mod file;
mod http;
mod pages;
mod polling;
mod secret;
mod site;
mod store;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

pub(crate) use attempts::LIFE;
pub use attempts::{Asked, Attempts, Begun, Full, Ticket, Typed};
pub use client::Providers;
pub(crate) use client::Word;
pub use counts::{NotSignedOn, SignOnCounts};
pub use device::DeviceWord;
pub(crate) use device::{DeviceCode, Outcome};
pub use error::{NotMeant, ProviderError};
pub use file::{FILE, SignOnFile, SignOnFileError};
pub use site::{LoginPages, LoginServer};
pub use store::{NotBound, NotRemoved, Removed, SignOnStore, Whose};

use crate::config::{Config, Name};
use crate::identity::Group;

/// What a provider said of whoever holds a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignOn {
    /// The key, `SHA256:...`.
    pub fingerprint: String,
    /// For whom it was taken.
    pub identity: Name,
    /// Which provider.
    pub provider: Name,
    /// What its word was understood by: [`IdentityProvider::terms`](crate::config::IdentityProvider::terms).
    pub terms: String,
    /// `sub`.
    pub subject: String,
    /// What its `usernameClaim` said.
    pub username: String,
    /// The groups that it named.
    pub groups: BTreeSet<Group>,
    /// When it was said.
    pub since: Timestamp,
    /// It counts no longer from then on.
    pub until: Timestamp,
}

/// All of them that are in force, by the key's fingerprint. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignOns(Arc<BTreeMap<String, SignOn>>);

impl SignOns {
    /// Of this key, whatever it is worth: see [`Config::sign_on_of`].
    pub fn of(&self, fingerprint: &str) -> Option<&SignOn> {
        self.0.get(fingerprint)
    }

    /// When the next one ends.
    pub fn ends(&self) -> impl Iterator<Item = Timestamp> {
        self.0.values().map(|one| one.until)
    }

    /// These.
    pub(crate) fn these(sign_ons: impl IntoIterator<Item = SignOn>) -> Self {
        let by_key = sign_ons
            .into_iter()
            .map(|one| (one.fingerprint.clone(), one));
        Self(Arc::new(by_key.collect()))
    }
}

/// What a provider said, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which provider.
    pub provider: Name,
    /// What its word was understood by.
    pub terms: String,
    /// `sub`.
    pub subject: String,
    /// What its `usernameClaim` said.
    pub username: String,
    /// The groups that it named.
    pub groups: BTreeSet<Group>,
    /// Where the browser was; `None`: by the device flow, where nobody can say.
    pub browser: Option<IpAddr>,
}

/// Whom a provider's word means, for who asked.
///
/// # Errors
///
/// If that is nobody, or not the one whose key it is.
pub fn meant(config: &Config, asked: &Asked, said: &Said) -> Result<Name, NotMeant> {
    let provider = config
        .providers
        .get(&said.provider)
        .filter(|provider| provider.terms() == said.terms)
        .ok_or_else(|| NotMeant::Changed(said.provider.clone()))?;
    let nobody = || NotMeant::Nobody {
        provider: said.provider.clone(),
        username: pages::shown(&said.username),
    };
    let meant = config
        .meant_by_provider(provider, &said.username)
        .ok_or_else(nobody)?;
    match &asked.identity {
        None if !provider.any_key => Err(nobody()),
        Some(holder) if holder != meant.name() => Err(NotMeant::Another {
            provider: said.provider.clone(),
            username: pages::shown(&said.username),
            holder: holder.clone(),
        }),
        _ => Ok(meant.name().clone()),
    }
}

#[cfg(test)]
mod tests;
