//! Every rule that matters for a login name: what gives it, and what would but for one thing.

use jiff::Timestamp;
use serde::Serialize;

use super::conditions::{gives_there, stands};
use super::judge::kubernetes_role;
use super::{Somebody, Supposed};
use crate::config::{Binding, Config, Name, RoleAccess};

/// What a binding says of a role that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<'c> {
    /// The binding.
    pub binding: &'c Binding,
    /// The role.
    pub role: &'c Name,
    /// What becomes of it.
    pub says: Says,
}

/// What becomes of a role by a binding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Says {
    /// It is given, on these clusters.
    Gives(Vec<Name>),
    /// It is given, and is recordings to read.
    GivesRecordings,
    /// It was given until then.
    Ended(Timestamp),
    /// It is given to who comes from elsewhere.
    NotFromThere,
    /// It is given on these clusters, not on the one that was asked for.
    OnOthers(Vec<Name>),
}

/// The bindings that speak of somebody and of what the login name stands for, by name; of all their roles if that is nothing
/// that is known.
pub fn rules<'c>(
    config: &'c Config,
    somebody: &Somebody<'_>,
    login: &str,
    supposed: Supposed,
) -> Vec<Rule<'c>> {
    let who = somebody.who();
    let (role, cluster) = match login.split_once('+') {
        Some((role, cluster)) => (role, Some(cluster)),
        None => (login, None),
    };
    let asked = match login == who.name.as_str() {
        true => who.default_role.map(Name::as_str),
        false => Some(role),
    };
    let asked =
        asked.filter(|role| Name::new(role).is_ok_and(|role| config.roles.contains_key(&role)));
    config
        .bindings_of(who.name, who.groups)
        .flat_map(|binding| binding.roles.iter().map(move |role| (binding, role)))
        .filter(|(_, role)| asked.is_none_or(|asked| asked == role.as_str()))
        .map(|(binding, role)| Rule {
            binding,
            role,
            says: says(config, binding, role, cluster, supposed),
        })
        .collect()
}

fn says(
    config: &Config,
    binding: &Binding,
    role: &Name,
    cluster: Option<&str>,
    supposed: Supposed,
) -> Says {
    if let Some(until) = binding.until.filter(|_| !stands(binding, supposed.now)) {
        return Says::Ended(until);
    }
    if !gives_there(binding, supposed.from) {
        return Says::NotFromThere;
    }
    let audit = config
        .roles
        .get(role)
        .is_some_and(|role| matches!(role.access, RoleAccess::Audit(_)));
    if audit {
        return Says::GivesRecordings;
    }
    let clusters: Vec<Name> = kubernetes_role(config, role)
        .into_iter()
        .flat_map(|(_, kubernetes)| kubernetes.subjects.keys())
        .filter(|name| {
            binding
                .clusters
                .as_ref()
                .is_none_or(|only| only.contains(*name))
        })
        .cloned()
        .collect();
    match cluster {
        Some(asked) if !clusters.iter().any(|name| name.as_str() == asked) => {
            Says::OnOthers(clusters)
        }
        _ => Says::Gives(clusters),
    }
}
