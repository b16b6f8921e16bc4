//! `kind: IdentityProvider`: whose word on who somebody is counts besides a key, and for whom it stands.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::authority::{PrincipalRule, meant_by_rules};
use super::{HttpsListener, Meant, Name};
use crate::identity::Group;
use crate::oidc::SignOn;

/// An OpenID Connect provider, and what is made of what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// `metadata.name`.
    pub name: Name,
    /// `iss` of its tokens, exactly; https.
    pub issuer: String,
    /// What it calls this daemon; `aud` of its tokens.
    pub client_id: String,
    /// By what the daemon proves to be that; `None`: it cannot, and PKCE alone binds a code to whoever asked for it.
    pub client_secret: Option<PathBuf>,
    /// The CA that its server is known by; `None`: the system's.
    pub certificate_authority: Option<PathBuf>,
    /// What is asked for besides `openid`.
    pub scopes: BTreeSet<String>,
    /// The claim that says who somebody is; default `sub`.
    pub username_claim: String,
    /// The claim that lists groups; `None`: it puts nobody into any.
    pub groups_claim: Option<String>,
    /// How what that claim says becomes an identity; the first rule that fits counts.
    pub identities: Vec<PrincipalRule>,
    /// Whoever it speaks for may come with any key. Otherwise it speaks of those whose own key or certificate has proven them.
    pub any_key: bool,
    /// How long its word counts for the key that was there; default 12 h.
    pub remember: Duration,
}

/// `spec.login` of a Bastion: where people show a browser who they are.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginSettings {
    /// The listener, which serves these pages and nothing else.
    pub listener: HttpsListener,
    /// How browsers reach it: `https://HOST[:PORT]`.
    pub public_url: String,
}

impl LoginSettings {
    /// Where a provider sends browsers back to: each to a page of its own, so that what one has said is never taken for another's (RFC 9700, 4.4.2.2).
    pub fn callback(&self, provider: &Name) -> String {
        format!("{}/callback/{provider}", self.public_url)
    }
}

impl IdentityProvider {
    /// Whether somebody can be proven who is listed nowhere.
    pub fn speaks_for_unlisted(&self) -> bool {
        self.identities.iter().any(|rule| !rule.listed)
    }

    /// What its word was understood by. A word that was given under other terms counts no more.
    pub fn terms(&self) -> String {
        let groups = self.groups_claim.as_deref().unwrap_or_default();
        [&self.issuer, &self.client_id, &self.username_claim, groups].join("\n")
    }
}

impl super::Config {
    /// Whom this provider means by what its `usernameClaim` says, if anybody.
    pub fn meant_by_provider<'c>(
        &'c self,
        provider: &IdentityProvider,
        username: &str,
    ) -> Option<Meant<'c>> {
        meant_by_rules(self, &provider.name, &provider.identities, username)
    }

    /// What a provider said of whoever holds a key, if that counts still: the provider is the same, takes it for the same identity, and its time is
    /// not over.
    pub fn sign_on_of<'c>(
        &'c self,
        fingerprint: &str,
        now: Timestamp,
    ) -> Option<(&'c SignOn, Meant<'c>)> {
        let sign_on = self.sign_ons.of(fingerprint)?;
        let provider = self.providers.get(&sign_on.provider)?;
        if sign_on.until <= now || sign_on.terms != provider.terms() {
            return None;
        }
        let meant = self.meant_by_provider(provider, &sign_on.username)?;
        (*meant.name() == sign_on.identity).then_some((sign_on, meant))
    }

    /// The groups that a provider has put an identity into, whose key is known to have been there.
    pub(crate) fn signed_on_groups(
        &self,
        identity: &Name,
        fingerprint: &str,
        now: Timestamp,
    ) -> Option<&BTreeSet<Group>> {
        let (sign_on, _) = self.sign_on_of(fingerprint, now)?;
        (sign_on.identity == *identity).then_some(&sign_on.groups)
    }

    /// Whether some provider speaks for whoever comes with a key that is nobody's.
    pub fn takes_any_key(&self) -> bool {
        self.providers.values().any(|provider| provider.any_key)
    }
}
