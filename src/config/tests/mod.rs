//! Whole configurations, good and bad.

mod admission;
mod authorities;
mod clusters;
mod evidence;
mod files;
mod issuer;
mod meaning;
mod mistakes;
mod providers;

use std::path::Path;

use super::test_keys::{ED25519, OTHER};
use super::*;

/// Documents from short descriptions: kind, name, spec in flow style.
fn doc(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn bastion() -> String {
    doc(
        "Bastion",
        "main",
        "{listen: 127.0.0.1:2222, hostKeys: [host], stateDir: state}",
    )
}

/// A small valid set that tests break in one place.
fn set() -> Vec<String> {
    vec![
        bastion(),
        doc("Cluster", "prod", "{kubeconfig: prod.kubeconfig}"),
        doc(
            "Identity",
            "operator-a",
            &format!("{{groups: [sre], keys: ['{ED25519}'], defaultRole: viewer}}"),
        ),
        doc(
            "Role",
            "viewer",
            "{kubernetes: {clusters: [prod], serviceAccount: {namespace: v, name: viewer}}}",
        ),
        doc(
            "Role",
            "auditor",
            "{audit: {clusters: ['*'], identities: ['*']}}",
        ),
        doc(
            "Binding",
            "sre",
            "{subjects: [{group: sre}], roles: [viewer]}",
        ),
    ]
}

fn load_text(documents: &[String]) -> Result<Config, Problems> {
    parse(Path::new("/etc/b/all.yaml"), &documents.concat())
}

/// The only problem of `set()` with one document replaced or added.
fn problems_with(document: String) -> Vec<String> {
    let kind_and_name: Vec<&str> = document.lines().skip(2).take(2).collect();
    let mut documents = set();
    documents.retain(|other| !kind_and_name.iter().all(|line| other.contains(line)));
    documents.push(document);
    match load_text(&documents) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn only_problem(document: String) -> String {
    let problems = problems_with(document);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].clone()
}

#[test]
fn the_small_set_is_valid_and_paths_are_absolute() {
    let config = load_text(&set()).unwrap();
    assert_eq!(config.bastion.state_dir, Path::new("/etc/b/state"));
    assert_eq!(
        config.bastion.audit_log,
        Path::new("/etc/b/state/audit.jsonl")
    );
    assert_eq!(config.bastion.host_keys, [Path::new("/etc/b/host")]);
    assert_eq!(config.bastion.advertise.host, "127.0.0.1");
    assert_eq!(config.bastion.advertise.port, 2222);
    assert_eq!(config.digest.len(), 64);
    let RoleAccess::Kubernetes(viewer) = &config.roles[&Name::new("viewer").unwrap()].access else {
        panic!()
    };
    assert_eq!(
        viewer.sessions.iter().copied().collect::<Vec<_>>(),
        [SessionKind::Shell, SessionKind::Exec]
    );
}
