//! Whom the daemon may ask a cluster for: what some binding can give somebody there, now or at another time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::config::{
    Binding, Config, Name, RoleAccess, ServiceAccountTemplate, Subject, SubjectTemplate,
};
use crate::identity::Group;

/// Stands for the identity's name in a ServiceAccount's.
const SLOT: &str = "{identity}";

/// The ServiceAccounts of a cluster that bindings lead to, past ones too: what stands in a cluster should not change by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccounts {
    /// By namespace.
    pub namespaces: BTreeMap<String, InNamespace>,
    /// Those that cannot be listed.
    pub unlisted: Vec<Unlisted>,
}

/// What of one namespace bindings lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InNamespace {
    /// ServiceAccounts by name. May be empty, if all of them are [`Unlisted`].
    pub accounts: BTreeSet<String>,
    /// The roles that stand for them.
    pub roles: BTreeSet<Name>,
    /// Each identity has one of its own.
    pub of_identities: bool,
}

/// ServiceAccounts of identities that certificates prove: whoever an authority puts into a group has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// Which role.
    pub role: Name,
    /// Given to which group of an authority.
    pub group: Group,
    /// In which namespace.
    pub namespace: String,
    /// Named how, with `{identity}` for the identity's name.
    pub name: String,
}

/// The ServiceAccounts that some binding can give somebody on a cluster.
pub fn service_accounts(config: &Config, cluster: &Name) -> ServiceAccounts {
    let members = Members::of(config);
    let mut found = ServiceAccounts::default();
    for (role, template) in templates(config, cluster) {
        for binding in config.bindings.values() {
            if gives(binding, role, cluster) {
                found.add(role, template, binding, &members);
            }
        }
    }
    found
}

/// Which identities are in which group of the file's.
pub(super) struct Members<'c>(HashMap<&'c Group, Vec<&'c Name>>);

impl<'c> Members<'c> {
    pub(super) fn of(config: &'c Config) -> Self {
        let mut members: HashMap<&Group, Vec<&Name>> = HashMap::new();
        for identity in config.identities.values() {
            for group in &identity.groups {
                members.entry(group).or_default().push(&identity.name);
            }
        }
        Self(members)
    }

    pub(super) fn in_group(&self, group: &Group) -> impl Iterator<Item = &'c Name> {
        self.0.get(group).into_iter().flatten().copied()
    }
}

fn templates<'c>(
    config: &'c Config,
    cluster: &Name,
) -> impl Iterator<Item = (&'c Name, &'c ServiceAccountTemplate)> {
    config.roles.values().filter_map(move |role| {
        let RoleAccess::Kubernetes(kubernetes) = &role.access else {
            return None;
        };
        match kubernetes.subjects.get(cluster)? {
            SubjectTemplate::ServiceAccount(template) => Some((&role.name, template)),
            SubjectTemplate::Own { .. } | SubjectTemplate::Impersonated { .. } => None,
        }
    })
}

pub(super) fn gives(binding: &Binding, role: &Name, cluster: &Name) -> bool {
    binding.roles.contains(role)
        && binding
            .clusters
            .as_ref()
            .is_none_or(|clusters| clusters.contains(cluster))
}

impl ServiceAccounts {
    fn add(
        &mut self,
        role: &Name,
        template: &ServiceAccountTemplate,
        binding: &Binding,
        members: &Members<'_>,
    ) {
        let space = self
            .namespaces
            .entry(template.namespace.clone())
            .or_default();
        space.roles.insert(role.clone());
        if !template.name.contains(SLOT) {
            space.accounts.insert(template.name.clone());
            return;
        }
        space.of_identities = true;
        let mut own = |identity: &Name| {
            let name = template.name.replace(SLOT, identity.as_str());
            space.accounts.insert(name);
        };
        for subject in &binding.subjects {
            match subject {
                Subject::Identity(name) => own(name),
                Subject::Group(group) if group.is_of_an_authority() => {
                    let unlisted = Unlisted {
                        role: role.clone(),
                        group: group.clone(),
                        namespace: template.namespace.clone(),
                        name: template.name.clone(),
                    };
                    if !self.unlisted.contains(&unlisted) {
                        self.unlisted.push(unlisted);
                    }
                }
                Subject::Group(group) => {
                    members.in_group(group).for_each(&mut own);
                }
            }
        }
    }
}
