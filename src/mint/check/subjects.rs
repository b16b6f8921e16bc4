//! The ServiceAccounts that the configuration may ask a cluster for.

use std::collections::{BTreeMap, BTreeSet};

use super::report::ClusterReport;
use crate::config::{Cluster, Config};
use crate::policy::{Unlisted, service_accounts};

/// Of a role whose ServiceAccount is `{identity}`, as many as say enough.
const MAX_PER_NAMESPACE: usize = 25;

/// As many of a namespace's as are looked at one by one.
pub(super) fn some(accounts: &BTreeSet<String>) -> impl Iterator<Item = &String> {
    accounts.iter().take(MAX_PER_NAMESPACE)
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subjects {
    by_namespace: BTreeMap<String, BTreeSet<String>>,
    left_out: usize,
    unlisted: Vec<Unlisted>,
}

impl Subjects {
    /// Of every role that a binding gives to someone there.
    pub(super) fn of(cluster: &Cluster, config: &Config) -> Self {
        let found = service_accounts(config, &cluster.name);
        let mut subjects = Self {
            unlisted: found.unlisted,
            ..Self::default()
        };
        for (namespace, inside) in found.namespaces {
            let all = inside.accounts.len();
            subjects.left_out += all.saturating_sub(MAX_PER_NAMESPACE);
            subjects.by_namespace.insert(namespace, inside.accounts);
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
        if self.left_out > 0 {
            report.not_checked.push(format!(
                "{} more ServiceAccounts of the same roles: {MAX_PER_NAMESPACE} in a namespace were looked at",
                self.left_out
            ));
        }
        for unlisted in &self.unlisted {
            report.not_checked.push(format!(
                "ServiceAccounts {} in {} of whom certificates put into {}: they cannot be listed",
                unlisted.name, unlisted.namespace, unlisted.group
            ));
        }
        for (namespace, accounts) in &self.by_namespace {
            for account in some(accounts) {
                report.not_checked.push(format!(
                    "whether {namespace}/{account} can itself issue credentials (serviceaccounts/token, Secrets, CSRs, impersonate), which could be carried out of a session: the daemon may not see that. As an administrator: kubectl auth can-i --list --as system:serviceaccount:{namespace}:{account}"
                ));
            }
        }
    }
}
