//! `spec` of an Identity and of a Binding.

use jiff::Timestamp;

use super::{name, path, some};
use crate::config::SourceNetwork;
use crate::config::fields::{Fields, list, number, parsed, text};
use crate::config::model::Name;
use crate::config::problem::{At, Gathered};
use crate::config::scalar;
use crate::config::yaml::Node;
use crate::identity::Group;

#[derive(Debug)]
pub(in crate::config) struct RawIdentity {
    pub(in crate::config) groups: Vec<At<Group>>,
    pub(in crate::config) keys: Vec<At<String>>,
    pub(in crate::config) keys_file: Option<At<String>>,
    pub(in crate::config) default_role: Option<At<Name>>,
}

pub(in crate::config) fn identity(gathered: &Gathered, node: &Node) -> Option<RawIdentity> {
    let mut spec = Fields::open(gathered, node, "an Identity's spec")?;
    // An empty list is fine, and must be: it is how somebody's last key is taken away.
    if !spec.has("keys") && !spec.has("keysFile") {
        gathered.report(
            &node.at,
            "an Identity's spec needs 'keys', 'keysFile' or both",
        );
    }
    let raw = RawIdentity {
        groups: spec
            .optional("groups", |g, n| list(g, n, |g, n| parsed(g, n, own_group)))
            .map(|at| at.value)
            .unwrap_or_default(),
        keys: spec
            .optional("keys", |g, n| list(g, n, text))
            .map(|at| at.value)
            .unwrap_or_default(),
        keys_file: spec.optional("keysFile", path),
        default_role: spec.optional("defaultRole", |g, n| parsed(g, n, scalar::name)),
    };
    spec.close();
    Some(raw)
}

fn own_group(text: &str) -> Result<Group, String> {
    Group::from_file(text)
        .map_err(|error| format!("'{}' is not a group: {error}", text.escape_debug()))
}

#[derive(Debug)]
pub(in crate::config) struct RawBinding {
    pub(in crate::config) subjects: Vec<At<RawSubject>>,
    pub(in crate::config) roles: Vec<At<Name>>,
    pub(in crate::config) clusters: Option<At<Vec<At<Name>>>>,
    pub(in crate::config) until: Option<At<Timestamp>>,
    pub(in crate::config) from: Option<At<Vec<At<SourceNetwork>>>>,
    pub(in crate::config) sessions_at_once: Option<At<u32>>,
    pub(in crate::config) reason: Option<At<String>>,
}

#[derive(Debug)]
pub(in crate::config) enum RawSubject {
    Identity(Name),
    Group(String),
}

pub(in crate::config) fn binding(gathered: &Gathered, node: &Node) -> Option<RawBinding> {
    let mut spec = Fields::open(gathered, node, "a Binding's spec")?;
    let raw = RawBinding {
        subjects: spec
            .required("subjects", |g, n| {
                some(g, n, "a Binding binds nobody: name a subject", subject)
            })
            .map(|at| at.value)
            .unwrap_or_default(),
        roles: spec
            .required("roles", |g, n| {
                some(g, n, "a Binding gives nothing: name a role", name)
            })
            .map(|at| at.value)
            .unwrap_or_default(),
        clusters: spec.optional("clusters", |g, n| {
            some(
                g,
                n,
                "an empty list narrows to no cluster at all; name clusters or leave the key out",
                name,
            )
        }),
        until: spec.optional("until", |g, n| parsed(g, n, scalar::timestamp)),
        from: spec.optional("from", networks),
        sessions_at_once: spec.optional("sessionsAtOnce", |g, n| number(g, n, 1, 1000)),
        reason: spec.optional("reason", |g, n| parsed(g, n, reason)),
    };
    spec.close();
    Some(raw)
}

/// Where somebody must come from. What only excludes allows no address at all.
fn networks(gathered: &Gathered, node: &Node) -> Option<Vec<At<SourceNetwork>>> {
    let empty = "an empty list allows no address at all; name networks or leave the key out";
    let listed = some(gathered, node, empty, |g, n| parsed(g, n, network))?;
    if !listed.is_empty() && listed.iter().all(|network| network.value.negated) {
        gathered.report(
            &node.at,
            "these networks only exclude, so they allow no address at all; add what is allowed, such as 0.0.0.0/0",
        );
    }
    Some(listed)
}

fn network(text: &str) -> Result<SourceNetwork, String> {
    let (negated, network) = match text.strip_prefix('!') {
        Some(network) => (true, network),
        None => (false, text),
    };
    SourceNetwork::parse(network)
        .map(|network| SourceNetwork { negated, ..network })
        .map_err(|error| format!("'{}' {error}", text.escape_debug()))
}

fn subject(gathered: &Gathered, node: &Node) -> Option<RawSubject> {
    let mut spec = Fields::open(gathered, node, "a subject")?;
    if spec.has("identity") == spec.has("group") {
        gathered.report(
            &node.at,
            "a subject is one of {identity: NAME} and {group: NAME}",
        );
    }
    let identity = spec.optional("identity", |g, n| parsed(g, n, scalar::name));
    let group = spec.optional("group", text);
    spec.close();
    match (identity, group) {
        (Some(name), None) => Some(RawSubject::Identity(name.value)),
        (None, Some(group)) => Some(RawSubject::Group(group.value)),
        _ => None,
    }
}

/// Shown to operators on their terminals.
fn reason(text: &str) -> Result<String, String> {
    if text.chars().count() > 500 || text.chars().any(char::is_control) {
        return Err("a reason is one line of at most 500 characters".to_owned());
    }
    Ok(text.to_owned())
}
