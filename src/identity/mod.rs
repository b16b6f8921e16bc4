//! Who was proven, and by what.

mod group;
mod provider;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use group::{Group, NotAGroup};
pub(crate) use provider::fingerprint;
pub use provider::{Refusal, fingerprint_of, identify, is_known};

use crate::config::Name;

/// Who was proven. Only [`identify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: Name,
    groups: BTreeSet<Group>,
    proof: Proof,
}

/// What proved an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// A public key of the configuration, after its signature was verified.
    #[serde(rename_all = "camelCase")]
    Key {
        /// `SHA256:...`, as `ssh-keygen -l` prints it.
        fingerprint: String,
        /// Such as `ssh-ed25519`.
        algorithm: String,
        /// The key's line forbids a terminal.
        no_pty: bool,
        /// The key's line forbids a tunnel.
        no_forwarding: bool,
    },
}

impl Identity {
    /// The configured name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// All groups, each with its source.
    pub fn groups(&self) -> &BTreeSet<Group> {
        &self.groups
    }

    /// What proved it.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}

#[cfg(test)]
mod tests;
