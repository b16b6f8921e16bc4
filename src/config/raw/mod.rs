//! Documents as they are written: the right keys with values of the right shape. What they mean together is
//! [`super::resolve`]'s.
//!
//! A value that is wrong has been reported and is `None` or left out, so that reading goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fields::{self, Decode, Fields, list, parsed, text};
use super::model::Name;
use super::problem::{At, Gathered, Place};
use super::scalar;
use super::yaml::{Node, Value};

mod admission;
mod authority;
mod bastion;
mod cluster;
mod evidence;
mod issuer;
mod provider;
mod recordings;
mod role;
mod who;

pub(super) use authority::RawAuthority;
pub(super) use bastion::{RawBastion, RequestIndex};
pub(super) use cluster::{RawCluster, RawMint};
pub(super) use issuer::{RawIssuer, RawIssuerKey};
pub(super) use provider::RawProvider;
pub(super) use recordings::RawS3;
pub(super) use role::{
    ClusterSelector, RawAudit, RawKubernetes, RawRole, RawServiceAccount, selectors, session_kind,
};
pub(super) use who::{RawBinding, RawIdentity, RawSubject};

/// The one version of documents that this program reads.
pub(super) const API_VERSION: &str = "bastion-audit.dev/v1alpha1";

/// What documents there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Bastion,
    Cluster,
    Identity,
    CertificateAuthority,
    IdentityProvider,
    Role,
    Binding,
}

impl Kind {
    const ALL: [(&'static str, Self); 7] = [
        ("Bastion", Self::Bastion),
        ("Cluster", Self::Cluster),
        ("Identity", Self::Identity),
        ("CertificateAuthority", Self::CertificateAuthority),
        ("IdentityProvider", Self::IdentityProvider),
        ("Role", Self::Role),
        ("Binding", Self::Binding),
    ];

    pub(super) fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

/// One document, as far as it could be read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) kind: Kind,
    pub(super) name: At<Name>,
    pub(super) labels: BTreeMap<String, String>,
    /// The directory that its paths are relative to.
    pub(super) base: Arc<Path>,
    pub(super) at: Place,
    pub(super) spec: Option<Spec>,
}

/// What a document says.
#[derive(Debug)]
pub(super) enum Spec {
    Bastion(Box<RawBastion>),
    Cluster(Box<RawCluster>),
    Identity(RawIdentity),
    CertificateAuthority(RawAuthority),
    IdentityProvider(Box<RawProvider>),
    Role(Box<RawRole>),
    Binding(RawBinding),
}

/// Reads a document. `None` if not even its kind and name can be told.
pub(super) fn document(gathered: &Gathered, node: &Node, base: &Arc<Path>) -> Option<Document> {
    let mut top = Fields::open(gathered, node, "a document")?;
    let version = top.required("apiVersion", text);
    let kind = top.required("kind", text);
    // Documents of others lie in the same directory by mistake: one sentence about that is enough.
    if let Some(version) = version.filter(|version| version.value != API_VERSION) {
        gathered.report(
            &version.at,
            format!(
                "'{}' is not an apiVersion of ours: write {API_VERSION}, or keep documents of others elsewhere",
                version.value.escape_debug()
            ),
        );
        return None;
    }
    let kind = kind.and_then(|kind| known_kind(gathered, &kind));
    let metadata = top.required("metadata", metadata);
    let spec = top.required_node("spec");
    top.close();
    let kind = kind?;
    let spec = spec.and_then(|node| self::spec(gathered, node, kind));
    let metadata = metadata?.value;
    let name = metadata.name?;
    if matches!(kind, Kind::Identity | Kind::Role)
        && let Err(message) = scalar::free_name(name.value.as_str())
    {
        gathered.report(&name.at, message);
    }
    Some(Document {
        kind,
        name,
        labels: metadata.labels,
        base: base.clone(),
        at: node.at.clone(),
        spec,
    })
}

fn known_kind(gathered: &Gathered, kind: &At<String>) -> Option<Kind> {
    let found = Kind::ALL.iter().find(|(name, _)| *name == kind.value);
    if found.is_none() {
        let names = Kind::ALL.map(|(name, _)| name);
        let advice = match fields::nearest(&kind.value, &names) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known: {}", names.join(", ")),
        };
        gathered.report(
            &kind.at,
            format!("unknown kind '{}': {advice}", kind.value.escape_debug()),
        );
    }
    found.map(|(_, kind)| *kind)
}

struct Metadata {
    name: Option<At<Name>>,
    labels: BTreeMap<String, String>,
}

fn metadata(gathered: &Gathered, node: &Node) -> Option<Metadata> {
    let mut fields = Fields::open(gathered, node, "metadata")?;
    let name = fields.required("name", |g, n| parsed(g, n, scalar::name));
    let labels = fields.optional("labels", labels);
    // Read for their shape only: they are for people and other programs.
    fields.optional("annotations", |gathered, node| {
        Fields::open(gathered, node, "annotations").map(drop)
    });
    fields.close();
    Some(Metadata {
        name,
        labels: labels.map(|at| at.value).unwrap_or_default(),
    })
}

/// Labels, or what must match them.
fn labels(gathered: &Gathered, node: &Node) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = &node.value else {
        gathered.report(
            &node.at,
            format!(
                "expected labels, such as {{env: prod}}, and found {}",
                node.value.what()
            ),
        );
        return None;
    };
    let mut labels = BTreeMap::new();
    for (key, value) in entries {
        let key = parsed(gathered, key, scalar::label);
        let value = parsed(gathered, value, scalar::label);
        if let (Some(key), Some(value)) = (key, value) {
            labels.insert(key, value);
        }
    }
    Some(labels)
}

fn spec(gathered: &Gathered, node: &Node, kind: Kind) -> Option<Spec> {
    match kind {
        Kind::Bastion => bastion::bastion(gathered, node).map(|raw| Spec::Bastion(Box::new(raw))),
        Kind::Cluster => cluster::cluster(gathered, node).map(|raw| Spec::Cluster(Box::new(raw))),
        Kind::Identity => who::identity(gathered, node).map(Spec::Identity),
        Kind::CertificateAuthority => {
            authority::authority(gathered, node).map(Spec::CertificateAuthority)
        }
        Kind::IdentityProvider => {
            provider::provider(gathered, node).map(|raw| Spec::IdentityProvider(Box::new(raw)))
        }
        Kind::Role => role::role(gathered, node).map(|raw| Spec::Role(Box::new(raw))),
        Kind::Binding => who::binding(gathered, node).map(Spec::Binding),
    }
}

fn name(gathered: &Gathered, node: &Node) -> Option<Name> {
    parsed(gathered, node, scalar::name)
}

/// A list with something in it.
pub(super) fn some<T>(
    gathered: &Gathered,
    node: &Node,
    empty: &str,
    decode: Decode<T>,
) -> Option<Vec<At<T>>> {
    // Of what is written, not of what is good: bad items have been reported already.
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        gathered.report(&node.at, empty);
        return None;
    }
    list(gathered, node, decode)
}

/// What was written, or what holds without it.
fn or<T>(value: Option<At<T>>, default: T) -> T {
    value.map_or(default, |at| at.value)
}

fn path(gathered: &Gathered, node: &Node) -> Option<String> {
    parsed(gathered, node, |text| {
        if text.is_empty() || text.chars().any(char::is_control) {
            Err("this is not a path: write one, relative to this document or absolute".to_owned())
        } else {
            Ok(text.to_owned())
        }
    })
}

fn paths(gathered: &Gathered, node: &Node) -> Option<Vec<At<String>>> {
    list(gathered, node, path)
}

fn within(gathered: &Gathered, node: &Node, least: &str, most: &str) -> Option<Duration> {
    parsed(gathered, node, |text| {
        scalar::duration_within(text, least, most)
    })
}
