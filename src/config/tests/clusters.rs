//! Clusters without a kubeconfig, and those where the daemon asks in people's names.

use super::*;

fn with(cluster: &str, role: &str) -> Result<Config, String> {
    let mut documents = set();
    documents[1] = doc("Cluster", "prod", cluster);
    documents[3] = doc("Role", "viewer", role);
    load_text(&documents).map_err(|problems| problems.to_string())
}

fn prod() -> Name {
    Name::new("prod").unwrap()
}

const GROUPS: &str = "{kubernetes: {clusters: [prod], groups: [a, b]}}";
const ACCOUNT: &str = "{kubernetes: {clusters: [prod], serviceAccount: {namespace: v, name: v}}}";

#[test]
fn people_are_named_as_the_cluster_knows_them() {
    let named = |cluster: &str| {
        let config = with(cluster, GROUPS).unwrap();
        let RoleAccess::Kubernetes(role) = &config.roles[&Name::new("viewer").unwrap()].access
        else {
            panic!()
        };
        assert!(!role.has_credential(&prod()));
        role.subjects[&prod()].clone()
    };
    let subject = |username: &str, groups: [&str; 2]| SubjectTemplate::Impersonated {
        username: username.into(),
        groups: groups.map(str::to_owned).into(),
    };
    assert_eq!(
        named("{kubeconfig: k, mint: impersonation}"),
        subject("ssh:{identity}", ["ssh:a", "ssh:b"])
    );
    assert_eq!(
        named(
            "{kubeconfig: k, mint: impersonation, impersonation: {username: '{identity}@x', groupPrefix: ''}}"
        ),
        subject("{identity}@x", ["a", "b"])
    );
}

#[test]
fn an_api_server_can_be_named_without_a_kubeconfig() {
    let server = "{server: {url: 'https://a:6443', certificateAuthority: ca.crt, tokenFile: t, renewToken: true}}";
    let config = with(server, ACCOUNT).unwrap();
    let expected = ClusterAccess::Server(ClusterServer {
        url: "https://a:6443".into(),
        certificate_authority: "/etc/b/ca.crt".into(),
        token_file: Some("/etc/b/t".into()),
        renew_token: true,
    });
    assert_eq!(config.clusters[&prod()].access, expected);
}

#[test]
fn each_mistake_about_them_is_reported_with_what_to_do() {
    let imp = "kubeconfig: k, mint: impersonation";
    let url = "url: 'https://a', certificateAuthority: c";
    for (cluster, role, expected) in [
        (
            format!("{{{imp}}}"),
            ACCOUNT,
            "mints by impersonation, so this needs the key 'groups'",
        ),
        (
            format!("{{{imp}}}"),
            "{kubernetes: {clusters: [prod], groups: [a]}, sessions: [exec, credential]}",
            "leave 'credential' out",
        ),
        (
            format!("{{{imp}}}"),
            "{kubernetes: {clusters: [prod], groups: [a]}, credentialTtl: 15m}",
            "leave 'credentialTtl' out",
        ),
        (
            format!("{{{imp}, impersonation: {{username: everybody}}}}"),
            GROUPS,
            "everybody would be the same user",
        ),
        (
            format!("{{{imp}, impersonation: {{username: 'system:{{identity}}'}}}}"),
            GROUPS,
            "could be one of Kubernetes' own users",
        ),
        (
            format!("{{{imp}, impersonation: {{groupPrefix: 'system:'}}}}"),
            GROUPS,
            "is not what groups for Kubernetes begin with",
        ),
        (
            format!("{{{imp}, impersonation: {{groupPrefix: sys}}}}"),
            "{kubernetes: {clusters: [prod], groups: ['tem:masters']}}",
            "would be a group of Kubernetes' own",
        ),
        (
            "{kubeconfig: k, impersonation: {legacy: true}}".into(),
            ACCOUNT,
            "nobody is impersonated here",
        ),
        (
            format!("{{{imp}, audience: x}}"),
            GROUPS,
            "an audience is named in tokens of our own only",
        ),
        (
            "{server: {url: 'http://a', certificateAuthority: c, tokenFile: t}}".into(),
            ACCOUNT,
            "is not an API server's URL",
        ),
        (
            "{server: {url: 'https://a', tokenFile: t}}".into(),
            ACCOUNT,
            "needs the key 'certificateAuthority'",
        ),
        (
            format!("{{server: {{{url}}}}}"),
            ACCOUNT,
            "name its 'tokenFile'",
        ),
        (
            format!("{{kubeconfig: k, server: {{{url}, tokenFile: t}}}}"),
            ACCOUNT,
            "needs one of",
        ),
    ] {
        let problems = with(&cluster, role).unwrap_err();
        assert!(
            problems.contains(expected),
            "{expected:?} is not in {problems}"
        );
    }
}
