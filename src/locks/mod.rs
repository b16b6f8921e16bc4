//! What administrators have locked: an identity, a key, a certificate, a role, a cluster or where somebody comes from.
//!
//! A lock takes away at once what a change of the configuration would take away, and needs no change. Locks are part of the
//! [`Config`](crate::config::Config) in force, so whoever decides by one decides by the other; they stand in a file of their own,
//! which only the daemon writes, and outlive it.

mod file;
mod locking;
mod target;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use russh::keys::{Certificate, HashAlg};
use serde::{Deserialize, Serialize};

pub use self::file::{FILE, LockFile, LockFileError};
pub use self::locking::{Locking, NotLocked};
pub use self::target::{Kind, NotATarget, Target};
use crate::config::Name;

/// Locks at once.
pub const MOST: usize = 1000;
/// The longest reason, in bytes.
const LONGEST_REASON: usize = 500;

/// One lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// What is locked.
    pub on: Target,
    /// From when on it is not any more; `None`: until an administrator unlocks it.
    pub until: Option<Timestamp>,
    /// Why, for administrators and auditors.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Who said so: `uid N`.
    pub by: String,
}

/// A reason that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one line, 1 to {LONGEST_REASON} bytes long, of printable characters")]
pub struct NotAReason;

/// Whether something can be a reason.
///
/// # Errors
///
/// If it is empty, too long, or not one line.
pub fn check_reason(reason: &str) -> Result<(), NotAReason> {
    let fine = !reason.trim().is_empty()
        && reason.len() <= LONGEST_REASON
        && !reason.chars().any(char::is_control);
    if fine { Ok(()) } else { Err(NotAReason) }
}

impl Lock {
    /// Whether it locks at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// All locks. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Locks(Arc<Vec<Lock>>);

/// By what somebody is held, or was let in.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) identity: &'a Name,
    /// Of the key that was signed with.
    pub(crate) fingerprint: &'a str,
    /// With the authority that the configuration knows it by.
    pub(crate) certificate: Option<(&'a Certificate, Option<&'a Name>)>,
    /// `None` where it is not known any more.
    pub(crate) source: Option<IpAddr>,
}

impl Locks {
    pub(crate) fn new(locks: Vec<Lock>) -> Self {
        Self(Arc::new(locks))
    }

    /// All that hold at `now`, in the order in which they were made.
    pub fn standing(&self, now: Timestamp) -> impl Iterator<Item = &Lock> {
        self.0.iter().filter(move |lock| lock.holds(now))
    }

    /// The lock on this thing, if it holds.
    pub fn on(&self, on: &Target, now: Timestamp) -> Option<&Lock> {
        self.standing(now).find(|lock| lock.on == *on)
    }

    /// With this lock in place of one on the same thing, and without those that are over.
    fn with(&self, lock: Lock, now: Timestamp) -> Self {
        let mut locks = Vec::clone(&self.without(&lock.on, now).0);
        locks.push(lock);
        Self::new(locks)
    }

    /// Without the lock on this thing, and without those that are over.
    fn without(&self, on: &Target, now: Timestamp) -> Self {
        let stays = |lock: &&Lock| lock.on != *on;
        Self::new(self.standing(now).filter(stays).cloned().collect())
    }

    /// The lock that keeps somebody out.
    pub(crate) fn on_holder(&self, holder: Holder<'_>, now: Timestamp) -> Option<&Lock> {
        self.standing(now).find(|lock| match &lock.on {
            Target::Identity(name) => name == holder.identity,
            Target::Key(fingerprint) => is_of_key(holder, fingerprint),
            Target::Certificate { authority, serial } => {
                holder.certificate.is_some_and(|(certificate, of)| {
                    of == Some(authority) && certificate.serial() == *serial
                })
            }
            Target::Source(network) => holder.source.is_some_and(|it| network.contains(it)),
            Target::Role(_) | Target::Cluster(_) => false,
        })
    }

    /// The lock on a role.
    pub(crate) fn on_role(&self, role: &Name, now: Timestamp) -> Option<&Lock> {
        self.standing(now)
            .find(|lock| matches!(&lock.on, Target::Role(name) if name == role))
    }

    /// The lock on a cluster.
    pub(crate) fn on_cluster(&self, cluster: &Name, now: Timestamp) -> Option<&Lock> {
        self.standing(now)
            .find(|lock| matches!(&lock.on, Target::Cluster(name) if name == cluster))
    }
}

/// A key is one that is signed with, or one that certificates are signed with.
fn is_of_key(holder: Holder<'_>, fingerprint: &str) -> bool {
    let signed_by = |certificate: &Certificate| {
        let key = certificate.signature_key().fingerprint(HashAlg::Sha256);
        key.to_string() == fingerprint
    };
    holder.fingerprint == fingerprint
        || holder
            .certificate
            .is_some_and(|(certificate, _)| signed_by(certificate))
}

#[cfg(test)]
mod tests;
