//! The decision itself, on names and groups.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::conditions::{gives_now, gives_there, hands_out, one_more, speaks_of, stands};
use super::denial::{Denial, ShownPrincipal};
use super::locked::closed;
use super::{KubernetesSubject, OpenSession, Request, Supposed};
use crate::config::{
    AuthorizedKey, Binding, Config, CredentialTtl, Factor, IdentityDocument, KubernetesRole, Name,
    RecordBodies, RecordInput, RoleAccess, SessionKind, SubjectTemplate, named,
};
use crate::identity::Group;
use crate::issuer::prefixed;

/// What was decided and why. Opens nothing by itself; a [`super::Grant`] does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Who.
    pub identity: Name,
    /// Takes which role.
    pub role: Name,
    /// On which cluster.
    pub cluster: Name,
    /// For which kind of session.
    pub kind: SessionKind,
    /// As whom in the cluster.
    pub subject: KubernetesSubject,
    /// Lifetime of each credential.
    pub ttl: CredentialTtl,
    /// When such a session ends at the latest.
    pub ends: Timestamp,
    /// What is kept of standard input.
    pub record_input: RecordInput,
    /// What is kept of what requests to the cluster carry.
    pub bodies: RecordBodies,
    /// It may be opened while the disk of the recordings is full.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rescue: bool,
    /// Allowed by which binding.
    pub binding: Name,
    /// The binding's reason.
    pub reason: Option<String>,
    /// What must have been proven.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Factor>,
}

impl Decision {
    /// The login name that means this and nothing else.
    pub(super) fn login(&self) -> String {
        format!("{}+{}", self.role, self.cluster)
    }
}

/// About whom is decided.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) name: &'a Name,
    pub(super) groups: &'a BTreeSet<Group>,
    pub(super) default_role: Option<&'a Name>,
}

/// The line of a key that proves this identity now, by its fingerprint.
pub(super) fn standing_key<'c>(
    config: &Config,
    document: &'c IdentityDocument,
    fingerprint: &str,
    now: Timestamp,
) -> Option<&'c AuthorizedKey> {
    document
        .keys
        .iter()
        .find(|line| crate::identity::fingerprint(&line.key) == fingerprint)
        .filter(|line| line.expires.is_none_or(|expires| now < expires))
        .filter(|line| !config.has_revoked(line.key.key_data()))
}

/// The roles that an identity may take now: for each, the clusters and what gives it there.
pub(super) type Choices<'c> = BTreeMap<&'c Name, BTreeMap<&'c Name, Given<'c>>>;

/// A role on a cluster, as far as bindings give it.
#[derive(Clone, Copy)]
pub(super) struct Given<'c> {
    /// The best of them.
    pub(super) binding: &'c Binding,
    /// Whether that one or another may hand out credentials.
    pub(super) hands_out: bool,
}

pub(super) fn judge(
    config: &Config,
    who: Who<'_>,
    request: &Request,
    supposed: Supposed,
    open: &[OpenSession],
) -> Result<Decision, Denial> {
    let own: Vec<&Binding> = config.bindings_of(who.name, who.groups).collect();
    let asked = Asked {
        config,
        who,
        own: &own,
        principal: &request.principal,
        supposed,
        open,
    };
    let (role, cluster) = asked.role_and_cluster()?;
    asked.grantable(role, cluster, request.kind)
}

/// The role that a login name says in so many words and can be had by. Their own name says none, whatever it stands for.
pub(super) fn role_named(
    config: &Config,
    who: Who<'_>,
    login: &str,
    supposed: Supposed,
) -> Option<Name> {
    if login == who.name.as_str() {
        return None;
    }
    let own: Vec<&Binding> = config.bindings_of(who.name, who.groups).collect();
    let asked = Asked {
        config,
        who,
        own: &own,
        principal: login,
        supposed,
        open: &[],
    };
    let (role, _) = asked.role_and_cluster().ok()?;
    Some(role.clone())
}

/// Every Kubernetes role that a standing binding gives there, everywhere it gives it.
pub(super) fn kubernetes_choices<'c>(
    config: &'c Config,
    who: Who<'_>,
    supposed: Supposed,
) -> Choices<'c> {
    choices(config, config.bindings_of(who.name, who.groups), supposed)
}

fn choices<'c>(
    config: &'c Config,
    own: impl Iterator<Item = &'c Binding>,
    supposed: Supposed,
) -> Choices<'c> {
    let mut choices = Choices::new();
    for binding in own {
        if !gives_now(binding, supposed) {
            continue;
        }
        for role in &binding.roles {
            let Some((role, kubernetes)) = kubernetes_role(config, role) else {
                continue;
            };
            for cluster in clusters(binding, kubernetes) {
                let hands_out = hands_out(binding) && kubernetes.has_credential(cluster);
                choices
                    .entry(role)
                    .or_default()
                    .entry(cluster)
                    // Bindings come by name, so of two that last equally long the first stays.
                    .and_modify(|given| {
                        given.hands_out |= hands_out;
                        if outlasts(binding, given.binding) {
                            given.binding = binding;
                        }
                    })
                    .or_insert(Given { binding, hands_out });
            }
        }
    }
    choices
}

pub(super) fn outlasts(one: &Binding, other: &Binding) -> bool {
    match (one.until, other.until) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => one > other,
    }
}

pub(super) fn kubernetes_role<'c>(
    config: &'c Config,
    role: &Name,
) -> Option<(&'c Name, &'c KubernetesRole)> {
    let role = config.roles.get(role)?;
    match &role.access {
        RoleAccess::Kubernetes(kubernetes) => Some((&role.name, kubernetes)),
        RoleAccess::Audit(_) => None,
    }
}

fn clusters<'c>(binding: &'c Binding, role: &'c KubernetesRole) -> impl Iterator<Item = &'c Name> {
    role.subjects.keys().filter(|cluster| {
        binding
            .clusters
            .as_ref()
            .is_none_or(|narrowed| narrowed.contains(*cluster))
    })
}

pub(super) fn subject(template: &SubjectTemplate, identity: &Name) -> KubernetesSubject {
    match template {
        SubjectTemplate::ServiceAccount(account) => KubernetesSubject::ServiceAccount {
            namespace: account.namespace.clone(),
            name: account.name.replace("{identity}", identity.as_str()),
        },
        SubjectTemplate::Own { groups } => KubernetesSubject::Own {
            username: prefixed(identity.as_str()),
            groups: groups.iter().map(|group| prefixed(group)).collect(),
        },
        SubjectTemplate::Impersonated { username, groups } => KubernetesSubject::Impersonated {
            username: named(username, identity),
            groups: groups.iter().cloned().collect(),
        },
    }
}

/// Who signs the token says how long it lives.
fn ttl(config: &Config, role: &KubernetesRole, template: &SubjectTemplate) -> CredentialTtl {
    match (template, &config.bastion.issuer) {
        (SubjectTemplate::Own { .. }, Some(issuer)) => issuer.token_ttl,
        _ => role.credential_ttl,
    }
}

struct Asked<'a> {
    config: &'a Config,
    who: Who<'a>,
    /// The bindings that speak of them, whatever they give and when.
    own: &'a [&'a Binding],
    principal: &'a str,
    supposed: Supposed,
    open: &'a [OpenSession],
}

impl<'a> Asked<'a> {
    /// What the login name stands for. Where it could stand for two things it stands for none.
    fn role_and_cluster(&self) -> Result<(&'a Name, &'a Name), Denial> {
        if self.principal == self.who.name.as_str() {
            return match self.who.default_role {
                Some(role) => self.only_cluster(role),
                None => self.only_choice(),
            };
        }
        let (role, cluster) = match self.principal.split_once('+') {
            Some((role, cluster)) => (role, Some(cluster)),
            None => (self.principal, None),
        };
        let Ok(role) = Name::new(role) else {
            return Err(self.unknown());
        };
        match cluster {
            None => self.only_cluster(&role),
            Some(cluster) => self.on_cluster(&role, cluster),
        }
    }

    fn only_choice(&self) -> Result<(&'a Name, &'a Name), Denial> {
        let choices = self.choices();
        let mut pairs = choices
            .iter()
            .flat_map(|(role, clusters)| clusters.keys().map(move |cluster| (*role, *cluster)));
        match (pairs.next(), pairs.next()) {
            (Some(pair), None) => Ok(pair),
            (None, _) => Err(self.nothing_now(None)),
            _ => Err(Denial::Ambiguous {
                identity: self.who.name.clone(),
                choices: logins(&choices),
            }),
        }
    }

    fn only_cluster(&self, role: &Name) -> Result<(&'a Name, &'a Name), Denial> {
        let (role, clusters) = self.of_role(role)?;
        let mut names = clusters.iter();
        match (names.next(), names.next()) {
            (Some(cluster), None) => Ok((role, cluster)),
            _ => Err(Denial::Ambiguous {
                identity: self.who.name.clone(),
                choices: clusters
                    .iter()
                    .map(|cluster| format!("{role}+{cluster}"))
                    .collect(),
            }),
        }
    }

    fn on_cluster(&self, role: &Name, cluster: &str) -> Result<(&'a Name, &'a Name), Denial> {
        let (role, clusters) = self.of_role(role)?;
        match clusters.iter().find(|name| name.as_str() == cluster) {
            Some(cluster) => Ok((role, cluster)),
            None => Err(Denial::NotOnCluster {
                role: role.clone(),
                asked: ShownPrincipal::of(cluster),
                clusters: clusters.iter().map(|name| (*name).clone()).collect(),
            }),
        }
    }

    /// Where a role is theirs now. What else is theirs is looked at only where it has to be told.
    fn of_role(&self, role: &Name) -> Result<(&'a Name, BTreeSet<&'a Name>), Denial> {
        let none = || self.nothing_now(Some(role));
        let (name, kubernetes) = kubernetes_role(self.config, role).ok_or_else(none)?;
        let giving = self.own.iter().copied();
        let mut there = BTreeSet::new();
        for binding in giving
            .filter(|binding| binding.roles.contains(name) && gives_now(binding, self.supposed))
        {
            there.extend(clusters(binding, kubernetes));
        }
        match there.is_empty() {
            true => Err(none()),
            false => Ok((name, there)),
        }
    }

    fn choices(&self) -> Choices<'a> {
        choices(self.config, self.own.iter().copied(), self.supposed)
    }

    /// Why a role (or any) cannot be taken: an own binding that has ended and an own audit role are told; a
    /// role of others looks the same as one that does not exist.
    fn nothing_now(&self, role: Option<&Name>) -> Denial {
        let meant = |name: &Name| role.is_none_or(|role| role == name);
        let own = self.own;
        let audit = own
            .iter()
            .filter(|binding| gives_now(binding, self.supposed))
            .flat_map(|binding| &binding.roles)
            .find(|name| meant(name) && is_audit(self.config, name));
        if let Some(audit) = audit {
            return Denial::AuditRole {
                role: audit.clone(),
                choices: self.logins(),
                host: self.config.bastion.advertise.clone(),
            };
        }
        if let Some(denial) = self.elsewhere(own, &meant) {
            return denial;
        }
        let ended = own
            .iter()
            .filter_map(|binding| {
                let role = binding.roles.iter().find(|name| meant(name))?;
                Some((binding.until?, *binding, role))
            })
            .filter(|(until, _, _)| *until <= self.supposed.now)
            .max_by_key(|(until, _, _)| *until);
        match (ended, role) {
            (Some((until, binding, role)), _) => Denial::Ended {
                role: role.clone(),
                binding: binding.name.clone(),
                until,
                choices: self.logins(),
            },
            (None, None) => Denial::NoRole {
                identity: self.who.name.clone(),
            },
            (None, Some(_)) => self.unknown(),
        }
    }

    /// If only the address is wrong.
    fn elsewhere(&self, own: &[&Binding], meant: &impl Fn(&Name) -> bool) -> Option<Denial> {
        let from = self.supposed.from?;
        let standing = own
            .iter()
            .filter(|binding| stands(binding, self.supposed.now))
            .filter(|binding| !gives_there(binding, Some(from)));
        standing
            .filter_map(|binding| Some((binding, binding.roles.iter().find(|name| meant(name))?)))
            .map(|(binding, role)| Denial::NotFromHere {
                role: role.clone(),
                binding: binding.name.clone(),
                from: from.to_canonical(),
                choices: self.logins(),
            })
            .next()
    }

    /// The binding that gives one more session of this kind: of those with room, the one that lasts longest.
    fn binding_for(
        &self,
        role: &Name,
        cluster: &Name,
        kind: SessionKind,
    ) -> Result<&'a Binding, Denial> {
        let mut best: Option<&Binding> = None;
        let mut refused = None;
        for binding in self.own.iter().copied() {
            if !gives_now(binding, self.supposed) || !speaks_of(self.config, binding, role, cluster)
            {
                continue;
            }
            match one_more(self.config, binding, (role, cluster), kind, self.open) {
                Ok(()) if best.is_none_or(|best| outlasts(binding, best)) => best = Some(binding),
                Ok(()) => {}
                Err(denial) => drop(refused.get_or_insert(denial)),
            }
        }
        best.ok_or_else(|| refused.unwrap_or_else(|| self.unknown()))
    }

    fn unknown(&self) -> Denial {
        Denial::UnknownPrincipal {
            identity: self.who.name.clone(),
            asked: ShownPrincipal::of(self.principal),
            choices: self.logins(),
            host: self.config.bastion.advertise.clone(),
        }
    }

    /// The login names that would work.
    fn logins(&self) -> Vec<String> {
        logins(&self.choices())
    }

    fn grantable(
        &self,
        role: &Name,
        cluster: &Name,
        kind: SessionKind,
    ) -> Result<Decision, Denial> {
        let (role, kubernetes) =
            kubernetes_role(self.config, role).ok_or_else(|| self.unknown())?;
        let template = kubernetes
            .subjects
            .get(cluster)
            .ok_or_else(|| self.unknown())?;
        closed(self.config, self.who.name, role, cluster, self.supposed.now)?;
        if !kubernetes.sessions.contains(&kind) {
            return Err(Denial::KindNotAllowed {
                role: role.clone(),
                kind,
                allowed: kubernetes.sessions.iter().copied().collect(),
            });
        }
        if kind == SessionKind::Credential && !kubernetes.has_credential(cluster) {
            return Err(Denial::NoCredential {
                role: role.clone(),
                cluster: cluster.clone(),
            });
        }
        let binding = self.binding_for(role, cluster, kind)?;
        Ok(Decision {
            identity: self.who.name.clone(),
            role: role.clone(),
            cluster: cluster.clone(),
            kind,
            subject: subject(template, self.who.name),
            ttl: ttl(self.config, kubernetes, template),
            ends: ends(self.supposed.now, kubernetes, binding),
            record_input: kubernetes.record_input,
            bodies: kubernetes.bodies,
            rescue: kubernetes.rescue,
            binding: binding.name.clone(),
            reason: binding.reason.clone(),
            requires: requires(self.config, role),
        })
    }
}

/// What a role requires, in the order in which it is told.
pub(super) fn requires(config: &Config, role: &Name) -> Vec<Factor> {
    let required = config.roles.get(role).map(|role| &role.require);
    required.into_iter().flatten().copied().collect()
}

fn is_audit(config: &Config, role: &Name) -> bool {
    matches!(
        config.roles.get(role).map(|role| &role.access),
        Some(RoleAccess::Audit(_))
    )
}

/// `ROLE` where it is enough, `ROLE+CLUSTER` where it is not.
pub(super) fn logins(choices: &Choices<'_>) -> Vec<String> {
    choices
        .iter()
        .flat_map(|(role, clusters)| {
            let alone = clusters.len() == 1;
            clusters.keys().map(move |cluster| {
                if alone {
                    role.to_string()
                } else {
                    format!("{role}+{cluster}")
                }
            })
        })
        .collect()
}

fn ends(now: Timestamp, role: &KubernetesRole, binding: &Binding) -> Timestamp {
    let longest = SignedDuration::try_from(role.max_session).unwrap_or(SignedDuration::ZERO);
    let latest = now.saturating_add(longest).unwrap_or(now);
    binding.until.map_or(latest, |until| until.min(latest))
}
