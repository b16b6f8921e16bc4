use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::config::test_keys::{ED25519, OTHER};
use crate::config::{Config, Expected, expectations, parse};

const CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFvlJui2SRoZtKCKgZWvso0mnEGWjRVoV3/xhGGlQBHo";

fn doc(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn base() -> String {
    let role = |name: &str| {
        let spec = format!(
            "{{kubernetes: {{clusters: [prod, dev], serviceAccount: {{namespace: {name}, name: '{name}-{{identity}}'}}}}, sessions: [shell, credential]}}"
        );
        doc("Role", name, &spec)
    };
    [
        doc("Bastion", "main", "{listen: '127.0.0.1:2222', hostKeys: [h], stateDir: s}"),
        doc("Cluster", "prod", "{inCluster: true}"),
        doc("Cluster", "dev", "{inCluster: true}"),
        doc("Identity", "ann", &format!("{{groups: [sre, dev], keys: ['{ED25519}']}}")),
        doc("Identity", "bob", &format!("{{groups: [sre], keys: ['{OTHER}']}}")),
        role("viewer"),
        role("editor"),
        doc("Role", "auditor", "{audit: {clusters: ['*'], identities: [bob]}}"),
        doc("CertificateAuthority", "corp", &format!("{{keys: ['{CA}'], identities: [{{listed: true}}, {{principalSuffix: '@x'}}], groups: [{{extension: g}}]}}")),
        doc("Binding", "looks", "{subjects: [{group: sre}], roles: [viewer]}"),
        doc("Binding", "office", "{subjects: [{group: dev}], roles: [editor], clusters: [dev], from: [10.0.0.0/8, '!10.9.0.0/16']}"),
        doc("Binding", "certified", "{subjects: [{group: 'ca/corp:dev'}], roles: [editor], clusters: [prod]}"),
        doc("Binding", "old", "{subjects: [{identity: bob}], roles: [editor], until: 2026-01-01T00:00:00Z}"),
        doc("Binding", "reading", "{subjects: [{identity: ann}], roles: [auditor]}"),
    ]
    .concat()
}

fn load(text: &str) -> Config {
    parse(Path::new("f.yaml"), text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn changed(from: &str, to: &str) -> String {
    let before = base();
    let after = before.replacen(from, to, 1);
    assert_ne!(before, after, "{from}");
    difference(&load(&before), &load(&after), now()).to_string()
}

#[test]
fn nobody_gains_anything_by_other_names_reasons_orders_and_what_has_ended() {
    let before = load(&base());
    for (from, to) in [
        ("name: looks}", "name: viewing}"),
        ("roles: [viewer]}", "roles: [viewer], reason: a better one}"),
        (
            "hostKeys: [h]",
            "hostKeys: [h], limits: {maxConnections: 7}",
        ),
        (
            "[{identity: bob}], roles: [editor], until",
            "[{identity: bob}], roles: [viewer], until",
        ),
        ("clusters: [prod, dev]", "clusters: [dev, prod]"),
    ] {
        assert_eq!(changed(from, to), "", "{from}");
    }
    let twice = base()
        + &doc(
            "Binding",
            "twice",
            "{subjects: [{identity: ann}], roles: [viewer], until: 2028-01-01T00:00:00Z}",
        );
    assert!(
        difference(&before, &load(&twice), now()).is_empty(),
        "more of what they have"
    );
    assert!(difference(&before, &before, now()).is_empty());
}

#[test]
fn who_gains_and_who_loses_is_told_in_words() {
    assert_eq!(
        changed(
            "subjects: [{group: sre}], roles: [viewer]",
            "subjects: [{group: sre}], roles: [viewer, editor], until: 2027-01-01T00:00:00Z"
        ),
        "ann\n  \
           gain    editor on prod (as ServiceAccount editor/editor-{identity}; shell, credential; until 2027-01-01T00:00:00Z)\n  \
           change  editor on dev: given: from !10.9.0.0/16 10.0.0.0/8 -> from !10.9.0.0/16 10.0.0.0/8 or until 2027-01-01T00:00:00Z\n  \
           change  editor on dev: sessions: shell -> shell, credential\n  \
           change  viewer on dev: given: always -> until 2027-01-01T00:00:00Z\n  \
           change  viewer on prod: given: always -> until 2027-01-01T00:00:00Z\n\
         bob\n  \
           gain    editor on dev (as ServiceAccount editor/editor-{identity}; shell, credential; until 2027-01-01T00:00:00Z)\n  \
           gain    editor on prod (as ServiceAccount editor/editor-{identity}; shell, credential; until 2027-01-01T00:00:00Z)\n  \
           change  viewer on dev: given: always -> until 2027-01-01T00:00:00Z\n  \
           change  viewer on prod: given: always -> until 2027-01-01T00:00:00Z\n"
    );
    let lost = changed(
        "{subjects: [{group: sre}], roles: [viewer]}",
        "{subjects: [{group: sre}], roles: [viewer], clusters: [dev]}",
    );
    assert_eq!(
        lost,
        "ann, bob\n  lose    viewer on prod (as ServiceAccount viewer/viewer-{identity}; shell, credential; always)\n"
    );
    let certified = changed(
        "roles: [editor], clusters: [prod]}",
        "roles: [editor], clusters: [prod, dev]}",
    );
    assert!(
        certified.starts_with("whoever certificates put into ca/corp:dev\n  gain    editor on dev"),
        "{certified}"
    );
}

#[test]
fn what_a_role_reaches_and_has_besides_is_something_that_they_have() {
    let more = changed(
        "sessions: [shell, credential]}",
        "sessions: [shell, credential], egress: [charts.example.com], tools: [/opt/k9s]}",
    );
    assert_eq!(
        more,
        "ann, bob\n  \
           change  viewer on dev: reaches: nothing -> charts.example.com:443\n  \
           change  viewer on dev: tools: nothing -> /opt/k9s\n  \
           change  viewer on prod: reaches: nothing -> charts.example.com:443\n  \
           change  viewer on prod: tools: nothing -> /opt/k9s\n"
    );
}

#[test]
fn what_proves_somebody_is_something_that_they_have() {
    let key = changed(ED25519, &format!("restrict,from=\"10.0.0.0/8\" {ED25519}"));
    assert!(
        key.contains("from: nothing -> 10.0.0.0/8")
            && key.contains("without: nothing -> terminal, tunnel"),
        "{key}"
    );
    let gone = changed(&format!("keys: ['{OTHER}']"), "keys: []");
    assert!(gone.starts_with("bob\n  lose    the key SHA256:"), "{gone}");
    let rule = changed("{listed: true}, ", "");
    assert!(rule.starts_with("whoever has a certificate of corp\n  lose    principals ... as the Identity of the rest"), "{rule}");
    let reading = changed("identities: [bob]", "identities: ['*']");
    assert_eq!(
        reading,
        "ann\n  change  auditor, recordings to read: of identities: bob -> all\n"
    );
    let subject = changed(
        "namespace: viewer, name: 'viewer-{identity}'",
        "namespace: viewer, name: one",
    );
    assert!(
        subject
            .contains("as: ServiceAccount viewer/viewer-{identity} -> ServiceAccount viewer/one"),
        "{subject}"
    );
}

/// What of these expectations is not so, by line.
fn tested(entries: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.yaml");
    let text = format!(
        "apiVersion: bastion-audit.dev/v1alpha1\nkind: Expectations\nspec:\n  expect:\n{entries}"
    );
    std::fs::write(&path, text).unwrap();
    let config = load(&base());
    let read = expectations(&path, &config).unwrap_or_else(|problems| panic!("{problems}"));
    let wrong = read.iter().filter_map(|expectation| {
        let Expected::Takes(takes) = &expectation.expected else {
            panic!("{expectation:?}")
        };
        let wrong = unfulfilled(&config, takes, now())?;
        Some(format!("{}: {wrong}", expectation.at.line() - 4))
    });
    wrong.collect()
}

#[test]
fn what_is_so_holds_and_what_is_not_is_named() {
    let held = "    - {who: {group: sre}, may: viewer}\n    \
        - {who: {group: sre}, may: viewer, clusters: [prod], sessions: [shell, credential]}\n    \
        - {who: {group: dev}, may: editor, clusters: [dev], from: 10.0.0.0/16}\n    \
        - {who: {group: dev}, mayNot: editor, clusters: [dev], from: 10.9.0.0/16}\n    \
        - {who: {group: dev}, mayNot: editor, clusters: [prod]}\n    \
        - {who: {identity: bob}, mayNot: editor}\n    \
        - {who: {identity: bob}, may: editor, at: 2025-12-31T23:59:59Z}\n    \
        - {who: {identity: ann}, may: auditor}\n    \
        - {who: {identity: bob}, mayNot: auditor}\n    \
        - {who: {certificate: {authority: corp, principal: jane@x, groups: [dev]}}, may: editor, clusters: [prod]}\n    \
        - {who: {certificate: {authority: corp, principal: jane@x}}, mayNot: editor}\n    \
        - {who: {certificate: {authority: corp, principal: bob}}, may: viewer}\n    \
        - {who: {certificate: {authority: corp, principal: jane@y, groups: [dev]}}, mayNot: editor}\n";
    assert_eq!(tested(held), [""; 0]);
    let broken = "    - {who: {group: dev}, may: editor, clusters: [dev], from: 10.0.0.0/8}\n    \
        - {who: {group: dev}, may: editor, clusters: [dev]}\n    \
        - {who: {group: sre}, mayNot: editor, from: 10.1.0.0/16}\n    \
        - {who: {group: sre}, may: viewer, sessions: [exec]}\n    \
        - {who: {identity: ann}, mayNot: auditor}\n    \
        - {who: {certificate: {authority: corp, principal: jane@y}}, may: viewer}\n    \
        - {who: {identity: bob}, may: auditor}\n    \
        - {who: {group: dev}, may: editor, clusters: [dev], sessions: [credential], from: 10.0.0.0/24}\n";
    let wrong = tested(broken);
    let begins = [
        "1: somebody in dev may not on dev from 10.9.0.0: The role editor is yours by the binding office, but not from where you are",
        "2: somebody in dev may not on dev from 0.0.0.0: ",
        // Not by that group, but a member of it may.
        "3: ann may on dev from 10.1.0.0 (shell), by the binding office",
        "4: somebody in sre may not on dev from 0.0.0.0 (exec): The role viewer does not allow exec",
        "5: ann may from 0.0.0.0, by the binding reading",
        "6: the certificate proves nobody: no rule of the authority",
        "7: bob may not from 0.0.0.0: no binding gives it",
        "8: somebody in dev may not on dev from 10.0.0.0 (credential): The binding office gives you the role editor within bounds",
    ];
    assert_eq!(wrong.len(), begins.len(), "{wrong:#?}");
    for (wrong, begins) in wrong.iter().zip(begins) {
        assert!(wrong.starts_with(begins), "{wrong}\n{begins}");
    }
}

#[test]
fn expectations_that_expect_nothing_are_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.yaml");
    let config = load(&base());
    let problem = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let problems = expectations(&path, &config)
            .map(|read| read.len())
            .unwrap_err();
        problems
            .to_string()
            .replace(&format!("{}", path.display()), "e.yaml")
    };
    let one = |entry: &str| {
        problem(&format!(
            "apiVersion: bastion-audit.dev/v1alpha1\nkind: Expectations\nspec:\n  expect:\n    - {entry}\n"
        ))
    };
    assert_eq!(problem(""), "e.yaml: nothing is expected here");
    assert!(problem("kind: Expectations\n").contains("needs the key 'apiVersion'"));
    for (entry, says) in [
        (
            "{who: {group: sre}}",
            "e.yaml:5:7: one of 'may', 'mayNot', 'can' and 'cannot'",
        ),
        (
            "{who: {group: sre}, may: viewer, mayNot: editor}",
            "one of 'may'",
        ),
        (
            "{who: {group: sree}, may: viewer}",
            "e.yaml:5:13: nobody is in the group 'sree', and no binding speaks of it; did you mean 'sre'?",
        ),
        (
            "{who: {group: sre}, mayNot: viewr}",
            "e.yaml:5:35: no Role 'viewr' is defined; did you mean 'viewer'?",
        ),
        (
            "{who: {identity: eve}, may: viewer}",
            "no Identity 'eve' is defined",
        ),
        (
            "{who: {group: sre}, may: viewer, clusters: [prd]}",
            "no Cluster 'prd' is defined; did you mean 'prod'?",
        ),
        (
            "{who: {group: sre}, may: viewer, clusters: {matchLabels: {env: x}}}",
            "no Cluster more has all of these labels",
        ),
        (
            "{who: {group: sre}, may: viewer, form: 10.0.0.0/8}",
            "did you mean 'from'?",
        ),
        (
            "{who: {group: sre}, may: viewer, from: 10.0.0.1/8}",
            "has bits beyond its prefix",
        ),
        (
            "{who: {group: sre}, may: viewer, sessions: []}",
            "name a kind of session",
        ),
        ("{may: viewer}", "'who' is needed"),
        (
            "{who: {group: sre, identity: ann}, may: viewer}",
            "'who' is one of",
        ),
        (
            "{who: {certificate: {authority: crop, principal: a}}, may: viewer}",
            "no CertificateAuthority 'crop' is defined; did you mean 'corp'?",
        ),
        (
            "{who: {identity: ann}, may: auditor, clusters: [prod]}",
            "'clusters' is for roles that open sessions",
        ),
        (
            "{role: viewer, cannot: {verb: get, resource: secrets}}",
            "say whom with 'identity'",
        ),
        (
            "{role: auditor, cannot: {verb: get, resource: secrets}}",
            "is an audit role and has no RBAC",
        ),
        (
            "{who: {group: sre}, role: viewer, cannot: {verb: get, resource: secrets}}",
            "'who' is for 'may' and 'mayNot'",
        ),
        (
            "{cannot: {verb: get, resource: secrets}}",
            "'role' is needed",
        ),
    ] {
        let problem = one(entry);
        assert!(problem.contains(says), "{entry}: {problem}");
    }
}

#[test]
fn a_request_and_its_subject_are_read_as_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.yaml");
    let text = "apiVersion: bastion-audit.dev/v1alpha1\nkind: Expectations\nspec:\n  expect:\n    \
        - {role: viewer, identity: ann, clusters: [dev], cannot: {verb: create, resource: pods/exec, namespace: kube-system, name: x}}\n    \
        - {role: viewer, identity: ann, can: {verb: list, resource: deployments, apiGroup: apps}}\n";
    std::fs::write(&path, text).unwrap();
    let config = load(&base());
    let read: Vec<_> = expectations(&path, &config)
        .unwrap()
        .into_iter()
        .map(|expectation| match expectation.expected {
            Expected::Can(can) => {
                let subjects: Vec<String> = can
                    .clusters
                    .iter()
                    .map(|cluster| subject_of(&config, &can, cluster).unwrap().to_string())
                    .collect();
                format!("{} {} {}", can.can, can.request, subjects.join(" "))
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let ann = "system:serviceaccount:viewer:viewer-ann";
    assert_eq!(
        read,
        [
            format!("false create pods/exec x in kube-system {ann}"),
            format!("true list deployments of apps in all namespaces {ann} {ann}"),
        ]
    );
}
