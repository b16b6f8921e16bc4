//! What documents mean together: names are unique, references lead somewhere, every identity and role is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::authorized_keys::Wrong;
use super::fields::nearest;
use super::index::Index;
use super::model::{Config, Name};
use super::problem::{At, Gathered, Place};
use super::raw::{
    Document, Kind, RawAuthority, RawBinding, RawIdentity, RawProvider, RawRole, Spec,
};
use super::source::{Reader, absolute};

mod authorities;
mod bastion;
mod bindings;
mod clusters;
mod identities;
mod issuer;
mod providers;
mod roles;
mod sandbox;

/// All documents, by kind and name. A document whose `spec` could not be read still has its name here.
pub(super) struct Documents<'a> {
    gathered: &'a Gathered,
    by_kind: BTreeMap<Kind, BTreeMap<Name, Arc<Document>>>,
    /// Some document could not be read at all, so a name that seems to be missing may be in that one.
    incomplete: bool,
}

/// Makes a configuration of all documents, or reports why there is none.
pub(super) fn config(
    gathered: &Gathered,
    root: &Path,
    found: Vec<Arc<Document>>,
    incomplete: bool,
    reader: &mut Reader,
) -> Option<Config> {
    let documents = Documents::sort(gathered, found, incomplete);
    documents.names_are_disjoint();
    let clusters = documents.clusters();
    documents.audiences_differ(&clusters);
    let roles = documents.roles(&clusters);
    let identities = documents.identities(reader);
    let authorities = documents.authorities(&identities, reader);
    let providers = documents.providers(&authorities);
    documents.signing_on_is_possible(&roles, &providers);
    let sources = (&authorities, &providers);
    let bindings = documents.bindings(&roles, &identities, sources);
    documents.default_roles(&roles, &identities, &bindings);
    let bastion = documents.bastion(root, &clusters)?;
    let index = Index::build(&identities, &authorities, &bindings);
    Some(Config {
        bastion,
        clusters,
        identities,
        authorities,
        providers,
        roles,
        bindings,
        // Filled in when every file has been read.
        digest: String::new(),
        // Nor are locks, enrolments and sign-ons in any file of these: whoever puts this in force sees to them.
        locks: crate::locks::Locks::default(),
        enrolled: crate::totp::Enrolled::default(),
        sign_ons: crate::oidc::SignOns::default(),
        index,
    })
}

impl<'a> Documents<'a> {
    fn sort(gathered: &'a Gathered, found: Vec<Arc<Document>>, incomplete: bool) -> Self {
        let mut by_kind: BTreeMap<Kind, BTreeMap<Name, Arc<Document>>> = BTreeMap::new();
        for document in found {
            let named = by_kind.entry(document.kind).or_default();
            if let Some(first) = named.get(&document.name.value) {
                gathered.report(
                    &document.name.at,
                    format!(
                        "the {} '{}' is defined a second time; the first is at {}; remove or rename one",
                        document.kind.as_str(),
                        document.name.value,
                        first.name.at
                    ),
                );
                continue;
            }
            named.insert(document.name.value.clone(), document);
        }
        Self {
            gathered,
            by_kind,
            incomplete,
        }
    }

    fn report(&self, at: &Place, message: impl Into<String>) {
        self.gathered.report(at, message);
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Document> {
        self.by_kind
            .get(&kind)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|document| &**document)
    }

    fn get(&self, kind: Kind, name: &Name) -> Option<&Document> {
        Some(self.by_kind.get(&kind)?.get(name)?)
    }

    /// Whether a reference leads somewhere; reports it if not.
    fn check_reference(&self, kind: Kind, name: &At<Name>) -> bool {
        if self.get(kind, &name.value).is_some() {
            return true;
        }
        let known: Vec<&str> = self.of(kind).map(|d| d.name.value.as_str()).collect();
        let advice = self.advice(name.value.as_str(), &known);
        self.report(
            &name.at,
            format!("no {} '{}' is defined{advice}", kind.as_str(), name.value),
        );
        false
    }

    fn advice(&self, missing: &str, known: &[&str]) -> String {
        if let Some(near) = nearest(missing, known) {
            format!("; did you mean '{near}'?")
        } else if self.incomplete {
            "; it may be in a document that could not be read".to_owned()
        } else if known.is_empty() {
            "; define it".to_owned()
        } else {
            let more = if known.len() > 8 { ", ..." } else { "" };
            let some: Vec<&str> = known.iter().copied().take(8).collect();
            format!("; defined are: {}{more}", some.join(", "))
        }
    }

    /// As a login name, a word must mean one thing.
    fn names_are_disjoint(&self) {
        for role in self.of(Kind::Role) {
            if let Some(identity) = self.get(Kind::Identity, &role.name.value) {
                self.report(
                    &role.name.at,
                    format!(
                        "a Role and an Identity are both named '{}' (the other is at {}), so a login under that name \
                         would be ambiguous; rename one",
                        role.name.value, identity.name.at
                    ),
                );
            }
        }
    }

    fn specs<'s, S: 's>(
        &'s self,
        kind: Kind,
        pick: fn(&Spec) -> Option<&S>,
    ) -> impl Iterator<Item = (&'s Document, &'s S)> {
        self.of(kind)
            .filter_map(move |document| Some((document, pick(document.spec.as_ref()?)?)))
    }

    fn role_specs(&self) -> impl Iterator<Item = (&Document, &RawRole)> {
        self.specs(Kind::Role, |spec| match spec {
            Spec::Role(raw) => Some(&**raw),
            _ => None,
        })
    }

    fn identity_specs(&self) -> impl Iterator<Item = (&Document, &RawIdentity)> {
        self.specs(Kind::Identity, |spec| match spec {
            Spec::Identity(raw) => Some(raw),
            _ => None,
        })
    }

    fn authority_specs(&self) -> impl Iterator<Item = (&Document, &RawAuthority)> {
        self.specs(Kind::CertificateAuthority, |spec| match spec {
            Spec::CertificateAuthority(raw) => Some(raw),
            _ => None,
        })
    }

    fn provider_specs(&self) -> impl Iterator<Item = (&Document, &RawProvider)> {
        self.specs(Kind::IdentityProvider, |spec| match spec {
            Spec::IdentityProvider(raw) => Some(&**raw),
            _ => None,
        })
    }

    fn binding_specs(&self) -> impl Iterator<Item = (&Document, &RawBinding)> {
        self.specs(Kind::Binding, |spec| match spec {
            Spec::Binding(raw) => Some(raw),
            _ => None,
        })
    }
}

/// A path of a document, absolute.
fn document_path(document: &Document, path: &str) -> PathBuf {
    absolute(&document.base.join(path))
}

/// Where in a line of keys something is wrong, and what.
fn misplaced(line: &At<String>, wrong: Wrong) -> (Place, String) {
    let before = line.value.get(..wrong.offset).unwrap_or("");
    let column = u32::try_from(before.chars().count()).unwrap_or(0);
    let at = Place {
        column: line.at.column.saturating_add(column),
        ..line.at.clone()
    };
    (at, wrong.message)
}
