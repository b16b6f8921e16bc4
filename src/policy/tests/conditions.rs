//! When, from where, how many.

use super::*;

fn open(role: &str, cluster: &str) -> OpenSession {
    OpenSession {
        role: name(role),
        cluster: name(cluster),
    }
}

fn from(
    config: &Config,
    address: &str,
    principal: &str,
    kind: SessionKind,
) -> Result<Grant, Denial> {
    let request = Request {
        principal: principal.to_owned(),
        kind,
    };
    let circumstances = Circumstances {
        from: address.parse().unwrap(),
        ..here(&[])
    };
    decide(config, &proven(config), &request, circumstances)
}

fn with_open(config: &Config, principal: &str, open: &[OpenSession]) -> Result<Grant, Denial> {
    let request = Request {
        principal: principal.to_owned(),
        kind: SessionKind::Exec,
    };
    decide(config, &proven(config), &request, here(open))
}

#[test]
fn a_binding_gives_nothing_to_who_comes_from_elsewhere() {
    let config = with(&[
        bind(
            "b",
            "viewer",
            "from: [10.0.0.0/8, '!10.9.0.0/16', '2001:db8::/32']",
        ),
        bind("c", "runner, auditor", ""),
    ]);
    let shell = |address| from(&config, address, "viewer", SessionKind::Shell);
    for inside in [
        "10.0.0.1",
        "10.255.255.255",
        "::ffff:10.1.2.3",
        "2001:db8::7",
    ] {
        assert_eq!(outcome(shell(inside)), "viewer@prod by b", "{inside}");
    }
    for outside in [
        "10.9.0.1",
        "::ffff:10.9.1.1",
        "11.0.0.1",
        "2001:db9::7",
        "::1",
    ] {
        let denial = shell(outside).unwrap_err();
        assert!(matches!(&denial, Denial::NotFromHere { binding, .. } if *binding == name("b")));
        let said = denial.to_string();
        // Who holds a stolen key is not told from where it would be good.
        assert!(
            !said.contains("2001:db8") && !said.contains("10.0.0.0"),
            "{said}"
        );
        assert!(said.ends_with("Log in as one of: runner."), "{said}");
    }
    let address = |text: &str| text.parse().unwrap();
    let roles = |from| available(&config, &proven(&config), from, now()).len();
    assert_eq!(
        (roles(address("10.0.0.1")), roles(address("11.0.0.1"))),
        (3, 2)
    );
}

#[test]
fn recordings_are_read_from_where_the_binding_says() {
    let config = with(&[bind("b", "auditor", "from: [10.0.0.0/8]")]);
    let scope = |from: &str| audit_scope(&config, &proven(&config), from.parse().unwrap(), now());
    assert!(scope("10.0.0.1").is_some());
    assert_eq!(scope("192.0.2.7"), None);
}

#[test]
fn another_binding_gives_from_there_what_one_does_not() {
    let config = with(&[
        bind("a", "viewer", "from: [10.0.0.0/8]"),
        bind("b", "viewer", "until: 2027-01-01T01:00:00Z"),
    ]);
    let shell = |address| outcome(from(&config, address, "viewer", SessionKind::Shell));
    assert_eq!(shell("10.0.0.1"), "viewer@prod by a");
    assert_eq!(shell("192.0.2.7"), "viewer@prod by b");
}

#[test]
fn an_open_session_ends_when_its_address_is_taken_out() {
    let before = with(&[bind("b", "viewer", "from: [192.0.2.0/24]")]);
    let grant = shell(&before, "viewer").unwrap();
    let identity = proven(&before);
    let judge = |more: &str| {
        still_allowed(
            &with(&[bind("b", "viewer", more)]),
            &grant,
            &identity,
            now(),
        )
    };
    assert_eq!(judge("from: [192.0.2.7]"), Ok(grant.ends()));
    assert!(matches!(
        judge("from: [192.0.2.8/29]"),
        Err(Denial::NoLongerBound { .. })
    ));
}

#[test]
fn sessions_beyond_the_number_are_denied_until_one_ends() {
    let config = with(&[bind("b", "viewer, editor", "sessionsAtOnce: 2")]);
    let none: [OpenSession; 0] = [];
    // Of others' roles there may be as many as there are.
    let elsewhere = [
        open("runner", "test"),
        open("runner", "test"),
        open("viewer", "prod"),
    ];
    let two = [open("viewer", "prod"), open("editor", "dev")];
    assert!(with_open(&config, "viewer", &none).is_ok());
    assert!(with_open(&config, "viewer", &elsewhere).is_ok());
    let denial = with_open(&config, "viewer", &two).unwrap_err();
    assert!(
        matches!(denial, Denial::TooManySessions { most: 2, .. }),
        "{denial}"
    );
    assert_eq!(
        denial.to_string(),
        "You have as many sessions open as the binding b allows at once (2). End one, and viewer on prod is yours again."
    );
    // By another binding, which does not count, it is given all the same.
    let both = with(&[
        bind("b", "viewer, editor", "sessionsAtOnce: 2"),
        bind("c", "viewer", "until: 2027-01-01T01:00:00Z"),
    ]);
    assert_eq!(
        outcome(with_open(&both, "viewer", &two)),
        "viewer@prod by c"
    );
    assert_eq!(
        outcome(with_open(&both, "viewer", &none)),
        "viewer@prod by b"
    );
}

#[test]
fn of_sessions_that_are_opened_at_once_the_first_stay() {
    let config = with(&[bind("b", "viewer", "sessionsAtOnce: 1")]);
    let identity = proven(&config);
    let grant = shell(&config, "viewer").unwrap();
    let one = [open("viewer", "prod")];
    assert_eq!(
        within_number(&config, &grant, &identity, &[], now()),
        Ok(())
    );
    let second = within_number(&config, &grant, &identity, &one, now());
    assert!(matches!(second, Err(Denial::TooManySessions { .. })));
    // What is open stays open when the number is lowered, or when others are there.
    assert_eq!(
        still_allowed(&config, &grant, &identity, now()),
        Ok(grant.ends())
    );
}

#[test]
fn what_bounds_sessions_hands_out_no_credential() {
    for bound in ["sessionsAtOnce: 9", "from: [192.0.2.0/24]"] {
        let config = with(&[bind("b", "editor", bound)]);
        let denial = ask(&config, "editor+dev", SessionKind::Credential).unwrap_err();
        assert!(matches!(denial, Denial::NotHandedOut { .. }), "{denial}");
        assert!(ask(&config, "editor+dev", SessionKind::Tunnel).is_ok());
        let found = available(&config, &proven(&config), address(), now());
        assert!(!found[0].gives.kinds().contains(&SessionKind::Credential));
        let both = with(&[bind("a", "editor", ""), bind("b", "editor", bound)]);
        let grant = ask(&both, "editor+dev", SessionKind::Credential).unwrap();
        assert_eq!(grant.binding().as_str(), "a");
        let held = Held {
            identity: grant.identity(),
            fingerprint: grant.fingerprint(),
            certificate: None,
            enrolment: None,
            role: grant.role(),
            cluster: grant.cluster(),
            subject: grant.subject(),
        };
        assert!(may_hold(&both, held, now()));
        assert!(!may_hold(&config, held, now()));
        assert!(still_allowed(&both, &grant, &proven(&both), now()).is_ok());
        assert!(still_allowed(&config, &grant, &proven(&both), now()).is_err());
    }
}

#[test]
fn every_rule_says_what_becomes_of_it() {
    let config = with(&[
        bind("a", "editor", "clusters: [dev]"),
        bind("b", "editor", "from: [10.0.0.0/8]"),
        bind("c", "editor, viewer", "until: 2026-01-01T00:00:00Z"),
        bind("d", "editor", ""),
        bind("e", "auditor, viewer", ""),
    ]);
    let somebody = Somebody::listed(&config.identities[&name("operator-a")]);
    let said = |login: &str| -> Vec<String> {
        rules(&config, &somebody, login, here(&[]).into())
            .into_iter()
            .map(|rule| {
                let says = serde_json::to_string(&rule.says).unwrap();
                format!("{} {} {says}", rule.binding.name, rule.role)
            })
            .collect()
    };
    assert_eq!(
        said("editor+prod"),
        [
            r#"a editor {"onOthers":["dev"]}"#,
            r#"b editor "notFromThere""#,
            r#"c editor {"ended":"2026-01-01T00:00:00Z"}"#,
            r#"d editor {"gives":["dev","prod"]}"#,
        ]
    );
    assert_eq!(said("auditor"), [r#"e auditor "givesRecordings""#]);
    assert_eq!(
        said("operator-a").len(),
        7,
        "whatever the own name could mean"
    );
}
