use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::parse;
use crate::config::test_keys::{ED25519, OTHER};

fn doc(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: '{name}'}}\nspec: {spec}\n"
    )
}

fn role(name: &str, namespace: &str, account: &str) -> String {
    let spec = format!(
        "{{kubernetes: {{clusters: [prod], serviceAccount: {{namespace: '{namespace}', name: '{account}'}}}}}}"
    );
    doc("Role", name, &spec)
}

fn bind(name: &str, subject: &str, role: &str) -> String {
    let spec = format!("{{subjects: [{subject}], roles: [{role}]}}");
    doc("Binding", name, &spec)
}

fn config(more: &[String]) -> Config {
    let base = [
        doc(
            "Bastion",
            "main",
            "{listen: '127.0.0.1:2222', hostKeys: [h], stateDir: s}",
        ),
        doc("Cluster", "prod", "{inCluster: true}"),
        doc("Cluster", "dev", "{inCluster: true}"),
        doc(
            "Identity",
            "ann",
            &format!("{{groups: [sre], keys: ['{ED25519}']}}"),
        ),
        doc(
            "Identity",
            "null",
            &format!("{{groups: [sre], keys: ['{OTHER}']}}"),
        ),
        doc("Identity", "zed", "{groups: [other], keys: []}"),
    ];
    let text = [base.concat(), more.concat()].concat();
    parse(Path::new("f.yaml"), &text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn bastion() -> BastionUser {
    "system:serviceaccount:bastion-audit:bastion"
        .parse()
        .unwrap()
}

fn made(more: &[String]) -> Result<Manifests, ManifestError> {
    manifests(&config(more), &Name::new("prod").unwrap(), &bastion())
}

/// `KIND NAMESPACE/NAME` of each.
fn names(manifests: &Manifests) -> Vec<String> {
    let text = |object: &Value, field: &str| {
        let field = object["metadata"].get(field).and_then(Value::as_str);
        field.unwrap_or_default().to_owned()
    };
    manifests
        .objects()
        .iter()
        .map(|object| {
            let kind = object["kind"].as_str().unwrap();
            format!(
                "{kind} {}/{}",
                text(object, "namespace"),
                text(object, "name")
            )
        })
        .collect()
}

/// Objects of a file of examples/deploy.
fn example(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

#[test]
fn they_are_what_the_examples_are_without_what_operators_may_do() {
    let made = made(&[
        role("viewer", "bastion-viewer", "viewer"),
        role("editor", "bastion-editor", "editor"),
        bind("b", "{group: sre}", "viewer, editor"),
    ]);
    let mut expected = example(include_str!("../../examples/deploy/bastion.yaml"));
    expected.extend(example(include_str!(
        "../../examples/deploy/admission.yaml"
    )));
    for role in [
        include_str!("../../examples/deploy/role-editor.yaml"),
        include_str!("../../examples/deploy/role-viewer.yaml"),
    ] {
        let of_the_bastion = example(role).into_iter().filter(|object| {
            let kind = object["kind"].as_str().unwrap();
            kind != "ClusterRoleBinding"
                && (kind != "RoleBinding" || object["metadata"]["name"] == "bastion-mint")
        });
        expected.extend(of_the_bastion);
    }
    assert_eq!(made.unwrap().objects(), expected);
}

#[test]
fn each_identity_that_a_binding_names_has_a_service_account_and_nobody_else() {
    let more = [
        role("editor", "edit", "{identity}"),
        role("idle", "idle", "{identity}"),
        bind("b", "{group: sre}", "editor"),
        doc(
            "Binding",
            "ended",
            "{subjects: [{identity: zed}], roles: [editor], until: 2020-01-01T00:00:00Z}",
        ),
    ];
    let made = made(&more).unwrap();
    let own: Vec<String> = names(&made)
        .into_iter()
        .filter(|name| !name.contains("Validating"))
        .collect();
    assert_eq!(
        own,
        [
            "Namespace /bastion-audit",
            "ServiceAccount bastion-audit/bastion",
            "Namespace /edit",
            "ServiceAccount edit/ann",
            "ServiceAccount edit/null",
            "ServiceAccount edit/zed",
            "Role edit/bastion-mint",
            "RoleBinding edit/bastion-mint",
        ]
    );
    let text = made.to_yaml();
    assert!(
        text.contains("    resourceNames:\n      - ann\n      - \"null\"\n      - zed\n"),
        "{text}"
    );
    assert!(
        text.contains("the group system:serviceaccounts:edit, a ServiceAccount for each identity"),
        "{text}"
    );
    // As it is read by others, and in whatever order it was written.
    assert_eq!(
        serde_saphyr::from_multiple::<Value>(&text).unwrap(),
        made.objects()
    );
    let mut turned = more.clone();
    turned.reverse();
    assert_eq!(super::tests::made(&turned).unwrap().to_yaml(), text);
}

#[test]
fn no_rule_is_for_names_that_are_not_there() {
    let authority = doc(
        "CertificateAuthority",
        "corp",
        &format!(
            "{{keys: ['{}'], identities: [{{principalSuffix: '@x'}}], groups: [{{extension: g}}]}}",
            KEY
        ),
    );
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFvlJui2SRoZtKCKgZWvso0mnEGWjRVoV3/xhGGlQBHo";
    let certified = [
        authority.clone(),
        role("editor", "edit", "e-{identity}"),
        bind("b", "{group: 'ca/corp:dev'}", "editor"),
    ];
    let made = made(&certified).unwrap();
    let own: Vec<String> = names(&made);
    assert!(own.contains(&"Namespace /edit".to_owned()), "{own:?}");
    assert!(!own.iter().any(|name| name.contains("edit/")), "{own:?}");
    let note = made
        .notes()
        .iter()
        .find(|note| note.starts_with("NOT HERE"))
        .unwrap();
    assert!(
        note.contains("into ca/corp:dev has the ServiceAccount e-{identity} in edit as editor"),
        "{note}"
    );
    // Without {identity} it is one that everybody has.
    let fixed = [
        authority,
        role("editor", "edit", "editor"),
        bind("b", "{group: 'ca/corp:dev'}", "editor"),
    ];
    let made = super::tests::made(&fixed).unwrap();
    assert!(names(&made).contains(&"ServiceAccount edit/editor".to_owned()));
    assert!(!made.to_yaml().contains("NOT HERE"));
    for rule in made
        .objects()
        .iter()
        .filter_map(|object| object.get("rules"))
        .flat_map(|rules| rules.as_array().unwrap())
    {
        let named = rule["resourceNames"]
            .as_array()
            .is_some_and(|names| !names.is_empty());
        assert!(
            named || rule["resources"] == serde_json::json!(["secrets"]),
            "{rule}"
        );
        assert!(!rule.to_string().contains('*'), "{rule}");
    }
}

#[test]
fn nobody_elses_namespace_is_taken_over() {
    for (namespace, whose) in [
        ("kube-system", "Kubernetes' own"),
        ("default", "Kubernetes' own"),
        ("bastion-audit", "the bastion's own"),
    ] {
        let error =
            made(&[role("r", namespace, "r"), bind("b", "{identity: ann}", "r")]).unwrap_err();
        assert!(error.to_string().contains(whose), "{error}");
    }
    let nowhere = manifests(&config(&[]), &Name::new("nowhere").unwrap(), &bastion());
    assert_eq!(
        nowhere,
        Err(ManifestError::UnknownCluster("nowhere".to_owned()))
    );
}

#[test]
fn what_nobody_may_take_needs_nothing() {
    let made = made(&[role("viewer", "bastion-viewer", "viewer")]).unwrap();
    assert_eq!(
        names(&made),
        [
            "Namespace /bastion-audit",
            "ServiceAccount bastion-audit/bastion"
        ]
    );
}

#[test]
fn two_roles_in_one_namespace_share_what_is_one_there() {
    let made = made(&[
        role("a", "shared", "one"),
        role("b", "shared", "two"),
        bind("x", "{identity: ann}", "a, b"),
    ])
    .unwrap();
    let all = names(&made);
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "{all:?}");
    assert!(
        made.to_yaml()
            .contains("the role a, the role b: ServiceAccount one, two in shared")
    );
}

#[test]
fn another_bastion_is_the_one_whom_policies_let_through() {
    let user: BastionUser = "bastion@example.com".parse().unwrap();
    let more = [
        role("viewer", "v", "viewer"),
        bind("b", "{identity: ann}", "viewer"),
    ];
    let text = manifests(&config(&more), &Name::new("prod").unwrap(), &user)
        .unwrap()
        .to_yaml();
    assert!(!text.contains("system:serviceaccount:bastion-audit:bastion"));
    assert!(
        text.contains("request.userInfo.username == 'bastion@example.com'"),
        "{text}"
    );
    assert!(text.contains("  - apiGroup: rbac.authorization.k8s.io\n    kind: User\n    name: \"bastion@example.com\"\n"), "{text}");
    for wrong in [
        "",
        "it's",
        "a b",
        "system:masters",
        "system:anonymous",
        "system:serviceaccount:a",
        "system:serviceaccount:a:b:c",
        "system:serviceaccount:A:b",
        "x' || true || '",
        "a\nb",
        "\u{e9}",
    ] {
        assert!(wrong.parse::<BastionUser>().is_err(), "{wrong}");
    }
}

#[test]
fn where_the_daemon_asks_in_peoples_names_it_may_name_exactly_those() {
    let of = |impersonation: &str| {
        let more = [
            doc(
                "Cluster",
                "named",
                &format!(
                    "{{inCluster: true, mint: impersonation, impersonation: {impersonation}}}"
                ),
            ),
            doc(
                "Role",
                "reader",
                "{kubernetes: {clusters: [named], groups: [readers, all]}}",
            ),
            doc(
                "Role",
                "idle",
                "{kubernetes: {clusters: [named], groups: [admins]}}",
            ),
            bind("b", "{group: sre}, {group: 'ca/corp:dev'}", "reader"),
            doc(
                "CertificateAuthority",
                "corp",
                "{keys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFvlJui2SRoZtKCKgZWvso0mnEGWjRVoV3/xhGGlQBHo'], \
                 identities: [{principalSuffix: '@x'}], groups: [{extension: g}]}",
            ),
        ];
        let named = Name::new("named").unwrap();
        manifests(&config(&more), &named, &bastion()).unwrap()
    };
    let made = of("{username: '{identity}@x', groupPrefix: 'corp:'}");
    assert_eq!(
        names(&made),
        [
            "Namespace /bastion-audit",
            "ServiceAccount bastion-audit/bastion",
            "ClusterRole /bastion-impersonate",
            "ClusterRoleBinding /bastion-impersonate",
        ]
    );
    let rules = &made.objects()[2]["rules"];
    assert_eq!(
        rules[0]["resourceNames"],
        serde_json::json!(["ann@x", "null@x"])
    );
    assert_eq!(
        rules[1]["resourceNames"],
        serde_json::json!(["corp:all", "corp:readers"])
    );
    assert_eq!(
        rules[2]["resources"],
        serde_json::json!(["userextras/bastion-audit.dev/session-id"])
    );
    // No right beyond those of KEP-5284: the legacy verb would undo what it bounds.
    for rule in rules.as_array().unwrap() {
        for verb in rule["verbs"].as_array().unwrap() {
            let verb = verb.as_str().unwrap();
            let constrained =
                verb == "impersonate:user-info" || verb.starts_with("impersonate-on:user-info:");
            assert!(constrained, "{verb}");
        }
    }
    assert!(
        made.notes()
            .iter()
            .any(|note| note.starts_with("NOT HERE") && note.contains("ca/corp:dev"))
    );

    let legacy = of("{legacy: true}");
    let rules = legacy.objects()[2]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 3, "{rules:?}");
    assert_eq!(rules[0]["apiGroups"], serde_json::json!([""]));
    let named = rules
        .iter()
        .filter(|rule| rule.get("resourceNames").is_some());
    assert_eq!(named.count(), 2);
    assert!(
        rules
            .iter()
            .all(|rule| rule["verbs"] == serde_json::json!(["impersonate"]))
    );
}

#[test]
fn a_daemon_that_renews_its_own_token_may_ask_for_that_one() {
    let renewing = [doc(
        "Cluster",
        "own",
        "{server: {url: 'https://a', certificateAuthority: c, tokenFile: t, renewToken: true}}",
    )];
    let own = Name::new("own").unwrap();
    let made = manifests(&config(&renewing), &own, &bastion()).unwrap();
    assert_eq!(
        names(&made),
        [
            "Namespace /bastion-audit",
            "ServiceAccount bastion-audit/bastion",
            "Role bastion-audit/bastion-renew",
            "RoleBinding bastion-audit/bastion-renew",
        ]
    );
    let rule = &made.objects()[2]["rules"][0];
    assert_eq!(rule["resourceNames"], serde_json::json!(["bastion"]));
    assert_eq!(
        rule["resources"],
        serde_json::json!(["serviceaccounts/token"])
    );
}
