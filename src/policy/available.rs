//! What an identity could take now: for `bastion roles`, kubeconfigs and explanations.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::Somebody;
use super::judge::{Who, kubernetes_choices, kubernetes_role, stands};
use crate::config::{AuditRole, Binding, Config, Name, RoleAccess, SessionKind};
use crate::identity::Identity;

/// One role by one binding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Available {
    /// The role.
    pub role: Name,
    /// What it gives.
    pub gives: Gives,
    /// The binding that gives it there.
    pub binding: Name,
    /// Its reason.
    pub reason: Option<String>,
    /// When the binding ends.
    pub until: Option<Timestamp>,
    /// Whether the identity's own name as login stands for this role.
    pub is_default: bool,
}

/// What a role gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Gives {
    /// Sessions of these kinds on these clusters; neither is empty.
    Sessions {
        /// Kinds of session.
        kinds: Vec<SessionKind>,
        /// Where.
        clusters: Vec<Name>,
    },
    /// Recordings to read.
    Recordings(AuditRole),
}

impl Gives {
    /// The clusters to open sessions on.
    pub fn clusters(&self) -> &[Name] {
        match self {
            Self::Sessions { clusters, .. } => clusters,
            Self::Recordings(_) => &[],
        }
    }

    /// The kinds of session.
    pub fn kinds(&self) -> &[SessionKind] {
        match self {
            Self::Sessions { kinds, .. } => kinds,
            Self::Recordings(_) => &[],
        }
    }
}

/// Every role that the identity may take now, by name. Where several bindings give the same, the one that
/// [`super::decide`] would name; a role that one binding gives here and another there stands twice.
pub fn available(config: &Config, identity: &Identity, now: Timestamp) -> Vec<Available> {
    Somebody::who_asks(config, identity, now)
        .map_or_else(|_| Vec::new(), |somebody| of(config, somebody.who(), now))
}

/// As [`available`], for somebody who is not there.
pub fn available_to(config: &Config, somebody: &Somebody<'_>, now: Timestamp) -> Vec<Available> {
    of(config, somebody.who(), now)
}

fn of(config: &Config, who: Who<'_>, now: Timestamp) -> Vec<Available> {
    let choices = kubernetes_choices(config, who, now);
    // Without a defaultRole, the only role on the only cluster is what the own name stands for.
    let alone = choices.len() == 1 && choices.values().all(|clusters| clusters.len() == 1);
    let mut found = Vec::new();
    for (role, clusters) in choices {
        let is_default = who.default_role.map_or(alone, |default| default == role);
        let kinds: Vec<SessionKind> = kubernetes_role(config, role)
            .map(|(_, kubernetes)| kubernetes.sessions.iter().copied().collect())
            .unwrap_or_default();
        let mut by_binding: BTreeMap<&Name, (&Binding, Vec<Name>)> = BTreeMap::new();
        for (cluster, binding) in clusters {
            let (_, names) = by_binding
                .entry(&binding.name)
                .or_insert((binding, Vec::new()));
            names.push(cluster.clone());
        }
        for (binding, clusters) in by_binding.into_values() {
            let gives = Gives::Sessions {
                kinds: kinds.clone(),
                clusters,
            };
            found.push(entry(role, gives, binding, is_default));
        }
    }
    found.extend(audit_roles(config, who, now));
    found.sort_by(|a, b| (&a.role, &a.binding).cmp(&(&b.role, &b.binding)));
    found
}

fn audit_roles(config: &Config, who: Who<'_>, now: Timestamp) -> Vec<Available> {
    let standing: BTreeSet<(&Name, &Name)> = config
        .bindings_of(who.name, who.groups)
        .filter(|binding| stands(binding, now))
        .flat_map(|binding| binding.roles.iter().map(move |role| (role, &binding.name)))
        .collect();
    standing
        .into_iter()
        .filter_map(|(role, binding)| {
            let binding = config.bindings.get(binding)?;
            match &config.roles.get(role)?.access {
                RoleAccess::Audit(audit) => {
                    let gives = Gives::Recordings(super::audit::narrowed(audit, binding));
                    Some(entry(role, gives, binding, false))
                }
                RoleAccess::Kubernetes(_) => None,
            }
        })
        .collect()
}

fn entry(role: &Name, gives: Gives, binding: &Binding, is_default: bool) -> Available {
    Available {
        role: role.clone(),
        gives,
        binding: binding.name.clone(),
        reason: binding.reason.clone(),
        until: binding.until,
        is_default,
    }
}
