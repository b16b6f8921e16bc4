//! `spec.issuer`, `spec.mint`, and what roles are where credentials come about so.

use super::*;

fn main(issuer: &str) -> String {
    doc(
        "Bastion",
        "main",
        &format!("{{listen: 127.0.0.1:2222, hostKeys: [h], stateDir: s, issuer: {issuer}}}"),
    )
}

const URL: &str = "url: https://b.example.com";

#[test]
fn an_issuer_has_defaults_and_absolute_paths() {
    let mut documents = set();
    documents[0] = main(&format!("{{{URL}, signingKeys: [k]}}"));
    documents[1] = doc("Cluster", "prod", "{kubeconfig: k, mint: oidcIssuer}");
    documents[3] = doc(
        "Role",
        "viewer",
        "{kubernetes: {clusters: [prod], groups: [a, b]}}",
    );
    let config = load_text(&documents).unwrap();
    let issuer = config.bastion.issuer.unwrap();
    assert_eq!(issuer.token_ttl.as_secs(), 300);
    assert_eq!(issuer.signing_keys, [IssuerKey::File("/etc/b/k".into())]);
    assert_eq!(
        issuer.discovery(),
        "https://b.example.com/.well-known/openid-configuration"
    );
    assert_eq!(issuer.jwks(), "https://b.example.com/jwks.json");
    let audience = "prod".to_owned();
    let prod = Name::new("prod").unwrap();
    assert_eq!(config.clusters[&prod].mint, Mint::OidcIssuer { audience });
    let RoleAccess::Kubernetes(viewer) = &config.roles[&Name::new("viewer").unwrap()].access else {
        panic!()
    };
    let groups = ["a".to_owned(), "b".to_owned()].into();
    assert_eq!(viewer.subjects[&prod], SubjectTemplate::Own { groups });
}

#[test]
fn each_mistake_about_it_is_reported_with_what_to_do() {
    let keys = "signingKeys: [k]";
    let listen = "listen: 127.0.0.1:1";
    for (issuer, expected) in [
        (format!("{{{keys}}}"), "issuer needs the key 'url'"),
        (format!("{{{URL}}}"), "issuer needs the key 'signingKeys'"),
        (format!("{{{URL}, signingKeys: []}}"), "issuer new-key FILE"),
        (
            format!("{{url: 'http://b', {keys}}}"),
            "is not an issuer's URL",
        ),
        (
            format!("{{url: 'https://b/', {keys}}}"),
            "without a slash at its end",
        ),
        (
            format!("{{url: 'https://b?x', {keys}}}"),
            "is not an issuer's URL",
        ),
        (
            format!("{{url: 'https://u:p@b', {keys}}}"),
            "is not an issuer's URL",
        ),
        (
            format!("{{{URL}, {keys}, tokenTtl: 11m}}"),
            "11m is out of bounds: 2m to 10m",
        ),
        (
            format!("{{{URL}, {keys}, tokenTtl: 119s}}"),
            "is out of bounds: 2m to 10m",
        ),
        (
            format!("{{{URL}, {keys}, {listen}}}"),
            "needs 'listen', 'certificate' and 'key'",
        ),
        (
            format!("{{{URL}, {keys}, discoveryUrl: 'https://b'}}"),
            "is not a discovery document's URL",
        ),
        (
            format!(
                "{{{URL}, {keys}, discoveryUrl: 'https://b.example.com/.well-known/openid-configuration'}}"
            ),
            "leave 'discoveryUrl' out",
        ),
        (
            format!("{{{URL}, signingKeys: [k, k]}}"),
            "'k' is here a second time",
        ),
    ] {
        let problem = only_problem(main(&issuer));
        assert!(
            problem.contains(expected),
            "{expected:?} is not in {problem}"
        );
    }
    let shown = doc(
        "Bastion",
        "main",
        &format!(
            "{{listen: 127.0.0.1:2222, hostKeys: [h], stateDir: s, issuer: {{{URL}, signingKeys: [x/k]}}, sandbox: {{readOnlyPaths: [x]}}}}"
        ),
    );
    assert!(only_problem(shown).contains("would show /etc/b/x/k"));
}

#[test]
fn a_role_is_what_its_clusters_can_mint() {
    let with = |prod: &str, role: &str, more: &[String]| {
        let mut documents = set();
        documents[0] = main(&format!("{{{URL}, signingKeys: [k]}}"));
        documents[1] = doc("Cluster", "prod", prod);
        documents[3] = doc("Role", "viewer", role);
        documents.extend_from_slice(more);
        match load_text(&documents) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }
    };
    let ours = "{kubeconfig: k, mint: oidcIssuer}";
    let account = "serviceAccount: {namespace: v, name: v}";
    for (prod, role, expected) in [
        (
            ours,
            format!("{{kubernetes: {{clusters: [prod], {account}}}}}"),
            "'prod' mints by oidcIssuer, so this needs the key 'groups'",
        ),
        (
            "{kubeconfig: k}",
            "{kubernetes: {clusters: [prod], groups: [a]}}".into(),
            "'prod' mints by tokenRequest, so this needs the key 'serviceAccount'",
        ),
        (
            ours,
            "{kubernetes: {clusters: [prod], groups: []}}".into(),
            "without a group nobody could do anything",
        ),
        (
            ours,
            "{kubernetes: {clusters: [prod], groups: ['system:masters']}}".into(),
            "none of system:",
        ),
        (
            ours,
            "{kubernetes: {clusters: [prod], groups: [\"a'b\"]}}".into(),
            "is not a group for Kubernetes",
        ),
        (
            ours,
            "{kubernetes: {clusters: [prod], groups: [a]}, credentialTtl: 15m}".into(),
            "leave 'credentialTtl' out",
        ),
        (
            "{kubeconfig: k, mint: password}",
            format!("{{kubernetes: {{clusters: [prod], {account}}}}}"),
            "'password' is not a way to mint",
        ),
        (
            "{kubeconfig: k, audience: x}",
            format!("{{kubernetes: {{clusters: [prod], {account}}}}}"),
            "or mint by oidcIssuer",
        ),
    ] {
        let problems = with(prod, &role, &[]);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{expected:?} is not in {problems:?}"
        );
    }
    // Both, where a role is on clusters of both kinds.
    let both = format!(
        "{{kubernetes: {{clusters: [prod, old], groups: [a], {account}}}, credentialTtl: 15m}}"
    );
    let old = doc("Cluster", "old", "{kubeconfig: o}");
    assert!(with(ours, &both, &[old]).is_empty());
    // A token for one cluster is good on no other.
    let other = doc(
        "Cluster",
        "other",
        "{kubeconfig: o, mint: oidcIssuer, audience: prod}",
    );
    let role = "{kubernetes: {clusters: [prod], groups: [a]}}";
    let problems = with(ours, role, &[other]);
    assert!(
        problems[0].contains("have the same audience, 'prod'"),
        "{problems:?}"
    );
    let mut documents = set();
    documents[1] = doc("Cluster", "prod", ours);
    let problems = load_text(&documents).unwrap_err().to_string();
    assert!(
        problems.contains("write spec.issuer of the Bastion"),
        "{problems}"
    );
}

#[test]
fn a_key_behind_a_socket_is_named_with_its_public_half() {
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    let written = |key: &str| {
        let mut documents = set();
        documents[0] = main(&format!(
            "{{{URL}, signingKeys: [{{socket: s, publicKey: {key}}}]}}"
        ));
        load_text(&documents)
    };
    // The key of RFC 7515, A.3.1.
    let good = format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
    let config = written(&good).unwrap();
    let [IssuerKey::Socket { socket, public_key }] =
        &config.bastion.issuer.unwrap().signing_keys[..]
    else {
        panic!()
    };
    assert_eq!(socket, Path::new("/etc/b/s"));
    // As it is printed, so it is read.
    let printed = serde_json::to_string(public_key).unwrap();
    assert!(printed.contains("\"kid\""), "{printed}");
    assert!(written(&printed).is_ok());
    for bad in [
        good.replace("EC", "OKP"),
        good.replace("P-256", "P-384"),
        good.replace(x, y),
        good.replace("\"kty\"", "\"kid\":\"other\",\"kty\""),
        good.replace("\"kty\"", "\"alg\":\"RS256\",\"kty\""),
        "{kty: RSA, n: AQAB, e: AQAB}".to_owned(),
    ] {
        let problems = written(&bad).unwrap_err().to_string();
        assert!(problems.contains("no public key for ES256"), "{problems}");
    }
    let twice = format!("{{{URL}, signingKeys: [k, {{socket: k, publicKey: {good}}}]}}");
    let mut documents = set();
    documents[0] = main(&twice);
    let problems = load_text(&documents).unwrap_err().to_string();
    assert!(problems.contains("here a second time"), "{problems}");
}
