//! `spec.issuer` of a Bastion.

use std::net::SocketAddr;

use super::path;
use crate::config::fields::{Fields, list, parsed, text};
use crate::config::issuer::WELL_KNOWN;
use crate::config::model::CredentialTtl;
use crate::config::problem::{At, Gathered};
use crate::config::scalar;
use crate::config::yaml::{Node, Value};
use crate::issuer::Jwk;

#[derive(Debug)]
pub(in crate::config) struct RawIssuer {
    pub(in crate::config) url: Option<At<String>>,
    pub(in crate::config) discovery_url: Option<At<String>>,
    pub(in crate::config) certificate_authority: Option<At<String>>,
    pub(in crate::config) signing_keys: Option<At<Vec<At<RawIssuerKey>>>>,
    pub(in crate::config) token_ttl: Option<At<CredentialTtl>>,
    pub(in crate::config) listen: Option<At<SocketAddr>>,
    pub(in crate::config) certificate: Option<At<String>>,
    pub(in crate::config) key: Option<At<String>>,
}

#[derive(Debug)]
pub(in crate::config) enum RawIssuerKey {
    File(String),
    Socket { socket: String, public_key: Jwk },
}

pub(in crate::config) fn issuer(gathered: &Gathered, node: &Node) -> Option<RawIssuer> {
    let mut spec = Fields::open(gathered, node, "issuer")?;
    let served = ["listen", "certificate", "key"].map(|key| spec.has(key));
    let raw = RawIssuer {
        url: spec.required("url", |g, n| parsed(g, n, issuer_url)),
        discovery_url: spec.optional("discoveryUrl", |g, n| parsed(g, n, discovery_url)),
        certificate_authority: spec.optional("certificateAuthority", path),
        signing_keys: spec.required("signingKeys", |g, n| list(g, n, signing_key)),
        token_ttl: spec.optional("tokenTtl", |g, n| parsed(g, n, token_ttl)),
        listen: spec.optional("listen", |g, n| parsed(g, n, scalar::listen)),
        certificate: spec.optional("certificate", path),
        key: spec.optional("key", path),
    };
    spec.close();
    if served.contains(&true) && served.contains(&false) {
        gathered.report(
            &node.at,
            "an issuer that serves its documents needs 'listen', 'certificate' and 'key'; one whose documents are exported needs none of them",
        );
    }
    Some(raw)
}

fn signing_key(gathered: &Gathered, node: &Node) -> Option<RawIssuerKey> {
    if !matches!(node.value, Value::Map(_)) {
        return path(gathered, node).map(RawIssuerKey::File);
    }
    let mut spec = Fields::open(gathered, node, "a key behind a socket")?;
    let socket = spec.required("socket", path);
    let public_key = spec.required("publicKey", public_key);
    spec.close();
    Some(RawIssuerKey::Socket {
        socket: socket?.value,
        public_key: public_key?.value,
    })
}

/// As `issuer signer` prints it: JSON, which is YAML.
fn public_key(gathered: &Gathered, node: &Node) -> Option<Jwk> {
    let mut spec = Fields::open(gathered, node, "a public key")?;
    let mut take = |key| spec.optional(key, text).map(|at| at.value);
    let (kty, crv, alg) = (take("kty"), take("crv"), take("alg"));
    let (usage, kid) = (take("use"), take("kid"));
    let (x, y, n, e) = (take("x"), take("y"), take("n"), take("e"));
    spec.close();
    let key = match (kty.as_deref(), crv.as_deref()) {
        (Some("EC"), Some("P-256")) => x.zip(y).and_then(|(x, y)| Jwk::ec(&x, &y)),
        (Some("RSA"), None) => n.zip(e).and_then(|(n, e)| Jwk::rsa(&n, &e)),
        _ => None,
    };
    let says = |said: Option<String>, is: &str| said.is_none_or(|said| said == is);
    let key = key.filter(|key| {
        says(alg, key.algorithm().as_str()) && says(kid, key.id()) && says(usage, "sig")
    });
    if key.is_none() {
        gathered.report(
            &node.at,
            "this is no public key for ES256 or RS256: write what 'bastion-audit issuer signer' prints",
        );
    }
    key
}

fn issuer_url(text: &str) -> Result<String, String> {
    match scalar::https_url(text) {
        Some(_) if !text.ends_with('/') => Ok(text.to_owned()),
        _ => Err(format!(
            "'{}' is not an issuer's URL: write https://HOST[:PORT][/PATH], without a slash at its end",
            text.escape_debug()
        )),
    }
}

fn discovery_url(text: &str) -> Result<String, String> {
    match scalar::https_url(text) {
        Some(_) if text.ends_with(WELL_KNOWN) => Ok(text.to_owned()),
        _ => Err(format!(
            "'{}' is not a discovery document's URL: write https://HOST[:PORT][/PATH]{WELL_KNOWN}",
            text.escape_debug()
        )),
    }
}

fn token_ttl(text: &str) -> Result<CredentialTtl, String> {
    let ttl = scalar::duration_within(text, "2m", "10m")?;
    u32::try_from(ttl.as_secs())
        .ok()
        .and_then(|seconds| CredentialTtl::from_secs(seconds).ok())
        .ok_or_else(|| format!("{text} is out of bounds: 2m to 10m"))
}
