//! What everybody has by a configuration, in words that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{
    AuditRole, AuthorizedKey, Binding, CertificateAuthority, Config, IdentityDocument,
    IdentityProvider, KubernetesRole, Name, Pattern, PrincipalRule, RoleAccess, SessionKind,
    SourceNetwork, Subject, SubjectTemplate, show_duration,
};
use crate::identity::{Group, fingerprint};
use crate::issuer::prefixed;

/// Who has something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Holder {
    /// An Identity of the configuration.
    Identity(Name),
    /// Whoever an authority's certificates or a provider put into one of its groups: who that is cannot be listed.
    Group(Group),
    /// Whoever has an authority's certificates at all.
    Authority(Name),
    /// Whoever signs in with a provider.
    Provider(Name),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity(name) => write!(f, "{name}"),
            Self::Group(group) if group.is_of_a_provider() => {
                write!(f, "whoever is put into {group}")
            }
            Self::Group(group) => write!(f, "whoever certificates put into {group}"),
            Self::Authority(name) => write!(f, "whoever has a certificate of {name}"),
            Self::Provider(name) => write!(f, "whoever signs in with {name}"),
        }
    }
}

/// What somebody has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(
    tag = "what",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Thing {
    /// A key that proves them, or an authority's key that vouches for them.
    Key {
        /// `SHA256:...`
        fingerprint: String,
    },
    /// A way from principals to identities, or from certificates to groups.
    Rule {
        /// As it is written, shortly.
        rule: String,
    },
    /// A role for which the own name stands.
    OwnName,
    /// A role on a cluster.
    Role {
        /// The role.
        role: Name,
        /// Where.
        cluster: Name,
    },
    /// Recordings to read.
    Recordings {
        /// By which role.
        role: Name,
    },
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key { fingerprint } => write!(f, "the key {fingerprint}"),
            Self::Rule { rule } => f.write_str(rule),
            Self::OwnName => f.write_str("the own name as a login"),
            Self::Role { role, cluster } => write!(f, "{role} on {cluster}"),
            Self::Recordings { role } => write!(f, "{role}, recordings to read"),
        }
    }
}

/// What is said of a thing.
pub(super) type Aspects = BTreeMap<&'static str, String>;

/// What everybody has.
pub(super) type Holdings = BTreeMap<Holder, BTreeMap<Thing, Aspects>>;

/// Of bindings that stand then. Names of bindings and their reasons give nobody anything.
pub(super) fn holdings(config: &Config, now: Timestamp) -> Holdings {
    let mut all = Holdings::new();
    for identity in config.identities.values() {
        let things = all
            .entry(Holder::Identity(identity.name.clone()))
            .or_default();
        proofs(things, identity);
        let bindings = config.bindings_of(&identity.name, &identity.groups);
        given(things, config, bindings, now);
    }
    for group in groups_of_authorities(config) {
        let nobody: BTreeSet<Group> = BTreeSet::from([group.clone()]);
        let bindings = config.bindings.values().map(|binding| &**binding).filter(|binding| {
            let speaks =
                |subject: &Subject| matches!(subject, Subject::Group(one) if nobody.contains(one));
            binding.subjects.iter().any(speaks)
        });
        let things = all.entry(Holder::Group(group)).or_default();
        given(things, config, bindings, now);
    }
    for authority in config.authorities.values() {
        let things = all
            .entry(Holder::Authority(authority.name.clone()))
            .or_default();
        vouching(things, authority);
    }
    for provider in config.providers.values() {
        let things = all
            .entry(Holder::Provider(provider.name.clone()))
            .or_default();
        saying(things, provider);
    }
    all
}

fn groups_of_authorities(config: &Config) -> BTreeSet<Group> {
    let subjects = config
        .bindings
        .values()
        .flat_map(|binding| &binding.subjects);
    subjects
        .filter_map(|subject| match subject {
            Subject::Group(group) if group.is_of_an_authority() => Some(group.clone()),
            Subject::Group(_) | Subject::Identity(_) => None,
        })
        .collect()
}

fn proofs(things: &mut BTreeMap<Thing, Aspects>, identity: &IdentityDocument) {
    for key in &identity.keys {
        let fingerprint = fingerprint(&key.key);
        things.insert(Thing::Key { fingerprint }, of_key(key));
    }
    if let Some(role) = &identity.default_role {
        let aspects = Aspects::from([("stands for", role.to_string())]);
        things.insert(Thing::OwnName, aspects);
    }
}

fn of_key(key: &AuthorizedKey) -> Aspects {
    let mut aspects = Aspects::new();
    if !key.from.is_empty() {
        aspects.insert("from", networks(&key.from));
    }
    if let Some(expires) = key.expires {
        aspects.insert("until", expires.to_string());
    }
    let without = [(key.no_pty, "terminal"), (key.no_forwarding, "tunnel")];
    let without: Vec<&str> = without
        .into_iter()
        .filter_map(|(without, what)| without.then_some(what))
        .collect();
    if !without.is_empty() {
        aspects.insert("without", without.join(", "));
    }
    aspects
}

fn vouching(things: &mut BTreeMap<Thing, Aspects>, authority: &CertificateAuthority) {
    let algorithms: Vec<&str> = authority
        .algorithms
        .iter()
        .map(|one| one.as_str())
        .collect();
    for key in &authority.keys {
        let fingerprint = fingerprint(key);
        let aspects = Aspects::from([("signs by", algorithms.join(", "))]);
        things.insert(Thing::Key { fingerprint }, aspects);
    }
    meaning(things, "principals", &authority.name, &authority.identities);
    for rule in &authority.groups {
        let rule = format!("groups by {rule:?}");
        things.insert(Thing::Rule { rule }, Aspects::new());
    }
    if let Some(revoked) = &authority.revoked {
        let rule = "all but what is revoked".to_owned();
        let list = format!(
            "version {}, {} entries",
            revoked.version(),
            revoked.entries()
        );
        things.insert(Thing::Rule { rule }, Aspects::from([("list", list)]));
    }
}

/// How what a source calls people becomes identities.
fn meaning(
    things: &mut BTreeMap<Thing, Aspects>,
    called: &str,
    source: &Name,
    rules: &[PrincipalRule],
) {
    for (position, rule) in rules.iter().enumerate() {
        let whom = if rule.listed {
            "the Identity of the rest".to_owned()
        } else {
            format!("{source}--REST")
        };
        let rule = format!(
            "{called} {}...{} as {whom}",
            rule.prefix.escape_debug(),
            rule.suffix.escape_debug()
        );
        // The first that fits counts.
        let aspects = Aspects::from([("number", (position + 1).to_string())]);
        things.insert(Thing::Rule { rule }, aspects);
    }
}

fn saying(things: &mut BTreeMap<Thing, Aspects>, provider: &IdentityProvider) {
    meaning(things, "usernames", &provider.name, &provider.identities);
    let groups = provider.groups_claim.as_deref().unwrap_or("none");
    let key = if provider.any_key { "any" } else { "their own" };
    let rule = "a word on who holds a key".to_owned();
    let aspects = Aspects::from([
        ("by", provider.issuer.clone()),
        ("to", provider.client_id.clone()),
        ("username by", provider.username_claim.clone()),
        ("groups by", groups.to_owned()),
        ("for", show_duration(provider.remember)),
        ("key", key.to_owned()),
    ]);
    things.insert(Thing::Rule { rule }, aspects);
}

/// What bindings give, taken together.
fn given<'c>(
    things: &mut BTreeMap<Thing, Aspects>,
    config: &Config,
    bindings: impl Iterator<Item = &'c Binding>,
    now: Timestamp,
) {
    let mut by: BTreeMap<Thing, Vec<&Binding>> = BTreeMap::new();
    for binding in bindings.filter(|binding| binding.until.is_none_or(|until| now < until)) {
        for role in binding
            .roles
            .iter()
            .filter_map(|role| config.roles.get(role))
        {
            let narrowed = |cluster: &Name| {
                let only = binding.clusters.as_ref();
                only.is_none_or(|only| only.contains(cluster))
            };
            match &role.access {
                RoleAccess::Kubernetes(kubernetes) => {
                    let clusters = kubernetes
                        .subjects
                        .keys()
                        .filter(|cluster| narrowed(cluster));
                    for cluster in clusters {
                        let thing = Thing::Role {
                            role: role.name.clone(),
                            cluster: cluster.clone(),
                        };
                        by.entry(thing).or_default().push(binding);
                    }
                }
                RoleAccess::Audit(_) => {
                    let role = role.name.clone();
                    by.entry(Thing::Recordings { role })
                        .or_default()
                        .push(binding);
                }
            }
        }
    }
    for (thing, bindings) in by {
        let aspects = match &thing {
            Thing::Role { role, cluster } => {
                match config.roles.get(role).map(|role| &role.access) {
                    Some(RoleAccess::Kubernetes(role)) => of_role(config, role, cluster, &bindings),
                    _ => continue,
                }
            }
            Thing::Recordings { role } => match config.roles.get(role).map(|role| &role.access) {
                Some(RoleAccess::Audit(role)) => of_recordings(role, &bindings),
                _ => continue,
            },
            _ => continue,
        };
        let aspects = with_requirement(aspects, config, &thing);
        things.insert(thing, aspects);
    }
}

fn longest(role: &KubernetesRole) -> String {
    let first = show_duration(role.max_session);
    if role.max_extension.is_zero() {
        return first;
    }
    format!("{first}, extended by {}", show_duration(role.max_extension))
}

fn with_requirement(mut aspects: Aspects, config: &Config, thing: &Thing) -> Aspects {
    let (Thing::Role { role, .. } | Thing::Recordings { role }) = thing else {
        return aspects;
    };
    let Some(role) = config.roles.get(role) else {
        return aspects;
    };
    let required: Vec<String> = role.require.iter().map(ToString::to_string).collect();
    if !required.is_empty() {
        aspects.insert("requires", required.join(", "));
    }
    if let Some(provider) = &role.device_flow {
        aspects.insert("device flow", format!("of {provider}"));
    }
    aspects
}

fn of_role(config: &Config, role: &KubernetesRole, cluster: &Name, by: &[&Binding]) -> Aspects {
    let hands_out = by
        .iter()
        .any(|binding| binding.from.is_empty() && binding.sessions_at_once.is_none());
    let hands_out = hands_out && role.has_credential(cluster);
    let kinds: Vec<String> = role
        .sessions
        .iter()
        .filter(|kind| **kind != SessionKind::Credential || hands_out)
        .map(ToString::to_string)
        .collect();
    let mut aspects = Aspects::from([
        ("sessions", kinds.join(", ")),
        ("longest", longest(role)),
        ("input", format!("{:?}", role.record_input).to_lowercase()),
        ("bodies", format!("{:?}", role.bodies).to_lowercase()),
        ("given", bounds(by)),
    ]);
    match role.subjects.get(cluster) {
        Some(SubjectTemplate::ServiceAccount(account)) => {
            let account = format!("ServiceAccount {}/{}", account.namespace, account.name);
            aspects.insert("as", account);
            let ttl = role.credential_ttl.as_secs();
            aspects.insert(
                "credentials",
                show_duration(std::time::Duration::from_secs(ttl.into())),
            );
        }
        Some(SubjectTemplate::Own { groups }) => {
            let groups: Vec<String> = groups.iter().map(|group| prefixed(group)).collect();
            aspects.insert(
                "as",
                format!("{} in {}", prefixed("{identity}"), groups.join(", ")),
            );
            if let Some(issuer) = &config.bastion.issuer {
                let ttl = issuer.token_ttl.as_secs();
                aspects.insert(
                    "credentials",
                    show_duration(std::time::Duration::from_secs(ttl.into())),
                );
            }
        }
        Some(SubjectTemplate::Impersonated { username, groups }) => {
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            aspects.insert("as", format!("{username} in {}", groups.join(", ")));
        }
        None => {}
    }
    if !role.egress.is_empty() {
        let hosts: Vec<String> = role.egress.iter().map(ToString::to_string).collect();
        aspects.insert("reaches", hosts.join(", "));
    }
    if !role.tools.is_empty() {
        let tools: Vec<String> = role
            .tools
            .iter()
            .map(|tool| tool.display().to_string())
            .collect();
        aspects.insert("tools", tools.join(", "));
    }
    if role.rescue {
        aspects.insert("rescue", "while the disk is full, too".to_owned());
    }
    aspects
}

fn of_recordings(role: &AuditRole, by: &[&Binding]) -> Aspects {
    let clusters: BTreeSet<String> = by
        .iter()
        .map(|binding| match &binding.clusters {
            None => pattern(&role.clusters),
            Some(only) => {
                let left = only.iter().filter(|cluster| role.clusters.matches(cluster));
                left.map(Name::as_str).collect::<Vec<_>>().join(", ")
            }
        })
        .collect();
    Aspects::from([
        ("of identities", pattern(&role.identities)),
        ("on clusters", join(clusters, "; ")),
        ("given", bounds(by)),
    ])
}

/// Within which bounds, if one of the bindings does not give it without any.
fn bounds(by: &[&Binding]) -> String {
    let each: BTreeSet<String> = by
        .iter()
        .map(|binding| {
            let mut words = Vec::new();
            if let Some(until) = binding.until {
                words.push(format!("until {until}"));
            }
            if !binding.from.is_empty() {
                words.push(format!("from {}", networks(&binding.from)));
            }
            if let Some(most) = binding.sessions_at_once {
                words.push(format!("{most} at once"));
            }
            words.join(", ")
        })
        .collect();
    if each.contains("") {
        return "always".to_owned();
    }
    join(each, " or ")
}

fn networks(networks: &[SourceNetwork]) -> String {
    let mut shown: Vec<String> = networks.iter().map(ToString::to_string).collect();
    shown.sort();
    shown.join(" ")
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::All => "all".to_owned(),
        Pattern::Names(names) => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            names.join(", ")
        }
    }
}

fn join(words: BTreeSet<String>, between: &str) -> String {
    let words: Vec<String> = words.into_iter().collect();
    words.join(between)
}
