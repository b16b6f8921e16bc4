//! `spec` of an IdentityProvider, and `spec.login` of a Bastion.

use std::net::SocketAddr;
use std::time::Duration;

use super::authority::{USERNAME, principal_rule_of};
use super::{path, some, within};
use crate::config::authority::PrincipalRule;
use crate::config::fields::{Fields, boolean, list, parsed};
use crate::config::problem::{At, Gathered};
use crate::config::scalar;
use crate::config::yaml::Node;

/// The longest name of a claim or a scope, and the longest id of a client.
const MAX_WORD: usize = 128;

#[derive(Debug)]
pub(in crate::config) struct RawProvider {
    pub(in crate::config) issuer: Option<At<String>>,
    pub(in crate::config) client_id: Option<At<String>>,
    pub(in crate::config) client_secret_file: Option<At<String>>,
    pub(in crate::config) certificate_authority: Option<At<String>>,
    pub(in crate::config) scopes: Vec<At<String>>,
    pub(in crate::config) username_claim: Option<At<String>>,
    pub(in crate::config) groups_claim: Option<At<String>>,
    pub(in crate::config) identities: Option<Vec<At<PrincipalRule>>>,
    pub(in crate::config) any_key: Option<At<bool>>,
    pub(in crate::config) remember: Option<At<Duration>>,
}

#[derive(Debug)]
pub(in crate::config) struct RawLogin {
    pub(in crate::config) listen: Option<At<SocketAddr>>,
    pub(in crate::config) certificate: Option<At<String>>,
    pub(in crate::config) key: Option<At<String>>,
    pub(in crate::config) public_url: Option<At<String>>,
}

pub(in crate::config) fn provider(gathered: &Gathered, node: &Node) -> Option<RawProvider> {
    let mut spec = Fields::open(gathered, node, "an IdentityProvider's spec")?;
    let raw = RawProvider {
        issuer: spec.required("issuer", |g, n| parsed(g, n, issuer)),
        client_id: spec.required("clientId", |g, n| parsed(g, n, word)),
        client_secret_file: spec.optional("clientSecretFile", path),
        certificate_authority: spec.optional("certificateAuthority", path),
        scopes: spec
            .optional("scopes", |g, n| list(g, n, |g, n| parsed(g, n, word)))
            .map(|at| at.value)
            .unwrap_or_default(),
        username_claim: spec.optional("usernameClaim", |g, n| parsed(g, n, word)),
        groups_claim: spec.optional("groupsClaim", |g, n| parsed(g, n, word)),
        identities: spec
            .optional("identities", |g, n| {
                some(
                    g,
                    n,
                    "an empty list means nobody; name a rule or leave the key out",
                    |g, n| principal_rule_of(g, n, &USERNAME),
                )
            })
            .map(|at| at.value),
        any_key: spec.optional("anyKey", boolean),
        remember: spec.optional("remember", |g, n| within(g, n, "1m", "720h")),
    };
    spec.close();
    Some(raw)
}

pub(in crate::config) fn login(gathered: &Gathered, node: &Node) -> Option<RawLogin> {
    let mut spec = Fields::open(gathered, node, "login")?;
    let raw = RawLogin {
        listen: spec.required("listen", |g, n| parsed(g, n, scalar::listen)),
        certificate: spec.required("certificate", path),
        key: spec.required("key", path),
        public_url: spec.required("publicUrl", |g, n| parsed(g, n, public_url)),
    };
    spec.close();
    Some(raw)
}

fn issuer(text: &str) -> Result<String, String> {
    match scalar::https_url(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "'{}' is not an issuer's URL: write it as the provider's discovery document does, https://HOST[:PORT][/PATH]",
            text.escape_debug()
        )),
    }
}

fn public_url(text: &str) -> Result<String, String> {
    let path = scalar::https_url(text).and_then(|_| text.get("https://".len()..));
    match path {
        Some(authority) if !authority.contains('/') => Ok(text.to_owned()),
        _ => Err(format!(
            "'{}' is not how browsers reach this listener: write https://HOST[:PORT], without a path",
            text.escape_debug()
        )),
    }
}

fn word(text: &str) -> Result<String, String> {
    let fine = (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "this is not 1 to {MAX_WORD} printable ASCII characters without spaces"
        ))
    }
}
