//! Whose codes were accepted a while ago, so that not every connection asks for one.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::Passed;
use crate::config::Name;
use crate::identity::Identity;
use crate::locks::Target;

/// Of so many at once. Whoever is forgotten types another code.
const MOST: usize = 4096;

/// Accepted codes. In memory only: a restart of the daemon asks everybody again.
#[derive(Debug, Default)]
pub(super) struct Remembered(HashMap<Whose, Kept>);

/// Everything must be the same: the key of one, from the address of another, is neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Whose {
    identity: Name,
    fingerprint: String,
    source: IpAddr,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    passed: Passed,
    /// The key came with a certificate.
    certified: bool,
}

impl Whose {
    fn of(identity: &Identity) -> Self {
        Self {
            identity: identity.name().clone(),
            fingerprint: identity.proof().fingerprint().to_owned(),
            source: identity.source().to_canonical(),
        }
    }
}

impl Remembered {
    /// Remembers a code that was accepted on a connection of theirs.
    pub(super) fn remember(&mut self, identity: &Identity, passed: Passed, now: Timestamp) {
        if self.0.len() >= MOST {
            self.0.retain(|_, kept| now < kept.passed.until());
        }
        if self.0.len() >= MOST {
            let soonest = self.0.iter().min_by_key(|(_, kept)| kept.passed.until());
            if let Some(whose) = soonest.map(|(whose, _)| whose.clone()) {
                self.0.remove(&whose);
            }
        }
        let certified = identity.proof().certificate().is_some();
        let kept = Kept { passed, certified };
        self.0.insert(Whose::of(identity), kept);
    }

    /// What is remembered of whoever logs in like that.
    pub(super) fn recall(&self, identity: &Identity, now: Timestamp) -> Option<Passed> {
        let kept = self.0.get(&Whose::of(identity))?;
        (now < kept.passed.until()).then_some(kept.passed)
    }

    /// Forgets somebody.
    pub(super) fn forget(&mut self, identity: &Name) {
        self.0.retain(|whose, _| whose.identity != *identity);
    }

    /// Forgets whoever a lock keeps out, for when it is over. Of certificates nothing is known but that there was one: all of them are forgotten.
    pub(super) fn forget_locked(&mut self, on: &Target) {
        self.0.retain(|whose, kept| match on {
            Target::Identity(name) => whose.identity != *name,
            Target::Key(fingerprint) => whose.fingerprint != *fingerprint && !kept.certified,
            Target::Certificate { .. } => !kept.certified,
            Target::Source(network) => !network.contains(whose.source),
            Target::Role(_) | Target::Cluster(_) => true,
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
