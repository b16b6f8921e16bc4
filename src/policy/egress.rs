//! Where a session's commands may connect to besides their cluster.

use super::Grant;
use super::denial::ShownPrincipal;
use super::judge::kubernetes_role;
use crate::config::{Config, HostPort, Name};

/// A host that a role does not list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the role {role} does not reach {asked}; {}", listed(.hosts))]
pub struct NotReached {
    role: Name,
    asked: ShownPrincipal,
    hosts: Vec<HostPort>,
}

/// Whether a session may connect to a host, by the configuration now: what its role lists is what it reaches, by names as they
/// are written and not by what they resolve to.
///
/// # Errors
///
/// What the role does list.
pub fn may_connect(config: &Config, grant: &Grant, to: &HostPort) -> Result<(), NotReached> {
    if egress(config, grant.role()).any(|host| host == to) {
        return Ok(());
    }
    Err(NotReached {
        role: grant.role().clone(),
        asked: ShownPrincipal::of(&to.to_string()),
        hosts: egress(config, grant.role()).cloned().collect(),
    })
}

/// Whether a session of this role has any way to other hosts.
pub fn has_egress(config: &Config, role: &Name) -> bool {
    egress(config, role).next().is_some()
}

fn egress<'c>(config: &'c Config, role: &Name) -> impl Iterator<Item = &'c HostPort> {
    let role = kubernetes_role(config, role).map(|(_, role)| role);
    role.into_iter().flat_map(|role| &role.egress)
}

fn listed(hosts: &[HostPort]) -> String {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    match hosts.is_empty() {
        true => "it reaches none any more".to_owned(),
        false => format!("it reaches: {}", hosts.join(", ")),
    }
}
