//! What is wrong, where, and what to do.

use super::*;

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
            role(&format!("{{{kubernetes}, sessions: [shell, tunel]}}")),
            "'tunel' is not a kind of session: shell, exec, tunnel or credential",
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
            role(&format!("{{{kubernetes}, bodies: reads}}")),
            "none or writes",
        ),
        (
            role(&format!("{{{kubernetes}, rescue: true, sessions: [exec]}}")),
            "give it a maxSession of 1h or less",
        ),
        (
            role(&format!(
                "{{{kubernetes}, rescue: true, maxSession: 2h, sessions: [exec]}}"
            )),
            "give it a maxSession of 1h or less",
        ),
        (
            role(&format!("{{{kubernetes}, rescue: true, maxSession: 15m}}")),
            "two kinds for it: shell and exec",
        ),
        (
            role(&format!(
                "{{{kubernetes}, rescue: true, maxSession: 15m, sessions: [exec, tunnel]}}"
            )),
            "two kinds for it: shell and exec",
        ),
        (
            role(&format!(
                "{{{kubernetes}, rescue: true, maxSession: 15m, sessions: [exec], maxExtension: 1h}}"
            )),
            "remove 'maxExtension'",
        ),
        (
            role(&format!(
                "{{{kubernetes}, maxSession: 23h, maxExtension: 2h}}"
            )),
            "a session lasts 24h at most",
        ),
        (
            role(&format!(
                "{{{kubernetes}, sessions: [tunnel], maxExtension: 2h}}"
            )),
            "this role has neither shell nor exec; remove it",
        ),
        (
            doc(
                "Role",
                "reader",
                "{audit: {clusters: ['*'], identities: ['*']}, rescue: true}",
            ),
            "'rescue' has no meaning here",
        ),
        (
            main("recordings: {reserve: 1MiB}"),
            "out of bounds: 4MiB to 64GiB",
        ),
        (main("recordings: {warnAt: 100%}"), "from 1% to 99%"),
        (main("recordings: {warnAt: 80}"), "put it in quotes"),
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
            "no CertificateAuthority 'corp' is defined",
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
                "{subjects: [{group: sre}], roles: [viewer], from: [10.0.0.1/8]}",
            ),
            "'10.0.0.1/8' has bits beyond its prefix",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], from: ['!10.0.0.0/8']}",
            ),
            "only exclude, so they allow no address at all",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], from: []}",
            ),
            "an empty list allows no address at all",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [viewer], sessionsAtOnce: 0}",
            ),
            "a whole number from 1 to 1000",
        ),
        (
            doc(
                "Binding",
                "x",
                "{subjects: [{group: sre}], roles: [auditor], sessionsAtOnce: 1}",
            ),
            "an audit role opens no sessions",
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
            main("recordings: {store: {s3: {region: eu-central-1}}}"),
            "s3 needs the key 'bucket'",
        ),
        (
            main("recordings: {store: {s3: {bucket: logs, secretKey: x}}}"),
            "unknown key 'secretKey' in s3",
        ),
        (
            main("recordings: {store: {s3: {bucket: logs, endpoint: 'http://10.0.0.1:9000'}}}"),
            "http:// is for loopback only",
        ),
        (
            main("recordings: {store: {s3: {bucket: logs, endpoint: 'https://a:b@store'}}}"),
            "is not an endpoint",
        ),
        (
            main("recordings: {store: {s3: {bucket: Logs}}}"),
            "'Logs' is not a bucket",
        ),
        (
            main("recordings: {store: {s3: {bucket: logs, prefix: a/../b}}}"),
            "is not a prefix",
        ),
        (
            main(
                "recordings: {store: {s3: {bucket: logs, objectLock: {mode: compliance, retain: 1d}}}}",
            ),
            "'compliance' is not a mode",
        ),
        (
            main("recordings: {store: {s3: {bucket: logs, objectLock: {mode: COMPLIANCE}}}}"),
            "needs the key 'retain'",
        ),
        (
            main("recordings: {store: {s3: {bucket: logs, sse: rot13}}}"),
            "is not a way to encrypt",
        ),
        (
            main("recordings: {retention: {default: 1y}}"),
            "'1y' is not an age",
        ),
        (
            main("recordings: {retention: {default:}}"),
            "'default' has no value",
        ),
        (
            main("recordings: {retention: {roles: {viewer: 0d}}}"),
            "out of bounds: 1s to 36500d",
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
            doc(
                "Role",
                "x",
                "{require: [], audit: {clusters: ['*'], identities: ['*']}}",
            ),
            "nothing is required by this",
        ),
        (
            doc(
                "Role",
                "x",
                "{require: [hardware-key], audit: {clusters: ['*'], identities: ['*']}}",
            ),
            "could not be enforced",
        ),
        (
            doc(
                "Role",
                "x",
                "{require: [saml], audit: {clusters: ['*'], identities: ['*']}}",
            ),
            "'saml' is not a factor: key, certificate, totp or oidc",
        ),
        (
            doc(
                "Role",
                "x",
                "{require: [key, certificate], audit: {clusters: ['*'], identities: ['*']}}",
            ),
            "nobody proves both on one connection",
        ),
        (
            doc(
                "Role",
                "x",
                "{require: [totp, totp], audit: {clusters: ['*'], identities: ['*']}}",
            ),
            "'totp' is required already",
        ),
        (
            doc(
                "Bastion",
                "main",
                "{listen: '127.0.0.1:22', hostKeys: [h], stateDir: s, secondFactor: {remember: 169h}}",
            ),
            "168h",
        ),
        (
            doc("Cluster", "dev", "{}"),
            "needs one of 'kubeconfig: FILE', 'inCluster: true' and 'server: {url",
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
