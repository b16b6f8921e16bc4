//! The ServiceAccounts that the configuration may ask a cluster for.

use std::collections::{BTreeMap, BTreeSet};

use super::report::ClusterReport;
use crate::config::{Cluster, Config, IdentityDocument, Name, RoleAccess, SubjectTemplate};

/// Of a role whose ServiceAccount is `{identity}`, as many as say enough.
const MAX_PER_NAMESPACE: usize = 25;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subjects {
    by_namespace: BTreeMap<String, BTreeSet<String>>,
    left_out: usize,
}

impl Subjects {
    /// Of every role that a binding gives to someone there.
    pub(super) fn of(cluster: &Cluster, config: &Config) -> Self {
        let mut subjects = Self::default();
        for (role_name, role) in &config.roles {
            let RoleAccess::Kubernetes(role) = &role.access else {
                continue;
            };
            let Some(SubjectTemplate::ServiceAccount(subject)) = role.subjects.get(&cluster.name)
            else {
                continue;
            };
            for identity in config.identities.values() {
                if may_take(config, identity, role_name, &cluster.name) {
                    let account = subject.name.replace("{identity}", identity.name.as_str());
                    subjects.insert(&subject.namespace, account);
                }
            }
        }
        subjects
    }

    fn insert(&mut self, namespace: &str, account: String) {
        let accounts = self.by_namespace.entry(namespace.to_owned()).or_default();
        if accounts.len() < MAX_PER_NAMESPACE || accounts.contains(&account) {
            accounts.insert(account);
        } else {
            self.left_out += 1;
        }
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
        if self.left_out > 0 {
            report.not_checked.push(format!(
                "{} more ServiceAccounts of the same roles: {MAX_PER_NAMESPACE} in a namespace were looked at",
                self.left_out
            ));
        }
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
    config
        .bindings_of(&identity.name, &identity.groups)
        .any(|binding| {
            binding.roles.contains(role)
                && binding
                    .clusters
                    .as_ref()
                    .is_none_or(|clusters| clusters.contains(cluster))
        })
}
