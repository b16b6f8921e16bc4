//! `spec` of a Role.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{labels, paths, some, within};
use crate::config::fields::{Fields, boolean, list, parsed};
use crate::config::model::{
    CredentialTtl, Factor, HostPort, Name, RecordBodies, RecordInput, SessionKind,
};
use crate::config::problem::{At, Gathered};
use crate::config::scalar;
use crate::config::yaml::{Node, Value};

/// In the token of each request.
const MOST_GROUPS: usize = 32;

#[derive(Debug)]
pub(in crate::config) struct RawRole {
    pub(in crate::config) kubernetes: Option<At<RawKubernetes>>,
    pub(in crate::config) credential_ttl: Option<At<CredentialTtl>>,
    pub(in crate::config) max_session: Option<At<Duration>>,
    pub(in crate::config) max_extension: Option<At<Duration>>,
    pub(in crate::config) sessions: Option<At<Vec<At<SessionKind>>>>,
    pub(in crate::config) record_input: Option<At<RecordInput>>,
    pub(in crate::config) bodies: Option<At<RecordBodies>>,
    pub(in crate::config) rescue: Option<At<bool>>,
    pub(in crate::config) tools: Option<At<Vec<At<String>>>>,
    pub(in crate::config) egress: Option<At<Vec<At<HostPort>>>>,
    pub(in crate::config) audit: Option<At<RawAudit>>,
    pub(in crate::config) require: Option<At<Vec<At<Factor>>>>,
    pub(in crate::config) device_flow: Option<At<Name>>,
}

#[derive(Debug)]
pub(in crate::config) struct RawKubernetes {
    pub(in crate::config) clusters: Vec<At<ClusterSelector>>,
    pub(in crate::config) service_account: Option<At<RawServiceAccount>>,
    pub(in crate::config) groups: Option<At<Vec<At<String>>>>,
    pub(in crate::config) overrides: Vec<At<RawOverride>>,
}

#[derive(Debug)]
pub(in crate::config) struct RawOverride {
    pub(in crate::config) clusters: Vec<At<ClusterSelector>>,
    pub(in crate::config) service_account: Option<At<RawServiceAccount>>,
    pub(in crate::config) groups: Option<At<Vec<At<String>>>>,
}

#[derive(Debug)]
pub(in crate::config) enum ClusterSelector {
    Named(Name),
    MatchLabels(BTreeMap<String, String>),
}

#[derive(Debug)]
pub(in crate::config) struct RawServiceAccount {
    pub(in crate::config) namespace: Option<At<String>>,
    pub(in crate::config) name: Option<At<String>>,
}

#[derive(Debug)]
pub(in crate::config) struct RawAudit {
    pub(in crate::config) clusters: Option<At<Vec<At<Option<Name>>>>>,
    pub(in crate::config) identities: Option<At<Vec<At<Option<Name>>>>>,
}

pub(in crate::config) fn role(gathered: &Gathered, node: &Node) -> Option<RawRole> {
    let mut spec = Fields::open(gathered, node, "a Role's spec")?;
    let (kubernetes, audit) = (spec.has("kubernetes"), spec.has("audit"));
    if kubernetes == audit {
        gathered.report(
            &node.at,
            "a Role's spec needs one of 'kubernetes' and 'audit': what runs commands must not read recordings",
        );
    }
    let raw = RawRole {
        kubernetes: spec.optional("kubernetes", kubernetes_access),
        credential_ttl: spec.optional("credentialTtl", |g, n| parsed(g, n, credential_ttl)),
        max_session: spec.optional("maxSession", |g, n| within(g, n, "1m", "24h")),
        max_extension: spec.optional("maxExtension", |g, n| within(g, n, "1m", "23h")),
        sessions: spec.optional("sessions", |g, n| list(g, n, session_kind)),
        record_input: spec.optional("recordInput", |g, n| parsed(g, n, record_input)),
        bodies: spec.optional("bodies", |g, n| parsed(g, n, record_bodies)),
        rescue: spec.optional("rescue", boolean),
        tools: spec.optional("tools", paths),
        egress: spec.optional("egress", |g, n| {
            list(g, n, |g, n| parsed(g, n, scalar::https_host))
        }),
        audit: spec.optional("audit", audit_access),
        require: spec.optional("require", require),
        device_flow: spec.optional("deviceFlow", |g, n| parsed(g, n, scalar::name)),
    };
    spec.close();
    device_flow_has_a_meaning(gathered, &raw, audit);
    if audit && !kubernetes {
        for (key, at) in [
            (
                "credentialTtl",
                raw.credential_ttl.as_ref().map(|at| &at.at),
            ),
            ("maxSession", raw.max_session.as_ref().map(|at| &at.at)),
            ("maxExtension", raw.max_extension.as_ref().map(|at| &at.at)),
            ("sessions", raw.sessions.as_ref().map(|at| &at.at)),
            ("recordInput", raw.record_input.as_ref().map(|at| &at.at)),
            ("bodies", raw.bodies.as_ref().map(|at| &at.at)),
            ("rescue", raw.rescue.as_ref().map(|at| &at.at)),
            ("tools", raw.tools.as_ref().map(|at| &at.at)),
            ("egress", raw.egress.as_ref().map(|at| &at.at)),
        ] {
            if let Some(at) = at {
                gathered.report(
                    at,
                    format!(
                        "an audit role opens no sessions, so '{key}' has no meaning here; remove it"
                    ),
                );
            }
        }
    }
    Some(raw)
}

/// Another way to prove one thing, and so only where that is asked for.
fn device_flow_has_a_meaning(gathered: &Gathered, raw: &RawRole, audit: bool) {
    let Some(at) = raw.device_flow.as_ref().map(|provider| &provider.at) else {
        return;
    };
    let required = raw.require.iter().flat_map(|listed| &listed.value);
    if !required.into_iter().any(|at| at.value == Factor::Oidc) {
        gathered.report(
            at,
            "the device flow is a weaker way to prove 'oidc', and the role does not require that; write 'require: [oidc]', or remove 'deviceFlow'",
        );
    }
    if audit {
        gathered.report(
            at,
            "what others have done is not read by a sign-in that somebody can be talked into; remove 'deviceFlow'",
        );
    }
}

fn require(gathered: &Gathered, node: &Node) -> Option<Vec<At<Factor>>> {
    let listed = some(
        gathered,
        node,
        "nothing is required by this: name key, certificate, totp or oidc, or leave 'require' out",
        |g, n| parsed(g, n, factor),
    )?;
    let has = |factor| listed.iter().any(|at| at.value == factor);
    if has(Factor::Key) && has(Factor::Certificate) {
        gathered.report(
            &node.at,
            "nobody proves both on one connection: 'key' means a key without a certificate; keep one of the two",
        );
    }
    for (position, at) in listed.iter().enumerate() {
        if listed
            .iter()
            .take(position)
            .any(|one| one.value == at.value)
        {
            gathered.report(&at.at, format!("'{}' is required already", at.value));
        }
    }
    Some(listed)
}

fn factor(text: &str) -> Result<Factor, String> {
    match text {
        "key" => Ok(Factor::Key),
        "certificate" => Ok(Factor::Certificate),
        "totp" => Ok(Factor::Totp),
        "oidc" => Ok(Factor::Oidc),
        "hardware-key" => Err(
            "'hardware-key' cannot be required: that somebody touched a key is not shown to this daemon by its SSH library yet, so it could not be enforced"
                .to_owned(),
        ),
        other => Err(format!(
            "'{}' is not a factor: key, certificate, totp or oidc",
            other.escape_debug()
        )),
    }
}

fn kubernetes_access(gathered: &Gathered, node: &Node) -> Option<RawKubernetes> {
    let mut spec = Fields::open(gathered, node, "'kubernetes'")?;
    let raw = RawKubernetes {
        clusters: spec
            .required("clusters", selectors)
            .map(|at| at.value)
            .unwrap_or_default(),
        service_account: account(&mut spec),
        groups: spec.optional("groups", groups),
        overrides: spec
            .optional("overrides", |g, n| list(g, n, role_override))
            .map(|at| at.value)
            .unwrap_or_default(),
    };
    spec.close();
    Some(raw)
}

fn role_override(gathered: &Gathered, node: &Node) -> Option<RawOverride> {
    let mut spec = Fields::open(gathered, node, "an override")?;
    let raw = RawOverride {
        clusters: spec
            .required("clusters", selectors)
            .map(|at| at.value)
            .unwrap_or_default(),
        service_account: account(&mut spec),
        groups: spec.optional("groups", groups),
    };
    spec.close();
    Some(raw)
}

/// A role stands for something: groups where it is not a ServiceAccount.
fn account(spec: &mut Fields<'_>) -> Option<At<RawServiceAccount>> {
    if spec.has("groups") {
        spec.optional("serviceAccount", service_account)
    } else {
        spec.required("serviceAccount", service_account)
    }
}

fn groups(gathered: &Gathered, node: &Node) -> Option<Vec<At<String>>> {
    let empty = "without a group nobody could do anything; name those that RBAC binds";
    let listed = some(gathered, node, empty, |g, n| {
        parsed(g, n, scalar::kubernetes_group)
    })?;
    if listed.len() > MOST_GROUPS {
        gathered.report(
            &node.at,
            format!("these are more than {MOST_GROUPS} groups"),
        );
        return None;
    }
    Some(listed)
}

/// A list of names and of `{matchLabels: ...}`, or one such mapping.
pub(in crate::config) fn selectors(
    gathered: &Gathered,
    node: &Node,
) -> Option<Vec<At<ClusterSelector>>> {
    if matches!(node.value, Value::Map(_)) {
        return Some(vec![At {
            value: selector(gathered, node)?,
            at: node.at.clone(),
        }]);
    }
    some(
        gathered,
        node,
        "no cluster is named here: write their names, or {matchLabels: {...}}",
        selector,
    )
}

fn selector(gathered: &Gathered, node: &Node) -> Option<ClusterSelector> {
    match &node.value {
        Value::Map(_) => {
            let mut fields = Fields::open(gathered, node, "a cluster selector")?;
            let wanted = fields.required("matchLabels", labels);
            fields.close();
            let wanted = wanted?;
            if wanted.value.is_empty() {
                gathered.report(
                    &wanted.at,
                    "empty matchLabels would mean every cluster; name labels or clusters",
                );
                return None;
            }
            Some(ClusterSelector::MatchLabels(wanted.value))
        }
        Value::Text(text) if text == "*" => {
            gathered.report(
                &node.at,
                "a role that gives credentials names its clusters; '*' is for audit roles",
            );
            None
        }
        _ => parsed(gathered, node, scalar::name).map(ClusterSelector::Named),
    }
}

fn service_account(gathered: &Gathered, node: &Node) -> Option<RawServiceAccount> {
    let mut spec = Fields::open(gathered, node, "serviceAccount")?;
    let raw = RawServiceAccount {
        namespace: spec.required("namespace", |g, n| {
            parsed(g, n, scalar::kubernetes_namespace)
        }),
        name: spec.required("name", |g, n| parsed(g, n, scalar::service_account_name)),
    };
    spec.close();
    Some(raw)
}

fn audit_access(gathered: &Gathered, node: &Node) -> Option<RawAudit> {
    let mut spec = Fields::open(gathered, node, "'audit'")?;
    let raw = RawAudit {
        clusters: spec.required("clusters", names_or_all),
        identities: spec.required("identities", names_or_all),
    };
    spec.close();
    Some(raw)
}

/// Names; `None` stands for `*`.
fn names_or_all(gathered: &Gathered, node: &Node) -> Option<Vec<At<Option<Name>>>> {
    list(gathered, node, |g, n| {
        parsed(g, n, |text| match text {
            "*" => Ok(None),
            text => scalar::name(text).map(Some),
        })
    })
}

fn credential_ttl(text: &str) -> Result<CredentialTtl, String> {
    let seconds = scalar::duration(text)?.as_secs();
    u32::try_from(seconds)
        .ok()
        // What TokenRequest accepts at least, and our policies fence.
        .filter(|seconds| *seconds >= 600)
        .and_then(|seconds| CredentialTtl::from_secs(seconds).ok())
        .ok_or_else(|| format!("{text} is out of bounds: a credential lives 10m to 1h"))
}

fn record_input(text: &str) -> Result<RecordInput, String> {
    match text {
        "auto" => Ok(RecordInput::Auto),
        "always" => Ok(RecordInput::Always),
        "digest" => Ok(RecordInput::Digest),
        other => Err(format!(
            "'{}' is not known: auto, always or digest",
            other.escape_debug()
        )),
    }
}

fn record_bodies(text: &str) -> Result<RecordBodies, String> {
    match text {
        "none" => Ok(RecordBodies::None),
        "writes" => Ok(RecordBodies::Writes),
        other => Err(format!(
            "'{}' is not known: none or writes",
            other.escape_debug()
        )),
    }
}

pub(in crate::config) fn session_kind(gathered: &Gathered, node: &Node) -> Option<SessionKind> {
    parsed(gathered, node, |text| match text {
        "shell" => Ok(SessionKind::Shell),
        "exec" => Ok(SessionKind::Exec),
        "tunnel" => Ok(SessionKind::Tunnel),
        "credential" => Ok(SessionKind::Credential),
        other => Err(format!(
            "'{}' is not a kind of session: shell, exec, tunnel or credential",
            other.escape_debug()
        )),
    })
}
