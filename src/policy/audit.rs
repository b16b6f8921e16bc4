//! Whose recordings an identity may read.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::conditions::gives_now;
use super::{Denial, Somebody, Supposed, factors};
use crate::config::{AuditRole, Binding, Config, Name, Pattern, RoleAccess};
use crate::identity::Identity;

/// Recordings that may be read: those that one of the audit roles allows as a whole. Two roles are never mixed:
/// who may read A's sessions on `dev` and B's on `prod` may not read A's on `prod`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditScope(Vec<AuditRole>);

impl AuditScope {
    /// Whether a session of this identity on this cluster may be read.
    pub fn allows(&self, cluster: &Name, identity: &Name) -> bool {
        self.0
            .iter()
            .any(|role| role.clusters.matches(cluster) && role.identities.matches(identity))
    }

    /// Each role's part of it.
    pub fn parts(&self) -> &[AuditRole] {
        &self.0
    }
}

/// What the identity may read now, from there; `None` if it has no audit role, or has not proven what its audit roles require. Ask again for
/// each reading: bindings end.
pub fn audit_scope(
    config: &Config,
    identity: &Identity,
    from: IpAddr,
    now: Timestamp,
) -> Option<AuditScope> {
    let parts: Vec<AuditRole> = given(config, identity, from, now)
        .into_iter()
        .filter(|(role, _, _)| proven(config, role, identity, now).is_ok())
        .map(|(_, audit, binding)| narrowed(audit, binding))
        .collect();
    (!parts.is_empty()).then_some(AuditScope(parts))
}

/// Why the identity may read less than its audit roles give, or nothing: the first of them that requires more than was proven.
pub fn audit_denial(
    config: &Config,
    identity: &Identity,
    from: IpAddr,
    now: Timestamp,
) -> Option<Denial> {
    let given = given(config, identity, from, now);
    given
        .into_iter()
        .find_map(|(role, _, _)| proven(config, role, identity, now).err())
}

fn proven(config: &Config, role: &Name, identity: &Identity, now: Timestamp) -> Result<(), Denial> {
    factors::proven(config, (role, role.to_string()), identity, now)
}

/// The audit roles that bindings give now, from there.
fn given<'c>(
    config: &'c Config,
    identity: &Identity,
    from: IpAddr,
    now: Timestamp,
) -> Vec<(&'c Name, &'c AuditRole, &'c Binding)> {
    let Ok(somebody) = Somebody::who_asks(config, identity, now) else {
        return Vec::new();
    };
    let who = somebody.who();
    let supposed = Supposed {
        now,
        from: Some(from),
    };
    let mut given = Vec::new();
    for binding in config.bindings_of(who.name, who.groups) {
        if !gives_now(binding, supposed) {
            continue;
        }
        for role in binding
            .roles
            .iter()
            .filter_map(|role| config.roles.get(role))
        {
            if let RoleAccess::Audit(audit) = &role.access
                && config.locks.on_role(&role.name, now).is_none()
            {
                given.push((&role.name, audit, binding));
            }
        }
    }
    given
}

/// An audit role as far as a binding gives it.
pub(super) fn narrowed(role: &AuditRole, binding: &Binding) -> AuditRole {
    let clusters = match (&role.clusters, &binding.clusters) {
        (clusters, None) => clusters.clone(),
        (Pattern::All, Some(narrowing)) => Pattern::Names(narrowing.clone()),
        (Pattern::Names(names), Some(narrowing)) => {
            Pattern::Names(names.intersection(narrowing).cloned().collect())
        }
    };
    AuditRole {
        clusters,
        identities: role.identities.clone(),
    }
}
