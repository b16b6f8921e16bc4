//! The configuration's own keys as proof.

use jiff::Timestamp;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey};
use serde::{Deserialize, Serialize};

use super::{Identity, Proof};
use crate::config::{AuthorizedKey, Config};
use crate::messages::{Offer, Peer};

/// An ECDSA P-521 key takes some 260 characters; longer offers are not read.
const MAX_KEY_TEXT: usize = 1024;

/// Why nobody was proven. For the audit log: the client itself is never told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
}

/// Says who a client is, whose signature by the offered key *was verified*. Constant in the number of identities.
///
/// The login name in the offer has no part in this.
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
    let key = offered(offer)?;
    let (document, line) = config.key_owner(&key).ok_or(Refusal::UnknownKey)?;
    if line.expires.is_some_and(|expires| expires <= now) {
        return Err(Refusal::KeyExpired);
    }
    if !source_allowed(line, peer) {
        return Err(Refusal::SourceNotAllowed);
    }
    Ok(Identity {
        name: document.name.clone(),
        groups: document.groups.clone(),
        proof: Proof::Key {
            fingerprint: fingerprint(&key),
            algorithm: offer.algorithm.clone(),
            no_pty: line.no_pty,
            no_forwarding: line.no_forwarding,
        },
    })
}

/// Whether the offered key is somebody's: what a probe may learn. Grants nothing.
pub fn is_known(config: &Config, offer: &Offer) -> bool {
    offered(offer).is_ok_and(|key| config.key_owner(&key).is_some())
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

/// As sshd reads `from=`: one network must match, and no negated one may.
fn source_allowed(line: &AuthorizedKey, peer: &Peer) -> bool {
    let address = peer.address.ip();
    let mut matching = line
        .from
        .iter()
        .filter(|network| network.contains(address))
        .peekable();
    line.from.is_empty() || (matching.peek().is_some() && matching.all(|network| !network.negated))
}
