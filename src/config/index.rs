//! What must be found fast in a configuration of ten thousand identities.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::KeyData;

use super::authority::CertificateAuthority;
use super::model::{AuthorizedKey, Binding, Config, IdentityDocument, Name, RoleAccess, Subject};
use crate::identity::Group;

/// Built once, when a configuration is loaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    keys: HashMap<KeyData, KeyOwner>,
    authorities: HashMap<KeyData, Name>,
    of_identity: HashMap<Name, Vec<Name>>,
    of_group: HashMap<Group, Vec<Name>>,
}

#[derive(Clone, Debug)]
struct KeyOwner {
    identity: Name,
    position: usize,
}

impl Index {
    pub(super) fn build(
        identities: &BTreeMap<Name, IdentityDocument>,
        authorities: &BTreeMap<Name, CertificateAuthority>,
        bindings: &BTreeMap<Name, Binding>,
    ) -> Self {
        let mut index = Self::default();
        for identity in identities.values() {
            for (position, line) in identity.keys.iter().enumerate() {
                let owner = KeyOwner {
                    identity: identity.name.clone(),
                    position,
                };
                index.keys.insert(line.key.key_data().clone(), owner);
            }
        }
        for authority in authorities.values() {
            for key in &authority.keys {
                let key = key.key_data().clone();
                index.authorities.insert(key, authority.name.clone());
            }
        }
        for binding in bindings.values() {
            for subject in &binding.subjects {
                let of = match subject {
                    Subject::Identity(name) => index.of_identity.entry(name.clone()).or_default(),
                    Subject::Group(group) => index.of_group.entry(group.clone()).or_default(),
                };
                of.push(binding.name.clone());
            }
        }
        index
    }
}

impl Config {
    /// Whose key this is, and the line that says so. A key proves one identity at most.
    pub fn key_owner(&self, key: &PublicKey) -> Option<(&IdentityDocument, &AuthorizedKey)> {
        let owner = self.index.keys.get(key.key_data())?;
        let identity = self.identities.get(&owner.identity)?;
        Some((identity, identity.keys.get(owner.position)?))
    }

    /// The authority whose key this is. A key is one authority's at most.
    pub fn authority_of(&self, key: &KeyData) -> Option<&CertificateAuthority> {
        self.authorities.get(self.index.authorities.get(key)?)
    }

    /// Whether any authority has taken this key back, whatever it is used for: who lost a key has lost it everywhere.
    pub fn has_revoked(&self, key: &KeyData) -> bool {
        self.authorities
            .values()
            .filter_map(|authority| authority.revoked.as_ref())
            .any(|revoked| revoked.has_key(key))
    }

    /// The programs that sessions of a role are shown besides everybody's; absolute paths.
    pub fn tools_of(&self, role: &Name) -> &[PathBuf] {
        match self.roles.get(role).map(|role| &role.access) {
            Some(RoleAccess::Kubernetes(role)) => &role.tools,
            _ => &[],
        }
    }

    /// The bindings that speak of an identity or of one of its groups, by name, each once. Past ones too.
    pub fn bindings_of<'c>(
        &'c self,
        identity: &Name,
        groups: &BTreeSet<Group>,
    ) -> impl Iterator<Item = &'c Binding> + use<'c> {
        let named = self.index.of_identity.get(identity).into_iter();
        let grouped = groups
            .iter()
            .filter_map(|group| self.index.of_group.get(group));
        let names: BTreeSet<&Name> = named.chain(grouped).flatten().collect();
        names.into_iter().filter_map(|name| self.bindings.get(name))
    }
}
