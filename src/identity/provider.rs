//! Offers to identities: by the configuration's own keys, or by certificates of its authorities.

use jiff::Timestamp;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey};
use serde::{Deserialize, Serialize};

use super::certificate::{self, CertificateFacts, CertificateRefusal, When};
use super::{Identity, Proof};
use crate::config::{Config, Meant, allowed_from};
use crate::messages::{Offer, Peer};

/// An ECDSA P-521 key takes some 260 characters; longer offers are not read.
const MAX_KEY_TEXT: usize = 1024;

/// Why nobody was proven. For the audit log: the client itself is never told which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// What was offered is no public key.
    #[error("what was offered is not a public key")]
    BadKey,
    /// The key's or the signature's algorithm is not accepted, or they do not belong together.
    #[error("the algorithm of the key or of its signature is not accepted")]
    AlgorithmNotAllowed,
    /// No identity has this key.
    #[error("no identity has this key")]
    UnknownKey,
    /// The key's `expiry-time` has passed.
    #[error("the key has expired")]
    KeyExpired,
    /// The key's `from` does not allow this address.
    #[error("the key may not be used from this address")]
    SourceNotAllowed,
    /// A certificate authority has taken the key back.
    #[error("the key was revoked")]
    KeyRevoked,
    /// The certificate proves nobody.
    #[error(transparent)]
    Certificate(#[from] CertificateRefusal),
}

/// Says who a client is, whose signature by the offered key *was verified*. Constant in the number of identities.
///
/// The login name in the offer proves nothing. Of a certificate that proves several identities it says which is meant.
///
/// # Errors
///
/// Refuses whatever does not prove exactly one identity of this configuration, now and from there.
pub fn identify(
    config: &Config,
    offer: &Offer,
    peer: &Peer,
    now: Timestamp,
) -> Result<Identity, Refusal> {
    by(config, offer, peer, now, When::At(now))
}

/// Says whether a client that was proven before is the same under another configuration. That its certificate has ended since is
/// no reason against it; what is new on the connection is judged by that all the same.
///
/// # Errors
///
/// As [`identify`].
pub(crate) fn identify_again(
    config: &Config,
    offer: &Offer,
    peer: &Peer,
    now: Timestamp,
    before: &Identity,
) -> Result<Identity, Refusal> {
    by(config, offer, peer, now, When::Before(before.name()))
}

fn by(
    config: &Config,
    offer: &Offer,
    peer: &Peer,
    now: Timestamp,
    when: When<'_>,
) -> Result<Identity, Refusal> {
    let key = offered(offer)?;
    let identity = match &offer.certificate {
        None => by_key(config, offer, &key, peer, now)?,
        Some(text) => {
            let (principal, address) = (&offer.principal, peer.address.ip());
            certificate::identify(config, key.key_data(), text, principal, address, when)?
        }
    };
    Ok(identity.with_sign_on(config, now))
}

fn by_key(
    config: &Config,
    offer: &Offer,
    key: &PublicKey,
    peer: &Peer,
    now: Timestamp,
) -> Result<Identity, Refusal> {
    let Some((document, line)) = config.key_owner(key) else {
        return by_sign_on(config, offer, key, peer, now);
    };
    if config.has_revoked(key.key_data()) {
        return Err(Refusal::KeyRevoked);
    }
    if line.expires.is_some_and(|expires| expires <= now) {
        return Err(Refusal::KeyExpired);
    }
    if !allowed_from(&line.from, peer.address.ip()) {
        return Err(Refusal::SourceNotAllowed);
    }
    Ok(Identity {
        name: document.name.clone(),
        groups: document.groups.clone(),
        proof: Proof::Key {
            fingerprint: fingerprint(key),
            algorithm: offer.algorithm.clone(),
            no_pty: line.no_pty,
            no_forwarding: line.no_forwarding,
        },
        source: peer.address.ip(),
        passed: None,
        signed_on: None,
        device: None,
    })
}

/// A key that is nobody's by the configuration: a provider may have said who holds it.
fn by_sign_on(
    config: &Config,
    offer: &Offer,
    key: &PublicKey,
    peer: &Peer,
    now: Timestamp,
) -> Result<Identity, Refusal> {
    if !config.takes_any_key() {
        return Err(Refusal::UnknownKey);
    }
    if config.has_revoked(key.key_data()) {
        return Err(Refusal::KeyRevoked);
    }
    let fingerprint = fingerprint(key);
    let (_, meant) = any_key(config, &fingerprint, now).ok_or(Refusal::UnknownKey)?;
    Ok(Identity {
        name: meant.name().clone(),
        groups: match &meant {
            Meant::Listed(document) => document.groups.clone(),
            Meant::Unlisted(_) => Default::default(),
        },
        proof: Proof::SignedOn {
            fingerprint,
            algorithm: offer.algorithm.clone(),
        },
        source: peer.address.ip(),
        passed: None,
        signed_on: None,
        device: None,
    })
}

/// Whom a provider that takes any key has named as the holder of this one.
pub(crate) fn any_key<'c>(
    config: &'c Config,
    fingerprint: &str,
    now: Timestamp,
) -> Option<(&'c crate::oidc::SignOn, Meant<'c>)> {
    config
        .sign_on_of(fingerprint, now)
        .filter(|(sign_on, _)| takes_any_key(config, sign_on))
}

fn takes_any_key(config: &Config, sign_on: &crate::oidc::SignOn) -> bool {
    let provider = config.providers.get(&sign_on.provider);
    provider.is_some_and(|provider| provider.any_key)
}

/// Whether the offered key is somebody's by the configuration. Grants nothing.
pub fn is_known(config: &Config, offer: &Offer) -> bool {
    offered(offer).is_ok_and(|key| config.key_owner(&key).is_some())
}

/// Whether a key is worth a signature: what a probe may learn. Grants nothing.
///
/// A client asks about a certificate as about a key, and russh shows only the key: where certificates are taken, every key
/// that could be certified is worth one. So is every key where a provider may say who holds it.
pub fn is_worth_a_signature(config: &Config, offer: &Offer) -> bool {
    let any = !config.authorities.is_empty() || config.takes_any_key();
    (any && offered(offer).is_ok()) || is_known(config, offer)
}

/// What the offered certificate says of itself, for the audit log.
pub fn certificate_facts(config: &Config, offer: &Offer) -> Option<CertificateFacts> {
    let certificate = certificate::read(offer.certificate.as_ref()?).ok()?;
    Some(CertificateFacts::of(config, &certificate))
}

/// The fingerprint of what was offered, for the audit log; empty if it is no key.
pub fn fingerprint_of(offer: &Offer) -> String {
    let key = offered(offer).ok();
    key.as_ref().map(fingerprint).unwrap_or_default()
}

/// As `ssh-keygen -l` prints it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn offered(offer: &Offer) -> Result<PublicKey, Refusal> {
    if offer.public_key.len() > MAX_KEY_TEXT {
        return Err(Refusal::BadKey);
    }
    let key = PublicKey::from_openssh(&offer.public_key).map_err(|_| Refusal::BadKey)?;
    // By variant: a certificate's `algorithm()` would be that of the key inside of it.
    let accepted = matches!(key.key_data(), KeyData::Ed25519(_) | KeyData::Ecdsa(_));
    // These kinds of key sign under their own name and no other.
    if accepted && offer.algorithm == key.algorithm().as_str() {
        Ok(key)
    } else {
        Err(Refusal::AlgorithmNotAllowed)
    }
}
