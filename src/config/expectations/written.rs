//! Expectations as they are written; what they mean by a configuration is said beside this.

use jiff::Timestamp;

use super::KubernetesRequest;
use crate::config::SourceNetwork;
use crate::config::fields::{Fields, list, parsed, text};
use crate::config::model::{Name, SessionKind};
use crate::config::problem::{At, Gathered};
use crate::config::raw::{self, ClusterSelector};
use crate::config::scalar;
use crate::config::yaml::Node;

/// One entry as it is written.
pub(super) struct Raw {
    pub(super) who: Option<At<RawWho>>,
    pub(super) may: Option<At<Name>>,
    pub(super) may_not: Option<At<Name>>,
    pub(super) role: Option<At<Name>>,
    pub(super) identity: Option<At<Name>>,
    pub(super) can: Option<At<KubernetesRequest>>,
    pub(super) cannot: Option<At<KubernetesRequest>>,
    pub(super) clusters: Option<At<Vec<At<ClusterSelector>>>>,
    pub(super) from: Option<At<SourceNetwork>>,
    pub(super) sessions: Option<At<Vec<At<SessionKind>>>>,
    pub(super) when: Option<At<Timestamp>>,
}

/// Of whom.
#[derive(Debug)]
pub(super) enum RawWho {
    Identity(Name),
    Group(String),
    Certificate {
        authority: At<Name>,
        principal: String,
        groups: Vec<At<String>>,
    },
    CertificateFile(String),
}

/// Reads one entry, or reports what is wrong with it.
pub(super) fn entry(gathered: &Gathered, node: &Node) -> Option<Raw> {
    let mut fields = Fields::open(gathered, node, "an expectation")?;
    let name = |gathered: &Gathered, node: &Node| parsed(gathered, node, scalar::name);
    let raw = Raw {
        who: fields.optional("who", who),
        may: fields.optional("may", name),
        may_not: fields.optional("mayNot", name),
        role: fields.optional("role", name),
        identity: fields.optional("identity", name),
        can: fields.optional("can", request),
        cannot: fields.optional("cannot", request),
        clusters: fields.optional("clusters", raw::selectors),
        from: fields.optional("from", |g, n| {
            parsed(g, n, |text| {
                SourceNetwork::parse(text)
                    .map_err(|error| format!("'{}' {error}", text.escape_debug()))
            })
        }),
        sessions: fields.optional("sessions", |g, n| {
            raw::some(
                g,
                n,
                "name a kind of session, or leave the key out",
                raw::session_kind,
            )
        }),
        when: fields.optional("at", |g, n| parsed(g, n, scalar::timestamp)),
    };
    fields.close();
    Some(raw)
}

fn who(gathered: &Gathered, node: &Node) -> Option<RawWho> {
    let mut fields = Fields::open(gathered, node, "'who'")?;
    let identity = fields.optional("identity", |g, n| parsed(g, n, scalar::name));
    let group = fields.optional("group", text);
    let certificate = fields.optional("certificate", certificate);
    let file = fields.optional("certificateFile", text);
    fields.close();
    match (identity, group, certificate, file) {
        (Some(name), None, None, None) => Some(RawWho::Identity(name.value)),
        (None, Some(group), None, None) => Some(RawWho::Group(group.value)),
        (None, None, Some(certificate), None) => Some(certificate.value),
        (None, None, None, Some(file)) => Some(RawWho::CertificateFile(file.value)),
        _ => {
            gathered.report(
                &node.at,
                "'who' is one of {identity: NAME}, {group: NAME}, {certificate: ...} and {certificateFile: FILE}",
            );
            None
        }
    }
}

fn certificate(gathered: &Gathered, node: &Node) -> Option<RawWho> {
    let mut fields = Fields::open(gathered, node, "'certificate'")?;
    let authority = fields.required("authority", |g, n| parsed(g, n, scalar::name));
    let principal = fields.required("principal", text);
    let groups = fields.optional("groups", |g, n| list(g, n, text));
    fields.close();
    Some(RawWho::Certificate {
        authority: authority?,
        principal: principal?.value,
        groups: groups.map(|at| at.value).unwrap_or_default(),
    })
}

fn request(gathered: &Gathered, node: &Node) -> Option<KubernetesRequest> {
    let mut fields = Fields::open(gathered, node, "a request")?;
    let verb = fields.required("verb", text);
    let resource = fields.required("resource", text);
    let group = fields.optional("apiGroup", text);
    let namespace = fields.optional("namespace", text);
    let name = fields.optional("name", text);
    fields.close();
    let resource = resource?.value;
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
        None => (resource, None),
    };
    Some(KubernetesRequest {
        verb: verb?.value,
        resource,
        subresource,
        group: group.map(|at| at.value).unwrap_or_default(),
        namespace: namespace.map(|at| at.value),
        name: name.map(|at| at.value),
    })
}
