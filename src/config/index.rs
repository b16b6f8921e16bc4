//! What must be found fast in a configuration of ten thousand identities.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// In the order of their names: positions in it are what others name.
    bindings: Vec<Arc<Binding>>,
    of_identity: HashMap<Name, Vec<u32>>,
    of_group: HashMap<Group, Vec<u32>>,
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
        bindings: &BTreeMap<Name, Arc<Binding>>,
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
        for (position, binding) in (0..).zip(bindings.values()) {
            index.bindings.push(Arc::clone(binding));
            for subject in &binding.subjects {
                let of = match subject {
                    Subject::Identity(name) => index.of_identity.entry(name.clone()).or_default(),
                    Subject::Group(group) => index.of_group.entry(group.clone()).or_default(),
                };
                of.push(position);
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
        let mut positions: Vec<u32> = named.chain(grouped).flatten().copied().collect();
        positions.sort_unstable();
        positions.dedup();
        let at = |position: u32| self.index.bindings.get(usize::try_from(position).ok()?);
        positions
            .into_iter()
            .filter_map(move |position| at(position).map(|binding| &**binding))
    }
}
