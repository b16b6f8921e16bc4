//! What a lock takes away.

use jiff::Timestamp;
use russh::keys::Certificate;

use super::Denial;
use crate::config::{Config, Name};
use crate::identity::Identity;
use crate::identity::certificate;
use crate::locks::{Holder, Lock};

/// Why an identity that was proven may not do anything now, if it may not.
///
/// # Errors
///
/// The denial, which may be shown to it.
pub fn locked_out(config: &Config, identity: &Identity, now: Timestamp) -> Result<(), Denial> {
    let proof = identity.proof();
    let certificate = proof.certificate().map(|certified| {
        let certificate: &Certificate = certified.certificate();
        let authority = config.authority_of(certificate.signature_key());
        (certificate, authority.map(|authority| &authority.name))
    });
    let holder = Holder {
        identity: identity.name(),
        fingerprint: proof.fingerprint(),
        certificate,
        source: Some(identity.source()),
    };
    match config.locks.on_holder(holder, now) {
        Some(lock) => Err(denial(identity.name(), lock)),
        None => Ok(()),
    }
}

/// Whether somebody who holds a credential is locked out. Where they were when they got it is not known any more.
pub(super) fn holder_is_locked_out(
    config: &Config,
    identity: &Name,
    fingerprint: &str,
    text: Option<&str>,
    now: Timestamp,
) -> bool {
    let certificate = match text.map(certificate::read) {
        None => None,
        Some(Ok(certificate)) => Some(certificate),
        // It would not be accepted either.
        Some(Err(_)) => return true,
    };
    let certificate = certificate.as_ref().map(|certificate| {
        let authority = config.authority_of(certificate.signature_key());
        (certificate, authority.map(|authority| &authority.name))
    });
    let holder = Holder {
        identity,
        fingerprint,
        certificate,
        source: None,
    };
    config.locks.on_holder(holder, now).is_some()
}

/// Why nobody may take a role on a cluster now, if nobody may.
pub(super) fn closed(
    config: &Config,
    identity: &Name,
    role: &Name,
    cluster: &Name,
    now: Timestamp,
) -> Result<(), Denial> {
    let locks = &config.locks;
    let lock = locks
        .on_role(role, now)
        .or_else(|| locks.on_cluster(cluster, now));
    match lock {
        Some(lock) => Err(denial(identity, lock)),
        None => Ok(()),
    }
}

fn denial(identity: &Name, lock: &Lock) -> Denial {
    Denial::Locked {
        identity: identity.clone(),
        on: lock.on.clone(),
        until: lock.until,
        reason: lock.reason.clone(),
    }
}
