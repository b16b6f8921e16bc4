//! The ServiceAccounts that the configuration may ask a cluster for.

use std::collections::{BTreeMap, BTreeSet};

use super::report::ClusterReport;
use crate::config::{Cluster, Config, IdentityDocument, Name, RoleAccess, Subject};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subjects {
    by_namespace: BTreeMap<String, BTreeSet<String>>,
}

impl Subjects {
    /// Of every role that a binding gives to someone there.
    pub(super) fn of(cluster: &Cluster, config: &Config) -> Self {
        let mut subjects = Self::default();
        for (role_name, role) in &config.roles {
            let RoleAccess::Kubernetes(role) = &role.access else {
                continue;
            };
            let Some(subject) = role.subjects.get(&cluster.name) else {
                continue;
            };
            for identity in config.identities.values() {
                if may_take(config, identity, role_name, &cluster.name) {
                    subjects
                        .by_namespace
                        .entry(subject.namespace.clone())
                        .or_default()
                        .insert(subject.name.replace("{identity}", identity.name.as_str()));
                }
            }
        }
        subjects
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_namespace.is_empty()
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.by_namespace
            .iter()
            .map(|(namespace, accounts)| (namespace.as_str(), accounts))
    }

    pub(super) fn contains_namespace(&self, namespace: &str) -> bool {
        self.by_namespace.contains_key(namespace)
    }

    pub(super) fn say_what_is_not_checked(&self, report: &mut ClusterReport) {
        report.not_checked.push(
            "rights in namespaces that are not named here: the daemon may not list namespaces"
                .to_owned(),
        );
        for (namespace, accounts) in &self.by_namespace {
            for account in accounts {
                report.not_checked.push(format!(
                    "whether {namespace}/{account} can itself issue credentials (serviceaccounts/token, Secrets, CSRs, impersonate), which could be carried out of a session: the daemon may not see that. As an administrator: kubectl auth can-i --list --as system:serviceaccount:{namespace}:{account}"
                ));
            }
        }
    }
}

/// Whether some binding gives the role to the identity there, now or at another time.
fn may_take(config: &Config, identity: &IdentityDocument, role: &Name, cluster: &Name) -> bool {
    config.bindings.values().any(|binding| {
        binding.roles.contains(role)
            && binding
                .clusters
                .as_ref()
                .is_none_or(|clusters| clusters.contains(cluster))
            && binding.subjects.iter().any(|subject| match subject {
                Subject::Identity(name) => *name == identity.name,
                Subject::Group(group) => identity.groups.iter().any(|name| name == group),
            })
    })
}
