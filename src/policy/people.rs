//! As whom the daemon may ask a cluster, where it asks in people's names: whom some binding can give a role there, now or at another
//! time.

use std::collections::BTreeSet;

use super::subjects::{Members, gives};
use crate::config::{Config, Name, RoleAccess, Subject, SubjectTemplate, named};
use crate::identity::Group;

/// The users and groups of a cluster that bindings lead to, past ones too: what stands in a cluster should not change by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Kubernetes users.
    pub users: BTreeSet<String>,
    /// Kubernetes groups.
    pub groups: BTreeSet<String>,
    /// Groups of an authority, whose members cannot be listed.
    pub unlisted: BTreeSet<Group>,
}

/// Everybody whom the daemon may have to name on a cluster that it mints for by impersonation.
pub fn people(config: &Config, cluster: &Name) -> People {
    let members = Members::of(config);
    let mut people = People::default();
    for role in config.roles.values() {
        let RoleAccess::Kubernetes(kubernetes) = &role.access else {
            continue;
        };
        let Some(SubjectTemplate::Impersonated { username, groups }) =
            kubernetes.subjects.get(cluster)
        else {
            continue;
        };
        let giving = config.bindings.values();
        for binding in giving.filter(|binding| gives(binding, &role.name, cluster)) {
            people.groups.extend(groups.iter().cloned());
            for subject in &binding.subjects {
                match subject {
                    Subject::Identity(name) => {
                        people.users.insert(named(username, name));
                    }
                    Subject::Group(group) if group.is_of_an_authority() => {
                        people.unlisted.insert(group.clone());
                    }
                    Subject::Group(group) => {
                        let all = members.in_group(group);
                        people.users.extend(all.map(|name| named(username, name)));
                    }
                }
            }
        }
    }
    people
}
