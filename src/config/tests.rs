//! Whole configurations, good and bad.

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

#[test]
fn each_mistake_is_reported_where_it_stands_with_what_to_do() {
    let identity = |spec: &str| doc("Identity", "operator-a", spec);
    let role = |spec: &str| doc("Role", "viewer", spec);
    let kubernetes = "kubernetes: {clusters: [prod], serviceAccount: {namespace: v, name: viewer}}";
    let main = |spec: &str| {
        doc(
            "Bastion",
            "main",
            &format!("{{listen: 127.0.0.1:2222, hostKeys: [h], stateDir: s, {spec}}}"),
        )
    };
    let key = format!("keys: ['{ED25519}']");
    for (document, expected) in [
        (
            identity(&format!("{{groups: [sre], {key}, defaultRol: viewer}}")),
            "unknown key 'defaultRol' in an Identity's spec: did you mean 'defaultRole'?",
        ),
        (
            identity(&format!("{{groups: [sre], {key}, verbs: [get]}}")),
            "known here: groups, keys, keysFile, defaultRole",
        ),
        (
            identity("{groups: [sre]}"),
            "needs 'keys', 'keysFile' or both",
        ),
        (
            identity("{groups: [sre], keys: ['ssh-rsa AAAA']}"),
            "RUSTSEC-2023-0071",
        ),
        (identity("{groups: [sre], keys: [12]}"), "put it in quotes"),
        (identity("{groups: [sre], keys:}"), "'keys' has no value"),
        (
            identity(&format!("{{groups: [sre, 'ca/x:y'], {key}}}")),
            "is not a group",
        ),
        (
            identity(&format!("{{groups: [sre], {key}, defaultRole: viewr}}")),
            "no Role 'viewr' is defined; did you mean 'viewer'?",
        ),
        (
            identity(&format!("{{groups: [sre], {key}, defaultRole: auditor}}")),
            "is an audit role, which opens no sessions",
        ),
        (
            identity("{groups: [sre], keysFile: none.keys}"),
            "keysFile /etc/b/none.keys cannot be read",
        ),
        (
            doc("Identity", "latest", &format!("{{{key}}}")).replace(ED25519, OTHER),
            "'latest' is a word of bastion-audit itself",
        ),
        (
            doc("Identity", "b", &format!("{{{key}}}")),
            "this key is at /etc/b/all.yaml",
        ),
        (
            doc(
                "Identity",
                "b",
                &format!("{{keys: ['{OTHER}', '{OTHER} again']}}"),
            ),
            "for this identity too",
        ),
        (
            doc("Identity", "viewer", "{keys: []}"),
            "both named 'viewer'",
        ),
        (
            doc("Identity", "Operator_B", "{keys: []}"),
            "'Operator_B' is not a name",
        ),
        (
            doc(
                "Identity",
                "b",
                &format!("{{keys: ['{OTHER}'], defaultRole: viewer}}"),
            ),
            "no Binding gives the role 'viewer' to 'b'",
        ),
        (
            role("{credentialTtl: 15m}"),
            "needs one of 'kubernetes' and 'audit'",
        ),
        (
            role(&format!(
                "{{{kubernetes}, audit: {{clusters: ['*'], identities: []}}}}"
            )),
            "needs one of 'kubernetes' and 'audit'",
        ),
        (
            role(&format!("{{{kubernetes}, credentialTtl: 5m}}")),
            "a credential lives 10m to 1h",
        ),
        (
            role(&format!("{{{kubernetes}, maxSession: 25h}}")),
            "out of bounds: 1m to 24h",
        ),
        (
            role(&format!("{{{kubernetes}, maxSession: 1 hour}}")),
            "is not a duration",
        ),
        (
            role(&format!("{{{kubernetes}, sessions: [shell, tunnel]}}")),
            "this version has no tunnel",
        ),
        (
            role(&format!("{{{kubernetes}, sessions: []}}")),
            "can do nothing",
        ),
        (
            role(&format!("{{{kubernetes}, recordInput: never}}")),
            "auto, always or digest",
        ),
        (
            role("{kubernetes: {clusters: [prud], serviceAccount: {namespace: v, name: viewer}}}"),
            "no Cluster 'prud' is defined; did you mean 'prod'?",
        ),
        (
            role("{kubernetes: {clusters: ['*'], serviceAccount: {namespace: v, name: viewer}}}"),
            "'*' is for audit roles",
        ),
        (
            role("{kubernetes: {clusters: [], serviceAccount: {namespace: v, name: viewer}}}"),
            "no cluster is named here",
        ),
        (
            role(
                "{kubernetes: {clusters: {matchLabels: {env: x}}, serviceAccount: {namespace: v, name: viewer}}}",
            ),
            "no Cluster has all of these labels",
        ),
        (
            role(
                "{kubernetes: {clusters: [{matchLabels: {}}], serviceAccount: {namespace: v, name: viewer}}}",
            ),
            "empty matchLabels",
        ),
        (
            role("{kubernetes: {clusters: [prod], serviceAccount: {namespace: V, name: viewer}}}"),
            "is not a Kubernetes namespace",
        ),
        (
            role(
                "{kubernetes: {clusters: [prod], serviceAccount: {namespace: v, name: '{user}'}}}",
            ),
            "is not a ServiceAccount's name",
        ),
        (
            role("{kubernetes: {clusters: [prod], serviceAccount: {namespace: v}}}"),
            "serviceAccount needs the key 'name'",
        ),
        (
            doc(
                "Role",
                "auditor",
                "{audit: {clusters: ['*'], identities: ['*']}, sessions: [shell]}",
            ),
            "an audit role opens no sessions",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sra}], roles: [viewer]}",
            ),
            "no Identity has the group 'sra'; did you mean 'sre'?",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{identity: operator-b}], roles: [viewer]}",
            ),
            "no Identity 'operator-b' is defined",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: 'ca/corp:sre'}], roles: [viewer]}",
            ),
            "is a group of a certificate authority",
        ),
        (
            doc("Binding", "x", "{subjects: [{group: sre}], roles: [admin]}"),
            "no Role 'admin' is defined",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], clusters: [dev]}",
            ),
            "no Cluster 'dev' is defined",
        ),
        (
            doc("Binding", "x", "{subjects: [], roles: [viewer]}"),
            "binds nobody",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre, identity: operator-a}], roles: [viewer]}",
            ),
            "a subject is one of",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], until: tomorrow}",
            ),
            "is not a moment",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], until: 2027-01-31}",
            ),
            "is not a moment",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], clusters: []}",
            ),
            "narrows to no cluster",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], reason: \"a\\eb\"}",
            ),
            "one line of at most 500",
        ),
        (main("advertise: nowhere"), "is not HOST:PORT"),
        (main("limits: {loginGrace: 0s}"), "out of bounds: 1s to 10m"),
        (
            main("limits: {maxConnections: many}"),
            "a whole number from 1 to 100000",
        ),
        (main("sandbox: {uidStart: 0}"), "a whole number from 1000"),
        (
            main("sandbox: {readOnlyPaths: [/etc]}"),
            "this would show /etc/b/h to operators' commands",
        ),
        (
            main("sandbox: {tools: [/opt/a/helm, /opt/b/helm]}"),
            "is here a second time",
        ),
        (
            doc(
                "Bastion",
                "main",
                "{listen: ':22', hostKeys: [h], stateDir: s}",
            ),
            "is not an address to listen on",
        ),
        (
            doc(
                "Bastion",
                "main",
                "{listen: '127.0.0.1:22', hostKeys: [], stateDir: s}",
            ),
            "ssh-keygen -t ed25519",
        ),
        (
            doc(
                "Bastion",
                "second",
                "{listen: '127.0.0.1:22', hostKeys: [h], stateDir: s}",
            ),
            "one daemon has one Bastion",
        ),
        (
            doc("Cluster", "dev", "{}"),
            "needs one of 'kubeconfig: FILE' and 'inCluster: true'",
        ),
        (doc("Cluster", "dev", "{inCluster: false}"), "needs one of"),
        (
            doc("Rule", "x", "{}"),
            "unknown kind 'Rule': did you mean Role?",
        ),
        (
            doc("Role", "x", "{}").replace("v1alpha1", "v1"),
            "is not an apiVersion of ours",
        ),
        (
            "--- [a list]\n".to_owned(),
            "a document is a mapping of keys to values, not a list",
        ),
        ("---\na: {b\n".to_owned(), "not valid YAML"),
    ] {
        let problem = only_problem(document.clone());
        assert!(problem.contains(expected), "{document}\n{problem}");
        let place = problem.split(": ").next().unwrap();
        assert!(
            place.matches(':').count() == 2,
            "file:line:column: {problem}"
        );
    }
}

#[test]
fn everything_wrong_is_reported_at_once_in_order() {
    let mut documents = set();
    documents.push("---\nbroken: [\n".to_owned());
    documents.push(doc("Role", "second", "{kubernetes: {clusters: [prod], sesions: [], serviceAccount: {nmespace: v}}, credentialTtl: 1m}"));
    documents.push(doc(
        "Role",
        "second",
        "{audit: {clusters: ['*'], identities: ['*']}}",
    ));
    documents.push(doc(
        "Binding",
        "nothing",
        "{subjects: [{group: nobody}, {identity: nobody}], roles: [gone]}",
    ));
    let problems = load_text(&documents).unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for expected in [
        "not valid YAML",
        "unknown key 'sesions'",
        "unknown key 'nmespace'",
        "needs the key 'namespace'",
        "needs the key 'name'",
        "10m to 1h",
        "defined a second time",
        "the group 'nobody'",
        "no Identity 'nobody'",
        "no Role 'gone' is defined",
    ] {
        assert!(
            text.iter().any(|problem| problem.contains(expected)),
            "{expected}: {text:#?}"
        );
    }
    assert_eq!(text.len(), 10, "{text:#?}");
    let lines: Vec<u32> = problems
        .iter()
        .map(|problem| problem.place().line())
        .collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn an_empty_list_of_keys_is_how_the_last_key_is_taken_away() {
    let mut documents = set();
    documents[2] = doc("Identity", "operator-a", "{groups: [sre], keys: []}");
    assert!(load_text(&documents).is_ok());
}

#[test]
fn selectors_and_overrides_make_subjects() {
    let mut documents = set();
    let labelled = |name: &str, env: &str| {
        doc("Cluster", name, "{inCluster: true}").replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, labels: {{env: {env}}}}}"),
        )
    };
    documents.extend([
        labelled("dev-a", "dev"),
        labelled("dev-b", "dev"),
        labelled("test", "test"),
    ]);
    let account = |name: &str| format!("serviceAccount: {{namespace: ops, name: {name}}}");
    documents.push(doc(
        "Role",
        "ops",
        &format!(
            "{{kubernetes: {{clusters: [prod, {{matchLabels: {{env: dev}}}}], {}, overrides: [{{clusters: [dev-b], {}}}]}}}}",
            account("'ops-{identity}'"),
            account("dev-ops")
        ),
    ));
    let config = load_text(&documents).unwrap();
    let RoleAccess::Kubernetes(ops) = &config.roles[&Name::new("ops").unwrap()].access else {
        panic!()
    };
    let subjects: Vec<(&str, &str)> = ops
        .subjects
        .iter()
        .map(|(cluster, subject)| (cluster.as_str(), subject.name.as_str()))
        .collect();
    assert_eq!(
        subjects,
        [
            ("dev-a", "ops-{identity}"),
            ("dev-b", "dev-ops"),
            ("prod", "ops-{identity}")
        ]
    );

    for (overrides, expected) in [
        (
            format!("[{{clusters: [test], {}}}]", account("x")),
            "where the role does not exist",
        ),
        (
            format!(
                "[{{clusters: [prod], {0}}}, {{clusters: [prod], {0}}}]",
                account("x")
            ),
            "two overrides are for 'prod'",
        ),
    ] {
        documents.pop();
        documents.push(doc(
            "Role",
            "ops",
            &format!(
                "{{kubernetes: {{clusters: [prod], {}, overrides: {overrides}}}}}",
                account("a")
            ),
        ));
        let problems = load_text(&documents).unwrap_err().to_string();
        assert!(problems.contains(expected), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn a_narrowing_that_leaves_nothing_of_a_role_is_a_mistake() {
    let mut documents = set();
    documents.push(doc("Cluster", "dev", "{inCluster: true}"));
    documents.push(doc(
        "Binding",
        "x",
        "{subjects: [{group: sre}], roles: [viewer, auditor], clusters: [dev]}",
    ));
    let problems = load_text(&documents).unwrap_err().to_string();
    assert!(
        problems.contains("'viewer' exists on none of these clusters"),
        "{problems}"
    );
    assert_eq!(problems.lines().count(), 1, "{problems}");
}

#[test]
fn a_directory_is_read_whole_in_order_without_hidden_files_and_through_links() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("people")).unwrap();
    std::fs::create_dir(at("..data")).unwrap();
    std::fs::write(at("bastion.yaml"), bastion()).unwrap();
    std::fs::write(
        at("people/a.yml"),
        doc("Identity", "a", "{keysFile: a.keys}"),
    )
    .unwrap();
    std::fs::write(
        at("people/a.keys"),
        format!("# a\n\n{ED25519} a\nssh-dss AAAA\n"),
    )
    .unwrap();
    std::fs::write(at("..data/b.yaml"), doc("Identity", "b", "{keys: []}")).unwrap();
    std::fs::write(at(".hidden.yaml"), "not: ours").unwrap();
    std::fs::write(at("README.md"), "not yaml").unwrap();
    std::os::unix::fs::symlink("..data/b.yaml", at("b.yaml")).unwrap();
    let problems = load(dir.path()).unwrap_err().to_string();
    let expected = format!("{}:4:1: DSA", at("people/a.keys").display());
    assert!(problems.starts_with(&expected), "{problems}");

    std::fs::write(at("people/a.keys"), ED25519).unwrap();
    let config = load(dir.path()).unwrap();
    assert_eq!(config.identities.len(), 2);
    assert_eq!(
        load(dir.path()).unwrap().digest,
        config.digest,
        "the same files, the same digest"
    );
    std::fs::write(at("people/a.keys"), format!("{ED25519} other comment")).unwrap();
    assert_ne!(
        load(dir.path()).unwrap().digest,
        config.digest,
        "keysFiles are in the digest"
    );

    std::os::unix::fs::symlink(".", at("loop")).unwrap();
    assert!(
        load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("link to a directory above")
    );
}

#[test]
fn what_is_not_there_or_not_text_or_too_large_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &Path| load(path).unwrap_err().to_string();
    assert!(message(&dir.path().join("none")).contains("cannot be read"));
    assert!(message(dir.path()).contains("no *.yaml or *.yml file"));
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    assert!(message(&file).contains("not UTF-8"));
    std::fs::write(&file, "#".repeat(5 << 20)).unwrap();
    assert!(message(&file).contains("larger than 4 MiB"));
    std::fs::write(&file, "").unwrap();
    assert!(message(&file).contains("no Bastion is defined"));
}

#[test]
fn ten_thousand_identities_load_and_are_found() {
    let mut text = set().concat();
    for n in 0..10_000_u32 {
        let mut key = [b'k'; 51];
        key[..19].copy_from_slice(b"\0\0\0\x0bssh-ed25519\0\0\0\x20");
        key[19..23].copy_from_slice(&n.to_be_bytes());
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
        text.push_str(&doc(
            "Identity",
            &format!("p{n}"),
            &format!("{{groups: [sre], keys: [ssh-ed25519 {key}]}}"),
        ));
        text.push_str(&doc(
            "Binding",
            &format!("b{n}"),
            &format!("{{subjects: [{{identity: p{n}}}], roles: [viewer]}}"),
        ));
    }
    let config = parse(Path::new("/etc/b/all.yaml"), &text).unwrap();
    let last = &config.identities[&Name::new("p9999").unwrap()];
    let (owner, _) = config.key_owner(&last.keys[0].key).unwrap();
    assert_eq!(owner.name.as_str(), "p9999");
    assert_eq!(config.bindings_of(&last.name, &last.groups).count(), 2);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "[-a-zA-Z0-9:{}\\[\\], \n'\"&*|>]{0,200}") {
        let _ = parse(Path::new("f.yaml"), &text);
        let _ = parse(Path::new("f.yaml"), &format!("{}spec: {text}", doc("Role", "x", "").trim_end_matches("spec: \n")));
    }
}
