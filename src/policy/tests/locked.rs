//! What locks take away.

use super::*;
use crate::identity::certificate::testing::{FROM, Says, documents, offer};
use crate::locks::{Kind, Lock, Locks, Target};

fn locked(mut config: Config, kind: Kind, value: &str) -> Config {
    config.locks = Locks::new(vec![Lock {
        on: Target::parse(kind, value).unwrap(),
        until: Some("2027-01-01T02:00:00Z".parse().unwrap()),
        reason: "INC-7".to_owned(),
        since: now(),
        by: "uid 0".to_owned(),
    }]);
    config
}

fn bound() -> Config {
    with(&[bind("b", "editor", ""), bind("c", "auditor, viewer", "")])
}

#[test]
fn a_lock_takes_what_is_open_what_is_handed_out_and_what_would_be_new() {
    let free = bound();
    let identity = proven(&free);
    let grant = ask(&free, "editor+dev", SessionKind::Credential).unwrap();
    let key = identity.proof().fingerprint().to_owned();
    let other = prove(&free, OTHER).proof().fingerprint().to_owned();
    let held = Held {
        identity: grant.identity(),
        fingerprint: grant.fingerprint(),
        certificate: None,
        enrolment: None,
        role: grant.role(),
        cluster: grant.cluster(),
        subject: grant.subject(),
    };
    for (kind, value, meant) in [
        (Kind::Identity, "operator-a", true),
        (Kind::Identity, "operator-b", false),
        (Kind::Key, key.as_str(), true),
        (Kind::Key, other.as_str(), false),
        (Kind::Role, "editor", true),
        (Kind::Role, "viewer", false),
        (Kind::Cluster, "dev", true),
        (Kind::Cluster, "prod", false),
        (Kind::Source, "192.0.2.0/24", true),
        (Kind::Source, "198.51.100.0/24", false),
    ] {
        let config = locked(free.clone(), kind, value);
        let new = ask(&config, "editor+dev", SessionKind::Credential);
        let open = still_allowed(&config, &grant, &identity, now());
        let is_denied = |denial: Option<&Denial>| matches!(denial, Some(Denial::Locked { .. }));
        assert_eq!(
            is_denied(new.as_ref().err()),
            meant,
            "{kind:?} {value}: {new:?}"
        );
        assert_eq!(
            is_denied(open.as_ref().err()),
            meant,
            "{kind:?} {value}: {open:?}"
        );
        // Where somebody was when they got it is not known any more.
        let is_taken_back = meant && kind != Kind::Source;
        assert_eq!(
            may_hold(&config, held, now()),
            !is_taken_back,
            "{kind:?} {value}"
        );
        let over = "2027-01-01T02:00:00Z".parse().unwrap();
        assert!(may_hold(&config, held, over));
        let request = Request {
            principal: "editor+dev".to_owned(),
            kind: SessionKind::Exec,
        };
        assert!(decide(&config, &identity, &request, at_moment(over, &[])).is_ok());
    }
}

#[test]
fn who_is_locked_out_is_told_that_and_not_why() {
    let free = bound();
    let said = |kind, value: &str| {
        let config = locked(free.clone(), kind, value);
        outcome(shell(&config, "editor+dev"))
    };
    let key = proven(&free).proof().fingerprint().to_owned();
    for (kind, value, what) in [
        (Kind::Identity, "operator-a", "your access"),
        (Kind::Key, key.as_str(), "your key"),
        (Kind::Source, "192.0.2.7", "the address that you come from"),
    ] {
        assert_eq!(
            said(kind, value),
            format!(
                "no: You are operator-a, and {what} is locked. Ask the administrators of this bastion."
            )
        );
    }
    let told = "is locked until 2027-01-01 02:00:00 UTC: INC-7.";
    assert_eq!(
        said(Kind::Role, "editor"),
        format!("no: The role editor {told}")
    );
    assert_eq!(
        said(Kind::Cluster, "dev"),
        format!("no: The cluster dev {told}")
    );
}

#[test]
fn a_locked_auditor_and_a_locked_audit_role_read_nothing() {
    let free = bound();
    let identity = proven(&free);
    assert!(audit_scope(&free, &identity, address(), now()).is_some());
    for (kind, value) in [(Kind::Identity, "operator-a"), (Kind::Role, "auditor")] {
        let config = locked(free.clone(), kind, value);
        assert_eq!(
            audit_scope(&config, &identity, address(), now()),
            None,
            "{value}"
        );
    }
}

#[test]
fn one_certificate_is_locked_and_an_authority_s_key_locks_all_by_it() {
    let corp = "groups: [{extension: g}], identities: [{principalSuffix: '@x'}]";
    let text = documents(corp)
        + &doc(
            "Binding",
            "ops",
            "{subjects: [{group: 'ca/corp:ops'}], roles: [viewer]}",
        );
    let free = parse(Path::new("f.yaml"), &text).unwrap_or_else(|problems| panic!("{problems}"));
    let from = Timestamp::from_second(i64::try_from(FROM).unwrap()).unwrap();
    let peer = Peer {
        address: "192.0.2.7:1".parse().unwrap(),
        client: String::new(),
    };
    let says = Says::user(&["joan@x"]).extension("g", "ops");
    let joan = identify(&free, &offer(&says.signed(), "viewer"), &peer, from).unwrap();
    let facts = joan.proof().certificate_facts().unwrap();
    let request = Request {
        principal: "viewer".to_owned(),
        kind: SessionKind::Exec,
    };
    assert!(decide(&free, &joan, &request, at_moment(from, &[])).is_ok());
    for (kind, value, meant) in [
        (Kind::Certificate, "corp/7", true),
        (Kind::Certificate, "corp/8", false),
        (Kind::Certificate, "other/7", false),
        (Kind::Key, joan.proof().fingerprint(), true),
        (Kind::Key, facts.signed_by.as_str(), true),
        (Kind::Identity, "corp--joan", true),
    ] {
        let config = locked(free.clone(), kind, value);
        let denied = decide(&config, &joan, &request, at_moment(from, &[])).is_err();
        assert_eq!(denied, meant, "{value}");
        assert_eq!(locked_out(&config, &joan, from).is_err(), meant, "{value}");
    }
}
