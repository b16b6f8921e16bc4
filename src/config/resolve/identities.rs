//! Identities and the keys that prove them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use russh::keys::ssh_key::public::KeyData;

use super::{Documents, misplaced};
use crate::config::authorized_keys;
use crate::config::model::{AuthorizedKey, Binding, IdentityDocument, Name, Role, RoleAccess};
use crate::config::problem::{At, Place};
use crate::config::raw::Kind;
use crate::config::source::Reader;

/// Where each key was first seen, and whose it is there.
type Seen = HashMap<KeyData, (Name, Place)>;

impl Documents<'_> {
    pub(super) fn identities(&self, reader: &mut Reader) -> BTreeMap<Name, IdentityDocument> {
        let mut seen = Seen::new();
        let mut identities = BTreeMap::new();
        for (document, spec) in self.identity_specs() {
            let name = document.name.value.clone();
            let keys = self
                .lines(document, &spec.keys, spec.keys_file.as_ref(), reader)
                .into_iter()
                .filter_map(|line| self.key(&name, line, &mut seen))
                .collect();
            let identity = IdentityDocument {
                name: name.clone(),
                groups: spec
                    .groups
                    .iter()
                    .map(|group| group.value.clone())
                    .collect(),
                keys,
                default_role: spec.default_role.as_ref().map(|role| role.value.clone()),
            };
            identities.insert(name, identity);
        }
        identities
    }

    fn key(&self, identity: &Name, line: At<String>, seen: &mut Seen) -> Option<AuthorizedKey> {
        let key = match authorized_keys::line(&line.value) {
            Ok(key) => key?,
            Err(wrong) => {
                let (at, message) = misplaced(&line, wrong);
                self.report(&at, message);
                return None;
            }
        };
        if let Some((owner, first)) = seen.get(key.key.key_data()) {
            let whose = if owner == identity {
                "this identity too".to_owned()
            } else {
                format!("'{owner}'; a key proves one identity")
            };
            self.report(
                &line.at,
                format!("this key is at {first} already, for {whose}; remove one"),
            );
            return None;
        }
        seen.insert(
            key.key.key_data().clone(),
            (identity.clone(), line.at.clone()),
        );
        Some(key)
    }

    /// A default role that can never be taken is a mistake that its owner would meet at night.
    pub(super) fn default_roles(
        &self,
        roles: &BTreeMap<Name, Role>,
        identities: &BTreeMap<Name, IdentityDocument>,
        bindings: &BTreeMap<Name, Arc<Binding>>,
    ) {
        let bound = super::bindings::Bound::new(bindings);
        for (document, spec) in self.identity_specs() {
            let Some(default) = &spec.default_role else {
                continue;
            };
            if !self.check_reference(Kind::Role, default) {
                continue;
            }
            let Some(identity) = identities.get(&document.name.value) else {
                continue;
            };
            match roles.get(&default.value).map(|role| &role.access) {
                Some(RoleAccess::Audit(_)) => self.report(
                    &default.at,
                    format!(
                        "'{}' is an audit role, which opens no sessions; a defaultRole is one for a cluster",
                        default.value
                    ),
                ),
                Some(RoleAccess::Kubernetes(_)) if !bound.gives(identity, &default.value) => self.report(
                    &default.at,
                    format!(
                        "no Binding gives the role '{}' to '{}'; add one, or choose another defaultRole",
                        default.value, identity.name
                    ),
                ),
                _ => {}
            }
        }
    }
}
