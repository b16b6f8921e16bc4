//! Who was proven, and by what.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::Name;

/// A group with the source that vouches for it, so that one source cannot speak for another:
/// `sre` is the configuration's, `ca/NAME:sre` a certificate authority's, `oidc/NAME:sre` a provider's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group(String);

impl Group {
    /// A group that the configuration names.
    pub fn from_file(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The group with its source, as bindings write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who was proven. Only an identity provider makes one.
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
    Key {
        /// `SHA256:...`, as `ssh-keygen -l` prints it.
        fingerprint: String,
        /// Such as `ssh-ed25519`.
        algorithm: String,
        /// The key's line forbids a terminal.
        no_pty: bool,
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
