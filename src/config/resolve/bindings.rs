//! Bindings: every name in them leads somewhere, and together they give something.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Documents;
use crate::config::model::{Binding, IdentityDocument, Name, Pattern, Role, RoleAccess, Subject};
use crate::config::problem::At;
use crate::config::raw::{Kind, RawBinding, RawSubject};
use crate::identity::Group;

impl Documents<'_> {
    pub(super) fn bindings(
        &self,
        roles: &BTreeMap<Name, Role>,
        identities: &BTreeMap<Name, IdentityDocument>,
    ) -> BTreeMap<Name, Binding> {
        let groups: HashSet<&Group> = identities.values().flat_map(|i| &i.groups).collect();
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
                    reason: spec.reason.as_ref().map(|at| at.value.clone()),
                };
                self.narrowing_leaves_something(spec, &binding, roles);
                (name, binding)
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

    fn binding_subjects(&self, spec: &RawBinding, groups: &HashSet<&Group>) -> Vec<Subject> {
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

    fn group(
        &self,
        subject: &At<RawSubject>,
        text: &str,
        groups: &HashSet<&Group>,
    ) -> Option<Group> {
        if text.contains([':', '/']) {
            self.report(
                &subject.at,
                format!(
                    "'{}' is a group of a certificate authority or a provider, and this version knows only groups of \
                     its own Identities",
                    text.escape_debug()
                ),
            );
            return None;
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
        if groups.contains(&group) {
            return Some(group);
        }
        let known: BTreeSet<&str> = groups.iter().map(|group| group.as_str()).collect();
        let known: Vec<&str> = known.into_iter().collect();
        let advice = self.advice(text, &known);
        self.report(
            &subject.at,
            format!("no Identity has the group '{text}'{advice}"),
        );
        None
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

/// Who is bound to which role, whenever and wherever.
pub(super) struct Bound<'c> {
    by_identity: HashMap<&'c Name, BTreeSet<&'c Name>>,
    by_group: HashMap<&'c Group, BTreeSet<&'c Name>>,
}

impl<'c> Bound<'c> {
    pub(super) fn new(bindings: &'c BTreeMap<Name, Binding>) -> Self {
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
        by_name.chain(by_group).any(|roles| roles.contains(role))
    }
}
