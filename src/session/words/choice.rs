//! Every role on every cluster that a caller may take, with the login name that means just that.

use std::collections::BTreeMap;

use crate::config::Name;
use crate::policy::Available;

/// One role on one cluster.
#[derive(Clone, Debug)]
pub(super) struct Choice<'a> {
    pub(super) role: &'a Available,
    pub(super) cluster: &'a Name,
    /// `ROLE` where it exists on one cluster only, `ROLE+CLUSTER` otherwise.
    pub(super) login: String,
}

pub(super) fn choices(available: &[Available]) -> Vec<Choice<'_>> {
    let mut clusters: BTreeMap<&Name, usize> = BTreeMap::new();
    for one in available {
        *clusters.entry(&one.role).or_default() += one.gives.clusters().len();
    }
    let mut choices = Vec::new();
    for role in available {
        for cluster in role.gives.clusters() {
            let login = match clusters.get(&role.role) {
                Some(1) => role.role.to_string(),
                _ => format!("{}+{cluster}", role.role),
            };
            choices.push(Choice {
                role,
                cluster,
                login,
            });
        }
    }
    choices
}
