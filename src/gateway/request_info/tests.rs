use proptest::prelude::*;

use super::*;

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    use NotCanonical::*;
    for (path, why) in [
        ("", NoPath),
        ("api", NoPath),
        ("*", NoPath),
        ("/api//v1", Empty),
        ("//api", Empty),
        ("/api/v1//", Empty),
        ("/api/./v1", Dots),
        ("/api/v1/..", Dots),
        ("/api/%2e%2e/v1", Encoded(b'.')),
        ("/api/v1/namespaces/a/pods/b/%65xec", Encoded(b'e')),
        ("/api/v1/namespaces/a/pods/b%2Fexec", Encoded(b'/')),
        ("/api/v1/namespaces/a/pods/b%2fexec", Encoded(b'/')),
        ("/api/v1/a%5Cb", Encoded(b'\\')),
        ("/api/v1/a%2565xec", Encoded(b'%')),
        ("/api/v1/a%00", Encoded(0)),
        ("/api/v1/a%0a", Encoded(b'\n')),
        ("/api/v1/a%7f", Encoded(0x7f)),
        ("/api/v1/a%", Percent),
        ("/api/v1/a%4", Percent),
        ("/api/v1/a%zz", Percent),
        ("/api/v1/a%+1", Percent),
        ("/api/v1/a b", Raw),
        ("/api/v1/a\\b", Raw),
        ("/api/v1/ä", Raw),
        ("/api/v1/a%FF", Raw),
        ("/api/v1/a%C2%9B31m", Control),
        ("/api/v1/a\"", Raw),
    ] {
        assert_eq!(canonical(path), Err(why), "{path}");
    }
}

#[test]
fn names_may_be_encoded_as_clients_do() {
    for path in [
        "/",
        "/api",
        "/api/v1/namespaces/a/services/b/proxy/",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%20b",
        "/api/v1/namespaces/a/services/https:b:443/proxy/x@y;z=1",
        "/api/v1/a%C3%A4",
    ] {
        assert_eq!(canonical(path), Ok(()), "{path}");
    }
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode";
    let info = RequestInfo::parse(&Method::GET, path, &[]);
    assert_eq!(info.summary().name, "system:node");
}

#[test]
fn a_query_is_decoded_in_full_and_in_order() {
    let asked = query(Some(
        "command=sh&command=-c&command=echo+a%26b%3D%2B&stdin&x=&command=",
    ))
    .unwrap();
    let pairs: Vec<_> = asked
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("command", "sh"),
            ("command", "-c"),
            ("command", "echo a&b=+"),
            ("stdin", ""),
            ("x", ""),
            ("command", "")
        ]
    );
    assert_eq!(query(None), Ok(vec![]));
    assert_eq!(query(Some("a=1;b=2")), Err(BadQuery::Semicolon));
    assert_eq!(query(Some("a=%zz")), Err(BadQuery::Percent));
    assert_eq!(query(Some("a=%")), Err(BadQuery::Percent));
    assert_eq!(query(Some("a=%FF")), Err(BadQuery::NotText));
}

#[test]
fn a_flag_is_read_as_go_reads_it() {
    for no in ["0", "false", "FALSE", "falſe"] {
        assert!(!is_true(no), "{no}");
    }
    for yes in ["", "1", "true", "no", "off", "00"] {
        assert!(is_true(yes), "{yes}");
    }
}

proptest! {
    /// What passes has as many segments encoded as decoded, and decodes to itself again.
    #[test]
    fn what_is_canonical_means_one_thing(path in "/[a-z%./:2eF0-9 ]{0,24}") {
        if canonical(&path).is_ok() {
            let decoded = address::decoded(&path);
            prop_assert_eq!(path.split('/').count(), decoded.split('/').count());
            prop_assert!(!decoded.contains('%'));
        }
    }

    #[test]
    fn noise_is_survived(method in "[A-Z]{3,7}", path in ".{0,60}", raw in ".{0,60}") {
        let asked = query(Some(&raw)).unwrap_or_default();
        if canonical(&path).is_ok() {
            let method = method.parse().unwrap();
            RequestInfo::parse(&method, &path, &asked);
        }
    }
}
