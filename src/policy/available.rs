//! What an identity could take now: for `bastion roles`, kubeconfigs and explanations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::conditions::gives_now;
use super::judge::{Who, kubernetes_choices, kubernetes_role, requires};
use super::{Somebody, Supposed};
use crate::config::{
    AuditRole, Binding, Config, Factor, Name, RoleAccess, SessionKind, SourceNetwork,
};
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
    /// From where it gives this; empty: from anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<SourceNetwork>,
    /// How many sessions it gives at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_at_once: Option<u32>,
    /// What must have been proven to take it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Factor>,
    /// Whether the identity's own name as login stands for this role.
    pub is_default: bool,
}

/// What a role gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Gives {
    /// Sessions of these kinds on these clusters. There may be no kind, where a role does nothing but hand out credentials.
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

/// Every role that the identity may take now and from there, by name, whatever it has open. Where several bindings give the same, the one that
/// [`super::decide`] would name; a role that one binding gives here and another there stands twice.
pub fn available(
    config: &Config,
    identity: &Identity,
    from: IpAddr,
    now: Timestamp,
) -> Vec<Available> {
    let supposed = Supposed {
        now,
        from: Some(from),
    };
    Somebody::who_asks(config, identity, now).map_or_else(
        |_| Vec::new(),
        |somebody| of(config, somebody.who(), supposed),
    )
}

/// As [`available`], for somebody who is not there.
pub fn available_to(
    config: &Config,
    somebody: &Somebody<'_>,
    supposed: Supposed,
) -> Vec<Available> {
    of(config, somebody.who(), supposed)
}

fn of(config: &Config, who: Who<'_>, supposed: Supposed) -> Vec<Available> {
    let choices = kubernetes_choices(config, who, supposed);
    // Without a defaultRole, the only role on the only cluster is what the own name stands for.
    let alone = choices.len() == 1 && choices.values().all(|clusters| clusters.len() == 1);
    let mut found = Vec::new();
    for (role, clusters) in choices {
        let is_default = who.default_role.map_or(alone, |default| default == role);
        let kinds: Vec<SessionKind> = kubernetes_role(config, role)
            .map(|(_, kubernetes)| kubernetes.sessions.iter().copied().collect())
            .unwrap_or_default();
        let mut by_binding: BTreeMap<(&Name, bool), (&Binding, Vec<Name>)> = BTreeMap::new();
        for (cluster, given) in clusters {
            let (_, names) = by_binding
                .entry((&given.binding.name, given.hands_out))
                .or_insert((given.binding, Vec::new()));
            names.push(cluster.clone());
        }
        for ((_, hands_out), (binding, clusters)) in by_binding {
            let mut kinds = kinds.clone();
            kinds.retain(|kind| *kind != SessionKind::Credential || hands_out);
            let gives = Gives::Sessions { kinds, clusters };
            found.push(entry(config, role, gives, binding, is_default));
        }
    }
    found.extend(audit_roles(config, who, supposed));
    found.sort_by(|a, b| (&a.role, &a.binding).cmp(&(&b.role, &b.binding)));
    found
}

fn audit_roles(config: &Config, who: Who<'_>, supposed: Supposed) -> Vec<Available> {
    let standing: BTreeSet<(&Name, &Name)> = config
        .bindings_of(who.name, who.groups)
        .filter(|binding| gives_now(binding, supposed))
        .flat_map(|binding| binding.roles.iter().map(move |role| (role, &binding.name)))
        .collect();
    standing
        .into_iter()
        .filter_map(|(role, binding)| {
            let binding = config.bindings.get(binding)?;
            match &config.roles.get(role)?.access {
                RoleAccess::Audit(audit) => {
                    let gives = Gives::Recordings(super::audit::narrowed(audit, binding));
                    Some(entry(config, role, gives, binding, false))
                }
                RoleAccess::Kubernetes(_) => None,
            }
        })
        .collect()
}

fn entry(
    config: &Config,
    role: &Name,
    gives: Gives,
    binding: &Binding,
    is_default: bool,
) -> Available {
    Available {
        role: role.clone(),
        gives,
        binding: binding.name.clone(),
        reason: binding.reason.clone(),
        until: binding.until,
        from: binding.from.clone(),
        sessions_at_once: binding.sessions_at_once,
        requires: requires(config, role),
        is_default,
    }
}
