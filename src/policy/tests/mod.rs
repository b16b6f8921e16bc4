//! What the tests of decisions share.

mod by_device;
mod cases;
mod certified;
mod conditions;
mod extension;
mod factors;
mod locked;
mod properties;
mod signed_on;

use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::config::test_keys::{ED25519, OTHER};
use crate::config::{Config, Name, SessionKind, parse};
use crate::identity::{Identity, identify};
use crate::messages::{Offer, Peer};

const NOW: &str = "2027-01-01T00:00:00Z";

fn doc(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// Two identities, three clusters, four roles; bindings are each test's own.
fn base() -> Vec<String> {
    let role = |name: &str, clusters: &str, more: &str| {
        doc(
            "Role",
            name,
            &format!(
                "{{kubernetes: {{clusters: [{clusters}], serviceAccount: {{namespace: ns-{name}, name: '{name}-{{identity}}'}}}}, {more}}}"
            ),
        )
    };
    vec![
        doc(
            "Bastion",
            "main",
            "{listen: '127.0.0.1:2222', advertise: 'bastion.example.com:22', hostKeys: [hidden-key], stateDir: hidden-state}",
        ),
        doc("Cluster", "dev", "{inCluster: true}"),
        doc("Cluster", "prod", "{kubeconfig: hidden.kubeconfig}"),
        doc("Cluster", "test", "{inCluster: true}"),
        doc(
            "Identity",
            "operator-a",
            &format!("{{groups: [sre], keys: ['{ED25519}']}}"),
        ),
        doc(
            "Identity",
            "operator-b",
            &format!("{{groups: [dev], keys: ['{OTHER}']}}"),
        ),
        role("viewer", "prod", "maxSession: 8h"),
        role(
            "editor",
            "dev, prod",
            "maxSession: 1h, sessions: [shell, exec, tunnel, credential]",
        ),
        role("runner", "test", "sessions: [exec]"),
        doc(
            "Role",
            "auditor",
            "{audit: {clusters: ['*'], identities: [operator-b]}}",
        ),
        doc(
            "Role",
            "prod-auditor",
            "{audit: {clusters: [prod], identities: ['*']}}",
        ),
    ]
}

fn bind(name: &str, roles: &str, more: &str) -> String {
    doc(
        "Binding",
        name,
        &format!("{{subjects: [{{group: sre}}], roles: [{roles}], {more}}}"),
    )
}

fn load(documents: &[String]) -> Config {
    parse(Path::new("f.yaml"), &documents.concat()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn with(bindings: &[String]) -> Config {
    load(&[base(), bindings.to_vec()].concat())
}

fn proven(config: &Config) -> Identity {
    prove(config, ED25519)
}

fn prove(config: &Config, key: &str) -> Identity {
    let offer = Offer {
        principal: String::new(),
        public_key: key.to_owned(),
        certificate: None,
        algorithm: "ssh-ed25519".to_owned(),
    };
    let peer = Peer {
        address: "192.0.2.7:1".parse().unwrap(),
        client: String::new(),
    };
    identify(config, &offer, &peer, now()).unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

const HERE: &str = "192.0.2.7";

fn address() -> std::net::IpAddr {
    HERE.parse().unwrap()
}

fn here(open: &[OpenSession]) -> Circumstances<'_> {
    at_moment(now(), open)
}

fn at_moment(now: Timestamp, open: &[OpenSession]) -> Circumstances<'_> {
    Circumstances {
        now,
        from: address(),
        open,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn ask(config: &Config, principal: &str, kind: SessionKind) -> Result<Grant, Denial> {
    let request = Request {
        principal: principal.to_owned(),
        kind,
    };
    decide(config, &proven(config), &request, here(&[]))
}

fn shell(config: &Config, principal: &str) -> Result<Grant, Denial> {
    ask(config, principal, SessionKind::Shell)
}

/// `role@cluster by binding`.
fn outcome(result: Result<Grant, Denial>) -> String {
    match result {
        Ok(grant) => format!(
            "{}@{} by {}",
            grant.role(),
            grant.cluster(),
            grant.binding()
        ),
        Err(denial) => format!("no: {denial}"),
    }
}
