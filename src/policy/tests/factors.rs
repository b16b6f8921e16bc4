//! What roles require besides who somebody is.

use jiff::SignedDuration;

use super::*;
use crate::config::Factor;
use crate::totp::{Enrolled, Passed};

fn requiring(require: &str) -> Config {
    load(&[requiring_documents(require)])
}

fn requiring_documents(require: &str) -> String {
    let mut documents = base().concat();
    for kind in ["maxSession: 1h, ", "audit: {clusters: ['*']"] {
        let changed = documents.replace(kind, &format!("require: [{require}], {kind}"));
        assert_ne!(changed, documents);
        documents = changed;
    }
    let bindings = [bind("b", "editor", ""), bind("c", "auditor, viewer", "")];
    documents + &bindings.concat()
}

fn since() -> Timestamp {
    now() - SignedDuration::from_hours(100)
}

/// Enrolled, with a code that counts until then.
fn enrolled(mut config: Config) -> Config {
    config.enrolled = Enrolled::of([(name("operator-a"), since())]);
    config
}

fn with_code(config: &Config) -> Identity {
    let until = now() + SignedDuration::from_hours(1);
    proven(config).with_code(Some(Passed::of(since(), until)))
}

pub(super) fn ask_as(
    config: &Config,
    identity: &Identity,
    login: &str,
    kind: SessionKind,
) -> Result<Grant, Denial> {
    let request = Request {
        principal: login.to_owned(),
        kind,
    };
    decide(config, identity, &request, here(&[]))
}

const KINDS: [SessionKind; 4] = [
    SessionKind::Shell,
    SessionKind::Exec,
    SessionKind::Tunnel,
    SessionKind::Credential,
];

#[test]
fn no_kind_of_session_of_a_role_that_requires_a_code_is_to_be_had_without_one() {
    for require in ["totp", "key, totp"] {
        let config = enrolled(requiring(require));
        let (plain, coded) = (proven(&config), with_code(&config));
        for kind in KINDS {
            let denial = ask_as(&config, &plain, "editor+dev", kind).unwrap_err();
            let said = denial.to_string();
            assert!(
                said.contains("The role editor requires a one-time code")
                    && said.contains("ssh editor+dev@bastion.example.com"),
                "{said}"
            );
            let grant = ask_as(&config, &coded, "editor+dev", kind).unwrap();
            assert_eq!(grant.enrolment(), Some(since()));
        }
        // Of the rest nothing is asked.
        let _granted = ask_as(&config, &plain, "viewer", SessionKind::Shell).unwrap();
    }
}

#[test]
fn a_code_proves_nothing_of_another_enrolment_or_after_its_time() {
    let config = enrolled(requiring("totp"));
    let coded = with_code(&config);
    let ask_then = |config: &Config, then: Timestamp| {
        let request = Request {
            principal: "editor+dev".to_owned(),
            kind: SessionKind::Shell,
        };
        decide(config, &coded, &request, at_moment(then, &[]))
    };
    let grant = ask_then(&config, now()).unwrap();
    let over = now() + SignedDuration::from_hours(1);
    assert!(ask_then(&config, over - SignedDuration::from_secs(1)).is_ok());
    assert!(matches!(
        ask_then(&config, over),
        Err(Denial::Unproven {
            missing: Factor::Totp,
            enrolled: true,
            ..
        })
    ));
    // What is open goes on by it.
    let late = grant.ends() - SignedDuration::from_secs(1);
    assert!(still_allowed(&config, &grant, &coded, late).is_ok());

    let held = Held {
        identity: grant.identity(),
        fingerprint: grant.fingerprint(),
        certificate: None,
        enrolment: grant.enrolment(),
        role: grant.role(),
        cluster: grant.cluster(),
        subject: grant.subject(),
    };
    assert!(may_hold(&config, held, now()));
    let mut removed = config.clone();
    removed.enrolled = Enrolled::default();
    let mut anew = config.clone();
    anew.enrolled = Enrolled::of([(name("operator-a"), now())]);
    let mut of_another = config;
    of_another.enrolled = Enrolled::of([(name("operator-b"), since())]);
    for config in [removed, anew, of_another] {
        assert!(ask_then(&config, now()).is_err());
        let denial = still_allowed(&config, &grant, &coded, now()).unwrap_err();
        assert!(matches!(denial, Denial::Unproven { .. }), "{denial}");
        assert!(!may_hold(&config, held, now()));
    }
}

#[test]
fn a_requirement_that_is_added_ends_what_did_not_prove_it() {
    let before = with(&[bind("b", "editor", "")]);
    let identity = proven(&before);
    let grant = ask_as(&before, &identity, "editor+dev", SessionKind::Credential).unwrap();
    let held = |grant: &Grant, enrolment| {
        let held = Held {
            identity: grant.identity(),
            fingerprint: grant.fingerprint(),
            certificate: None,
            enrolment,
            role: grant.role(),
            cluster: grant.cluster(),
            subject: grant.subject(),
        };
        let stands = |config: &Config| may_hold(config, held, now());
        [
            stands(&enrolled(requiring("totp"))),
            stands(&requiring("certificate")),
            stands(&requiring("key")),
        ]
    };
    assert_eq!(held(&grant, None), [false, false, true]);
    assert_eq!(held(&grant, Some(since())), [true, false, true]);
    for (require, open) in [("totp", false), ("certificate", false), ("key", true)] {
        let after = enrolled(requiring(require));
        let allowed = still_allowed(&after, &grant, &identity, now());
        assert_eq!(allowed.is_ok(), open, "{require}: {allowed:?}");
    }
    let after = enrolled(requiring("key, totp"));
    assert!(still_allowed(&after, &grant, &with_code(&after), now()).is_ok());
}

#[test]
fn a_key_is_no_certificate() {
    let config = requiring("certificate");
    let denial = ask_as(&config, &proven(&config), "editor+dev", SessionKind::Exec).unwrap_err();
    assert!(
        denial.to_string().contains("requires a certificate"),
        "{denial}"
    );
    let _granted = ask_as(
        &requiring("key"),
        &proven(&config),
        "editor+dev",
        SessionKind::Exec,
    )
    .unwrap();
}

#[test]
fn recordings_of_an_audit_role_that_requires_a_code_are_not_read_without_one() {
    let config = enrolled(requiring("totp"));
    let (plain, coded) = (proven(&config), with_code(&config));
    assert_eq!(audit_scope(&config, &plain, address(), now()), None);
    let denial = audit_denial(&config, &plain, address(), now()).unwrap();
    let said = denial.to_string();
    assert!(said.contains("ssh auditor@bastion.example.com"), "{said}");
    assert!(audit_scope(&config, &coded, address(), now()).is_some());
    assert_eq!(audit_denial(&config, &coded, address(), now()), None);
    let over = now() + SignedDuration::from_hours(1);
    assert_eq!(audit_scope(&config, &coded, address(), over), None);
}

#[test]
fn a_code_is_asked_for_where_it_would_be_of_use_and_nowhere_else() {
    let config = enrolled(requiring("totp"));
    let asks = |config: &Config, login: &str| {
        asks_for_code(config, &proven(config), login, address(), now())
    };
    for login in ["editor", "editor+dev", "editor+nowhere", "auditor"] {
        assert!(asks(&config, login), "{login}");
    }
    // Another role, none of theirs, none at all; of several roles the own name means none.
    for login in [
        "viewer",
        "prod-auditor",
        "nothing",
        "",
        "operator-a",
        "operator-b",
        "\u{1b}+x",
    ] {
        assert!(!asks(&config, login), "{login}");
    }
    assert!(
        !asks(&requiring("totp"), "editor"),
        "who has no code is not asked"
    );
    assert!(!asks(&enrolled(requiring("key")), "editor"));
    let both = enrolled(requiring("certificate, totp"));
    assert!(!asks(&both, "editor"), "a code alone would be of no use");
    let mut only = enrolled(requiring("totp"));
    only.identities
        .get_mut(&name("operator-a"))
        .unwrap()
        .default_role = Some(name("editor"));
    assert!(asks(&only, "operator-a"));
    let elsewhere = "198.51.100.1".parse().unwrap();
    assert!(asks_for_code(
        &config,
        &proven(&config),
        "editor",
        elsewhere,
        now()
    ));
}

#[test]
fn what_is_required_is_told_beforehand() {
    let config = enrolled(requiring("key, totp"));
    let found = available(&config, &proven(&config), address(), now());
    let requires = |role: &str| {
        let one = found.iter().find(|one| one.role.as_str() == role).unwrap();
        one.requires.clone()
    };
    assert_eq!(requires("editor"), [Factor::Key, Factor::Totp]);
    assert_eq!(requires("auditor"), [Factor::Key, Factor::Totp]);
    assert_eq!(requires("viewer"), [] as [Factor; 0]);
    let request = Request {
        principal: "editor+dev".to_owned(),
        kind: SessionKind::Shell,
    };
    let somebody = Somebody::listed(&config.identities[&name("operator-a")]);
    let explained = explain(&config, &somebody, &request, here(&[]).into()).unwrap();
    assert_eq!(explained.requires, [Factor::Key, Factor::Totp]);
}

#[test]
fn more_time_is_something_new_and_needs_a_code_that_counts() {
    let text = requiring_documents("totp")
        .replace("maxSession: 1h, ", "maxSession: 2h, maxExtension: 2h, ");
    let config =
        enrolled(parse(Path::new("f.yaml"), &text).unwrap_or_else(|problems| panic!("{problems}")));
    let coded = with_code(&config);
    let grant = ask_as(&config, &coded, "editor+dev", SessionKind::Shell).unwrap();
    let half = std::time::Duration::from_secs(1800);
    let more = |then: Timestamp| extend(&config, &grant, &coded, half, then);
    assert!(more(now()).is_ok());
    let over = now() + SignedDuration::from_hours(1);
    assert!(matches!(more(over), Err(Denial::Unproven { .. })));
    assert!(still_allowed(&config, &grant, &coded, over).is_ok());
}
