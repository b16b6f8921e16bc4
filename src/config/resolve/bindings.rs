//! Bindings: every name in them leads somewhere, and together they give something.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Documents;
use crate::config::authority::CertificateAuthority;
use crate::config::model::{Binding, IdentityDocument, Name, Pattern, Role, RoleAccess, Subject};
use crate::config::problem::At;
use crate::config::provider::IdentityProvider;
use crate::config::raw::{Kind, RawBinding, RawSubject};
use crate::identity::Group;

impl Documents<'_> {
    pub(super) fn bindings(
        &self,
        roles: &BTreeMap<Name, Role>,
        identities: &BTreeMap<Name, IdentityDocument>,
        (authorities, providers): Sources<'_>,
    ) -> BTreeMap<Name, Arc<Binding>> {
        let groups = Groups {
            of_the_file: identities.values().flat_map(|i| &i.groups).collect(),
            authorities,
            providers,
        };
        self.binding_specs()
            .map(|(document, spec)| {
                let name = document.name.value.clone();
                let clusters = spec
                    .clusters
                    .as_ref()
                    .map(|listed| self.defined(Kind::Cluster, &listed.value));
                let binding = Binding {
                    name: name.clone(),
                    subjects: self.binding_subjects(spec, &groups),
                    roles: self.defined(Kind::Role, &spec.roles),
                    clusters,
                    until: spec.until.as_ref().map(|at| at.value),
                    from: spec.from.as_ref().map_or_else(Vec::new, |listed| {
                        listed.value.iter().map(|at| at.value.clone()).collect()
                    }),
                    sessions_at_once: spec.sessions_at_once.as_ref().map(|at| at.value),
                    reason: spec.reason.as_ref().map(|at| at.value.clone()),
                };
                self.narrowing_leaves_something(spec, &binding, roles);
                self.sessions_can_be_counted(spec, &binding, roles);
                (name, Arc::new(binding))
            })
            .collect()
    }

    fn defined(&self, kind: Kind, listed: &[At<Name>]) -> BTreeSet<Name> {
        listed
            .iter()
            .filter(|name| self.check_reference(kind, name))
            .map(|name| name.value.clone())
            .collect()
    }

    fn binding_subjects(&self, spec: &RawBinding, groups: &Groups<'_>) -> Vec<Subject> {
        spec.subjects
            .iter()
            .filter_map(|subject| match &subject.value {
                RawSubject::Identity(name) => {
                    let name = At {
                        value: name.clone(),
                        at: subject.at.clone(),
                    };
                    self.check_reference(Kind::Identity, &name)
                        .then_some(Subject::Identity(name.value))
                }
                RawSubject::Group(text) => self.group(subject, text, groups).map(Subject::Group),
            })
            .collect()
    }

    fn group(&self, subject: &At<RawSubject>, text: &str, groups: &Groups<'_>) -> Option<Group> {
        if text.contains([':', '/']) {
            return self.group_of_a_source(subject, text, groups);
        }
        let group = match Group::from_file(text) {
            Ok(group) => group,
            Err(error) => {
                self.report(
                    &subject.at,
                    format!("'{}' is not a group: {error}", text.escape_debug()),
                );
                return None;
            }
        };
        if groups.of_the_file.contains(&group) {
            return Some(group);
        }
        let known: BTreeSet<&str> = groups
            .of_the_file
            .iter()
            .map(|group| group.as_str())
            .collect();
        let known: Vec<&str> = known.into_iter().collect();
        let advice = self.advice(text, &known);
        self.report(
            &subject.at,
            format!("no Identity has the group '{text}'{advice}"),
        );
        None
    }

    /// `ca/NAME:GROUP` and `oidc/NAME:GROUP`. Which groups a source will name cannot be known; that it can name any must be.
    fn group_of_a_source(
        &self,
        subject: &At<RawSubject>,
        text: &str,
        groups: &Groups<'_>,
    ) -> Option<Group> {
        let of = |prefix: &str| {
            let (name, group) = text.strip_prefix(prefix)?.split_once(':')?;
            Some((Name::new(name).ok()?, group))
        };
        let by_authority = of("ca/").map(|parts| (Kind::CertificateAuthority, parts));
        let by_provider = of("oidc/").map(|parts| (Kind::IdentityProvider, parts));
        let Some((kind, (name, group))) = by_authority.or(by_provider) else {
            self.report(
                &subject.at,
                format!(
                    "'{}' is not a group: write GROUP for one of the Identities', ca/NAME:GROUP for one of a CertificateAuthority's, \
                     oidc/NAME:GROUP for one of an IdentityProvider's",
                    text.escape_debug()
                ),
            );
            return None;
        };
        let named = At {
            value: name,
            at: subject.at.clone(),
        };
        if !self.check_reference(kind, &named) {
            return None;
        }
        let name = &named.value;
        let (names_none, instead) = match kind {
            Kind::IdentityProvider => (
                groups
                    .providers
                    .get(name)
                    .is_some_and(|provider| provider.groups_claim.is_none()),
                "a 'groupsClaim'",
            ),
            _ => (
                groups
                    .authorities
                    .get(name)
                    .is_some_and(|authority| authority.groups.is_empty()),
                "a rule under 'groups'",
            ),
        };
        if names_none {
            self.report(
                &subject.at,
                format!(
                    "the {} '{name}' names no groups, so nobody is in '{}'; give {name} {instead}",
                    kind.as_str(),
                    text.escape_debug()
                ),
            );
            return None;
        }
        let group_of = match kind {
            Kind::IdentityProvider => Group::from_provider(name, group),
            _ => Group::from_authority(name, group),
        };
        match group_of {
            Ok(group) => Some(group),
            Err(error) => {
                self.report(
                    &subject.at,
                    format!("'{}' is not a group: {error}", group.escape_debug()),
                );
                None
            }
        }
    }

    /// A number of sessions means nothing where none are opened.
    fn sessions_can_be_counted(
        &self,
        spec: &RawBinding,
        binding: &Binding,
        roles: &BTreeMap<Name, Role>,
    ) {
        let Some(number) = &spec.sessions_at_once else {
            return;
        };
        let mut given = binding
            .roles
            .iter()
            .filter_map(|name| roles.get(name))
            .peekable();
        let opens_none = |role: &Role| matches!(role.access, RoleAccess::Audit(_));
        if given.peek().is_some() && given.all(opens_none) {
            self.report(
                &number.at,
                "an audit role opens no sessions, so 'sessionsAtOnce' has no meaning here; remove it",
            );
        }
    }

    /// A narrowing to clusters where a role does not exist gives nothing, and nobody writes that on purpose.
    fn narrowing_leaves_something(
        &self,
        spec: &RawBinding,
        binding: &Binding,
        roles: &BTreeMap<Name, Role>,
    ) {
        let (Some(written), Some(narrowed)) = (&spec.clusters, &binding.clusters) else {
            return;
        };
        if narrowed.is_empty() {
            return;
        }
        for role in binding.roles.iter().filter_map(|name| roles.get(name)) {
            let left = match &role.access {
                RoleAccess::Kubernetes(kubernetes) => narrowed
                    .iter()
                    .any(|name| kubernetes.subjects.contains_key(name)),
                RoleAccess::Audit(audit) => match &audit.clusters {
                    Pattern::All => true,
                    Pattern::Names(names) => narrowed.iter().any(|name| names.contains(name)),
                },
            };
            if !left {
                self.report(
                    &written.at,
                    format!(
                        "the role '{}' exists on none of these clusters, so this gives nothing of it; \
                         name one of the role's clusters, or leave the role out",
                        role.name
                    ),
                );
            }
        }
    }
}

/// The groups that there are.
struct Groups<'c> {
    of_the_file: HashSet<&'c Group>,
    authorities: &'c BTreeMap<Name, CertificateAuthority>,
    providers: &'c BTreeMap<Name, IdentityProvider>,
}

/// Who else names groups.
type Sources<'c> = (
    &'c BTreeMap<Name, CertificateAuthority>,
    &'c BTreeMap<Name, IdentityProvider>,
);

/// Who is bound to which role, whenever and wherever.
pub(super) struct Bound<'c> {
    by_identity: HashMap<&'c Name, BTreeSet<&'c Name>>,
    by_group: HashMap<&'c Group, BTreeSet<&'c Name>>,
}

impl<'c> Bound<'c> {
    pub(super) fn new(bindings: &'c BTreeMap<Name, Arc<Binding>>) -> Self {
        let mut bound = Self {
            by_identity: HashMap::new(),
            by_group: HashMap::new(),
        };
        for binding in bindings.values() {
            for subject in &binding.subjects {
                match subject {
                    Subject::Identity(name) => bound.by_identity.entry(name).or_default(),
                    Subject::Group(group) => bound.by_group.entry(group).or_default(),
                }
                .extend(&binding.roles);
            }
        }
        bound
    }

    pub(super) fn gives(&self, identity: &IdentityDocument, role: &Name) -> bool {
        let by_name = self.by_identity.get(&identity.name).into_iter();
        let by_group = identity
            .groups
            .iter()
            .filter_map(|group| self.by_group.get(group));
        // An authority may put whomever it names into its groups.
        let by_authority = self
            .by_group
            .iter()
            .filter(|(group, _)| group.is_of_an_authority())
            .map(|(_, roles)| roles);
        let by_group = by_group.chain(by_authority);
        by_name.chain(by_group).any(|roles| roles.contains(role))
    }
}
