//! One decision after the other.

use super::*;

#[test]
fn a_role_on_its_only_cluster_is_granted_with_everything_that_a_session_needs() {
    let config = with(&[bind("b", "viewer", "reason: on call")]);
    let grant = shell(&config, "viewer").unwrap();
    assert_eq!(grant.identity().as_str(), "operator-a");
    assert_eq!(
        grant.subject().to_string(),
        "system:serviceaccount:ns-viewer:viewer-operator-a"
    );
    assert_eq!(grant.ttl().as_secs(), 900);
    assert_eq!(grant.ends().to_string(), "2027-01-01T08:00:00Z");
    assert_eq!(
        (grant.binding().as_str(), grant.reason()),
        ("b", Some("on call"))
    );
    assert_eq!(grant.config_digest(), config.digest);
    let json = serde_json::to_value(&grant).unwrap();
    assert_eq!(json["role"], "viewer");
    assert_eq!(json["configDigest"], config.digest);
}

#[test]
fn the_own_name_means_the_default_role_or_the_only_one_and_is_never_guessed() {
    let one = with(&[bind("b", "viewer, auditor", "")]);
    assert_eq!(outcome(shell(&one, "operator-a")), "viewer@prod by b");

    let many = with(&[bind("b", "viewer, runner", "")]);
    assert_eq!(
        shell(&many, "operator-a").unwrap_err(),
        Denial::Ambiguous {
            identity: name("operator-a"),
            choices: vec!["runner".to_owned(), "viewer".to_owned()]
        }
    );
    // A kind of session that only one of them allows does not choose it either.
    assert!(matches!(
        ask(&many, "operator-a", SessionKind::Exec),
        Err(Denial::Ambiguous { .. })
    ));

    let mut documents = base();
    documents[4] = doc(
        "Identity",
        "operator-a",
        &format!("{{groups: [sre], keys: ['{ED25519}'], defaultRole: runner}}"),
    );
    documents.push(bind("b", "viewer, runner", ""));
    assert_eq!(
        outcome(ask(&load(&documents), "operator-a", SessionKind::Exec)),
        "runner@test by b"
    );

    // A default that has ended is not replaced by another role.
    documents.pop();
    documents.push(bind("b", "viewer", ""));
    documents.push(bind("c", "runner", "until: 2026-12-31T00:00:00Z"));
    assert!(matches!(
        ask(&load(&documents), "operator-a", SessionKind::Exec),
        Err(Denial::Ended { role, .. }) if role == name("runner")
    ));
}

#[test]
fn a_role_on_several_clusters_needs_the_cluster() {
    let config = with(&[bind("b", "editor", "")]);
    assert_eq!(
        shell(&config, "editor").unwrap_err(),
        Denial::Ambiguous {
            identity: name("operator-a"),
            choices: vec!["editor+dev".to_owned(), "editor+prod".to_owned()]
        }
    );
    assert_eq!(outcome(shell(&config, "editor+dev")), "editor@dev by b");
    assert_eq!(outcome(shell(&config, "editor+prod")), "editor@prod by b");
    let narrowed = with(&[bind("b", "editor", "clusters: [dev]")]);
    assert_eq!(outcome(shell(&narrowed, "editor")), "editor@dev by b");
    assert!(matches!(
        shell(&narrowed, "editor+prod"),
        Err(Denial::NotOnCluster { clusters, .. }) if clusters == [name("dev")]
    ));
}

#[test]
fn of_several_bindings_the_one_that_lasts_longest_then_the_first_name() {
    let soon = "until: 2027-01-01T00:30:00Z";
    let later = "until: 2027-01-01T02:00:00Z";
    for (bindings, expected) in [
        (
            vec![bind("a", "viewer", soon), bind("b", "viewer", later)],
            "b",
        ),
        (
            vec![bind("a", "viewer", later), bind("b", "viewer", "")],
            "b",
        ),
        (vec![bind("a", "viewer", ""), bind("b", "viewer", "")], "a"),
        (
            vec![bind("a", "viewer", later), bind("b", "viewer", later)],
            "a",
        ),
        (
            vec![
                bind("a", "viewer", "until: 2026-01-01T00:00:00Z"),
                bind("b", "viewer", soon),
            ],
            "b",
        ),
    ] {
        assert_eq!(
            shell(&with(&bindings), "viewer")
                .unwrap()
                .binding()
                .as_str(),
            expected
        );
    }
}

#[test]
fn until_bounds_the_session_and_ends_the_binding_at_that_moment() {
    let grant = shell(
        &with(&[bind("b", "viewer", "until: 2027-01-01T00:00:01Z")]),
        "viewer",
    )
    .unwrap();
    assert_eq!(grant.ends().to_string(), "2027-01-01T00:00:01Z");
    let config = with(&[bind("b", "viewer", "until: 2027-01-01T00:00:00Z")]);
    let denial = shell(&config, "viewer").unwrap_err();
    assert!(matches!(denial, Denial::Ended { .. }), "{denial:?}");
    assert!(denial.to_string().contains("2027-01-01T00:00:00Z"));
}

#[test]
fn a_tunnel_is_allowed_only_where_a_role_lists_it() {
    let config = with(&[bind("b", "viewer, editor", "")]);
    assert_eq!(
        outcome(ask(&config, "viewer", SessionKind::Tunnel)),
        "no: The role viewer does not allow tunnel. It allows: shell, exec."
    );
    assert_eq!(
        outcome(ask(&config, "editor+dev", SessionKind::Tunnel)),
        "editor@dev by b"
    );
}

#[test]
fn a_kind_that_the_role_does_not_name_is_refused_with_those_that_it_does() {
    let config = with(&[bind("b", "viewer, runner, editor", "")]);
    assert_eq!(
        outcome(ask(&config, "runner", SessionKind::Shell)),
        "no: The role runner does not allow shell. It allows: exec."
    );
    let said = outcome(ask(&config, "viewer", SessionKind::Credential));
    assert!(
        said.contains("only a role with 'credential' in its sessions does"),
        "{said}"
    );
    assert_eq!(
        outcome(ask(&config, "editor+dev", SessionKind::Credential)),
        "editor@dev by b"
    );
}

#[test]
fn an_audit_role_opens_nothing_and_says_what_it_is_for() {
    let config = with(&[bind("b", "auditor", "")]);
    for principal in ["auditor", "auditor+prod", "operator-a"] {
        let said = outcome(shell(&config, principal));
        assert!(
            said.contains("ssh bastion.example.com bastion sessions"),
            "{said}"
        );
    }
}

#[test]
fn an_unknown_login_name_gets_the_line_to_write_and_learns_nothing() {
    let config = with(&[bind("b", "viewer", "")]);
    let said = |principal: &str| outcome(shell(&config, principal)).replace(principal, "X");
    let unknown = said("nothing");
    assert!(unknown.contains("Log in as one of: viewer."), "{unknown}");
    assert!(
        unknown.contains("Host bastion.example.com\n        User viewer"),
        "{unknown}"
    );
    assert_eq!(said("operator-b"), unknown, "another identity");
    assert_eq!(said("editor"), unknown, "a role of others");
    assert_eq!(said("editor+prod"), unknown);
    assert_eq!(said("editor+nowhere"), unknown);
    let none = with(&[]);
    assert!(matches!(
        shell(&none, "operator-a"),
        Err(Denial::NoRole { .. })
    ));
    assert!(
        outcome(shell(&none, "viewer")).ends_with("No binding gives you a role on a cluster now.")
    );
}

#[test]
fn hostile_login_names_are_never_echoed_raw() {
    let config = with(&[bind("b", "viewer", "")]);
    for principal in [
        "\u{1b}]0;owned\u{7}",
        "a\nb",
        "viewer\u{0}",
        "viewer+",
        "+prod",
        "viewer++prod",
        "viewer+\u{1b}[2J",
        "VIEWER",
        "\u{202e}reweiv",
        &"x".repeat(10_000),
        &format!("viewer+{}", "y".repeat(10_000)),
        "",
        "viewer ",
        "viewer'; rm",
    ] {
        let denial = shell(&config, principal).unwrap_err();
        let (text, json) = (denial.to_string(), serde_json::to_string(&denial).unwrap());
        assert!(text.len() < 600 && json.len() < 600, "{text}");
        assert!(
            text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)),
            "{text:?}"
        );
        assert_eq!(serde_json::from_str::<Denial>(&json).unwrap(), denial);
    }
}

#[test]
fn what_is_available_is_what_would_be_granted() {
    let config = with(&[
        bind("a", "editor", "clusters: [dev]"),
        bind(
            "b",
            "editor, viewer",
            "clusters: [prod], until: 2027-06-01T00:00:00Z",
        ),
        bind("c", "runner", "until: 2026-06-01T00:00:00Z"),
        bind("d", "auditor", ""),
    ]);
    let found = available(&config, &proven(&config), address(), now());
    let shown: Vec<String> = found
        .iter()
        .map(|one| {
            let clusters: Vec<&str> = one.gives.clusters().iter().map(Name::as_str).collect();
            format!("{} [{}] {}", one.role, clusters.join(" "), one.binding)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "auditor [] d",
            "editor [dev] a",
            "editor [prod] b",
            "viewer [prod] b"
        ]
    );
    assert!(found.iter().all(|one| !one.is_default));
    for one in &found {
        for cluster in one.gives.clusters() {
            let grant = shell(&config, &format!("{}+{cluster}", one.role)).unwrap();
            assert_eq!(grant.binding(), &one.binding);
        }
    }
    let only = with(&[bind("b", "viewer", "")]);
    assert!(available(&only, &proven(&only), address(), now())[0].is_default);
}

#[test]
fn audit_scopes_are_pairs_and_never_their_product() {
    let config = with(&[
        bind("a", "auditor", "clusters: [dev]"),
        bind("b", "prod-auditor", ""),
    ]);
    let scope = audit_scope(&config, &proven(&config), address(), now()).unwrap();
    let allows = |cluster: &str, identity: &str| scope.allows(&name(cluster), &name(identity));
    assert!(allows("dev", "operator-b"));
    assert!(allows("prod", "operator-a"));
    assert!(allows("prod", "somebody-gone"));
    assert!(!allows("dev", "operator-a"), "dev is operator-b's only");
    assert!(!allows("test", "operator-b"), "the binding narrows to dev");

    let none = with(&[
        bind("b", "viewer", ""),
        bind("c", "auditor", "until: 2026-01-01T00:00:00Z"),
    ]);
    assert_eq!(audit_scope(&none, &proven(&none), address(), now()), None);
}

#[test]
fn a_session_that_ends_with_its_binding_is_over_and_not_forbidden() {
    let config = with(&[bind("b", "viewer", "until: 2027-01-01T00:00:01Z")]);
    let identity = proven(&config);
    let grant = shell(&config, "viewer").unwrap();
    let end = grant.ends();
    assert_eq!(still_allowed(&config, &grant, &identity, end), Ok(end));
    // The binding alone, a moment before: forbidden.
    let shortened = with(&[bind("b", "viewer", "until: 2027-01-01T00:00:00Z")]);
    assert!(still_allowed(&shortened, &grant, &identity, now()).is_err());
}

#[test]
fn an_open_session_stands_only_as_long_as_all_that_opened_it() {
    let before = with(&[bind("b", "editor", "")]);
    let identity = proven(&before);
    let grant = shell(&before, "editor+dev").unwrap();
    let judge = |documents: &[String]| still_allowed(&load(documents), &grant, &identity, now());
    let changed = |from: &str, to: &str| {
        let mut documents = base();
        documents.push(bind("b", "editor", ""));
        for document in &mut documents {
            *document = document.replace(from, to);
        }
        documents
    };
    assert_eq!(
        still_allowed(&before, &grant, &identity, now()),
        Ok(grant.ends())
    );
    // By another binding, or with more of everything: still fine.
    assert!(judge(&changed("metadata: {name: b}", "metadata: {name: c}")).is_ok());
    assert!(judge(&changed("maxSession: 1h", "maxSession: 10m")).is_ok());
    assert!(matches!(
        judge(&changed(&format!("keys: ['{ED25519}']"), "keys: []")),
        Err(Denial::KeyWithdrawn { .. })
    ));
    let expired = format!("expiry-time=\"20260101Z\" {ED25519}");
    assert!(matches!(
        judge(&changed(ED25519, &expired)),
        Err(Denial::KeyWithdrawn { .. })
    ));
    assert!(matches!(
        judge(&changed(ED25519, &format!("restrict {ED25519}"))),
        Err(Denial::KeyWithdrawn { .. })
    ));
    assert!(matches!(
        judge(&changed("ns-editor", "ns-other")),
        Err(Denial::RoleChanged { .. })
    ));
    assert!(matches!(
        judge(&changed("clusters: [dev, prod]", "clusters: [prod]")),
        Err(Denial::RoleChanged { .. })
    ));
    assert!(matches!(
        judge(&changed(
            "sessions: [shell, exec, tunnel, credential]",
            "sessions: [exec]"
        )),
        Err(Denial::KindNotAllowed { .. })
    ));
    let mut renamed = changed("name: operator-a", "name: operator-c");
    assert!(matches!(judge(&renamed), Err(Denial::KeyWithdrawn { .. })));
    renamed = base();
    assert!(
        matches!(judge(&renamed), Err(Denial::NoLongerBound { .. })),
        "no binding"
    );
    renamed.push(bind("b", "editor", "clusters: [prod]"));
    assert!(
        matches!(judge(&renamed), Err(Denial::NoLongerBound { .. })),
        "narrowed"
    );
    renamed.pop();
    renamed.push(bind("b", "editor", "until: 2027-01-01T00:10:00Z"));
    assert_eq!(judge(&renamed).unwrap().to_string(), "2027-01-01T00:10:00Z");
    let mut left_the_group = changed("groups: [sre], ", "groups: [other], ");
    left_the_group.push(doc("Identity", "operator-c", "{groups: [sre], keys: []}"));
    assert!(matches!(
        judge(&left_the_group),
        Err(Denial::NoLongerBound { .. })
    ));
    let role_gone: Vec<String> = base()
        .into_iter()
        .filter(|d| !d.contains("{name: editor}"))
        .collect();
    assert!(matches!(
        judge(&role_gone),
        Err(Denial::NoLongerBound { .. })
    ));
}

#[test]
fn an_old_connection_opens_nothing_by_what_was_taken_away_since() {
    let before = with(&[bind("b", "viewer", "")]);
    let identity = proven(&before);
    let request = Request {
        principal: "viewer".to_owned(),
        kind: SessionKind::Shell,
    };
    let mut documents = base();
    documents[4] = doc("Identity", "operator-a", "{groups: [sre], keys: []}");
    documents.push(bind("b", "viewer, auditor", ""));
    let after = load(&documents);
    assert!(matches!(
        decide(&after, &identity, &request, here(&[])),
        Err(Denial::KeyWithdrawn { .. })
    ));
    assert!(available(&after, &identity, address(), now()).is_empty());
    assert!(audit_scope(&after, &identity, address(), now()).is_none());
    documents[4] = doc(
        "Identity",
        "operator-a",
        &format!("{{groups: [other], keys: ['{ED25519}']}}"),
    );
    documents.push(doc("Identity", "operator-c", "{groups: [sre], keys: []}"));
    assert!(
        decide(&load(&documents), &identity, &request, here(&[])).is_err(),
        "the group at login does not count"
    );
}

#[test]
fn explaining_is_deciding() {
    let config = with(&[bind("b", "viewer", "")]);
    let request = Request {
        principal: "viewer".to_owned(),
        kind: SessionKind::Shell,
    };
    let somebody = Somebody::listed(&config.identities[&name("operator-a")]);
    let explained = explain(&config, &somebody, &request, here(&[]).into()).unwrap();
    let granted = shell(&config, "viewer").unwrap();
    assert_eq!(&explained.binding, granted.binding());
    assert_eq!(&explained.subject, granted.subject());
}

#[test]
fn a_credential_is_held_only_as_long_as_all_that_it_was_handed_out_for() {
    let before = with(&[bind("b", "editor", "")]);
    let grant = ask(&before, "editor+dev", SessionKind::Credential).unwrap();
    let held = Held {
        identity: grant.identity(),
        fingerprint: grant.fingerprint(),
        certificate: None,
        enrolment: None,
        role: grant.role(),
        cluster: grant.cluster(),
        subject: grant.subject(),
    };
    let holds = |from: &str, to: &str| {
        let documents = [base(), vec![bind("b", "editor", "")]].concat().concat();
        let changed = documents.replace(from, to);
        assert!(from == to || changed != documents, "{from}");
        let config = parse(Path::new("f.yaml"), &changed).unwrap_or_else(|p| panic!("{p}"));
        may_hold(&config, held, now())
    };
    assert!(holds("", ""));
    assert!(holds("metadata: {name: b}", "metadata: {name: c}"));
    assert!(holds(
        &format!("keys: ['{ED25519}']"),
        &format!("keys: ['{ED25519} of a laptop']")
    ));
    for (from, to) in [
        (format!("keys: ['{ED25519}']"), "keys: []".to_owned()),
        (
            ED25519.to_owned(),
            format!("expiry-time=\"20270101Z\" {ED25519}"),
        ),
        ("ns-editor".to_owned(), "ns-other".to_owned()),
        (
            "clusters: [dev, prod]".to_owned(),
            "clusters: [prod]".to_owned(),
        ),
        ("tunnel, credential]".to_owned(), "tunnel]".to_owned()),
        ("name: operator-a".to_owned(), "name: operator-c".to_owned()),
        ("roles: [editor]".to_owned(), "roles: [viewer]".to_owned()),
        (
            "roles: [editor], ".to_owned(),
            "roles: [editor], until: 2027-01-01T00:00:00Z".to_owned(),
        ),
        (
            "roles: [editor], ".to_owned(),
            "roles: [editor], clusters: [prod]".to_owned(),
        ),
    ] {
        assert!(!holds(&from, &to), "{from} -> {to}");
    }
}
