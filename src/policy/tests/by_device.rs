//! What a provider has said by the device flow: for one role that opts in, on one connection, and for nothing that lasts longer.

use std::time::Duration;

use jiff::SignedDuration;

use super::factors::ask_as;
use super::signed_on::{documents, signed_on};
use super::*;
use crate::config::Factor;
use crate::oidc::DeviceWord;

const OPTED_IN: &str = "require: [oidc], deviceFlow: corp, maxExtension: 2h, ";

fn config(more: &str) -> Config {
    load(&[documents(more) + &bind("b", "editor, viewer", "")])
}

/// Who has signed in for the role editor, by the provider's word of half an hour.
fn by_device(config: &Config) -> Identity {
    let mut corp = config.providers[&name("corp")].clone();
    corp.remember = Duration::from_secs(1800);
    let word = DeviceWord::new(name("editor"), &corp, "operator-a", now());
    proven(config).with_device(word)
}

#[test]
fn the_device_flow_is_for_logins_that_name_a_role_that_opts_in() {
    let offered = |config: &Config, login: &str| {
        let offered = device_flow(config, &proven(config), login, address(), now());
        offered.map(|(role, provider)| (role.to_string(), provider.name.to_string()))
    };
    let opted_in = config(OPTED_IN);
    let expected = Some(("editor".to_owned(), "corp".to_owned()));
    for login in ["editor+dev", "editor+prod"] {
        assert_eq!(offered(&opted_in, login), expected, "{login}");
    }
    // On two clusters the role alone is no name; the own name never is one; the rest is nobody's, nowhere, or has not opted in.
    for login in [
        "editor",
        "operator-a",
        "viewer",
        "editor+test",
        "nothing",
        "",
    ] {
        assert_eq!(offered(&opted_in, login), None, "{login}");
    }
    let one_cluster = load(&[documents(OPTED_IN) + &bind("b", "editor", "clusters: [dev]")]);
    assert_eq!(offered(&one_cluster, "editor"), expected);
    assert_eq!(
        offered(&one_cluster, "operator-a"),
        None,
        "it stands for it"
    );
    for (why, config) in [
        ("not opted in", config("require: [oidc], ")),
        (
            "another proof is missing",
            config(&OPTED_IN.replace("[oidc]", "[certificate, oidc]")),
        ),
        (
            "a code is asked for first",
            config(&OPTED_IN.replace("[oidc]", "[totp, oidc]")),
        ),
        ("signed in by a link", signed_on(opted_in.clone())),
        ("no binding", load(&[documents(OPTED_IN)])),
        (
            "a provider's group has it",
            load(&[documents(OPTED_IN)
                + &bind("b", "editor", "").replace("group: sre", "group: 'oidc/corp:sre'")]),
        ),
        (
            "not from here",
            load(&[documents(OPTED_IN) + &bind("b", "editor", "from: [198.51.100.0/24]")]),
        ),
    ] {
        assert_eq!(offered(&config, "editor+dev"), None, "{why}");
        let sent = why == "a provider's group has it";
        let asked = asks_to_sign_on(&config, &proven(&config), "editor+dev", address(), now());
        assert!(!sent || asked, "by a link it would help");
    }
    let once = by_device(&opted_in);
    assert_eq!(
        device_flow(&opted_in, &once, "editor+dev", address(), now()),
        None
    );
    assert!(!asks_to_sign_on(
        &opted_in,
        &once,
        "editor+dev",
        address(),
        now()
    ));
}

#[test]
fn a_role_that_has_not_opted_in_takes_no_word_by_the_device_flow() {
    let opted_in = config(OPTED_IN);
    let identity = by_device(&opted_in);
    // What it is worth is told by itself, and never as the factor that all roles go by.
    assert_eq!(identity.factors(), [Factor::Key]);
    let grant = ask_as(&opted_in, &identity, "editor+dev", SessionKind::Shell).unwrap();
    let told = serde_json::to_value(&grant).unwrap();
    assert_eq!(
        (&told["deviceFlow"], &told["factors"]),
        (&"corp".into(), &serde_json::json!(["key"]))
    );
    for (why, config) in [
        ("no role opts in", config("require: [oidc], ")),
        ("another one does", {
            let mut changed = opted_in.clone();
            for (role, opts_in) in [("editor", None), ("viewer", Some(name("corp")))] {
                changed.roles.get_mut(&name(role)).unwrap().device_flow = opts_in;
            }
            changed
        }),
        ("another client", {
            let text = documents(OPTED_IN).replace("clientId: b", "clientId: c");
            load(&[text + &bind("b", "editor", "")])
        }),
    ] {
        let denial = ask_as(&config, &identity, "editor+dev", SessionKind::Shell).unwrap_err();
        let missing = Factor::Oidc;
        assert!(
            matches!(&denial, Denial::Unproven { missing: it, .. } if *it == missing),
            "{why}"
        );
        // And so ends what is open.
        assert!(
            still_allowed(&config, &grant, &identity, now()).is_err(),
            "{why}"
        );
    }
    assert!(still_allowed(&opted_in, &grant, &identity, now()).is_ok());
    // Another role of theirs that requires it, too.
    let mut both = opted_in.clone();
    both.roles
        .get_mut(&name("viewer"))
        .unwrap()
        .require
        .insert(Factor::Oidc);
    for opts_in in [None, Some(name("corp"))] {
        both.roles.get_mut(&name("viewer")).unwrap().device_flow = opts_in;
        assert!(ask_as(&both, &identity, "viewer", SessionKind::Shell).is_err());
    }
}

#[test]
fn nothing_lasts_longer_than_a_word_by_the_device_flow_and_nothing_is_handed_out_by_it() {
    let config = config(OPTED_IN);
    let identity = by_device(&config);
    let over = now() + SignedDuration::from_mins(30);
    for kind in [SessionKind::Shell, SessionKind::Exec, SessionKind::Tunnel] {
        let grant = ask_as(&config, &identity, "editor+dev", kind).unwrap();
        assert_eq!(grant.ends(), over, "not the role's hour");
        let extended = extend(&config, &grant, &identity, Duration::from_secs(3600), now());
        assert!(
            matches!(extended, Err(Denial::LastsNoLonger { .. })),
            "{extended:?}"
        );
    }
    let denial = ask_as(&config, &identity, "editor+dev", SessionKind::Credential).unwrap_err();
    assert!(denial.to_string().contains("would outlive it"), "{denial}");
    let request = Request {
        principal: "editor+dev".to_owned(),
        kind: SessionKind::Shell,
    };
    assert!(decide(&config, &identity, &request, at_moment(over, &[])).is_err());
    // Who has signed in by the link, now or since, has all of it.
    let strong = signed_on(config.clone());
    let identity = proven(&strong);
    let grant = ask_as(&strong, &identity, "editor+dev", SessionKind::Credential).unwrap();
    assert!(
        serde_json::to_value(&grant)
            .unwrap()
            .get("deviceFlow")
            .is_none()
    );
    let since = by_device(&strong);
    let grant = ask_as(&strong, &since, "editor+dev", SessionKind::Shell).unwrap();
    assert_eq!(grant.ends(), now() + SignedDuration::from_hours(1));
}
