//! What certificates allow, now and later.

use std::time::Duration;

use super::*;
use crate::config::RoleAccess;
use crate::identity::certificate::testing::{FROM, Says, documents, offer};

const CORP: &str =
    "groups: [{extension: g}], identities: [{listed: true}, {principalSuffix: '@x'}]";

/// The authority's documents, in which its group ops may edit, with `from` changed to `to`.
fn changed(from: &str, to: &str) -> Config {
    let text = documents(CORP)
        + &doc(
            "Role",
            "editor",
            "{kubernetes: {clusters: [prod], serviceAccount: {namespace: e, name: 'e-{identity}'}}, \
             sessions: [shell, exec, tunnel, credential]}",
        )
        + &doc(
            "Binding",
            "ops",
            "{subjects: [{group: 'ca/corp:ops'}], roles: [editor]}",
        );
    let changed = text.replace(from, to);
    assert!(from == to || text != changed, "{from}");
    parse(Path::new("f.yaml"), &changed).unwrap_or_else(|problems| panic!("{problems}"))
}

fn config() -> Config {
    changed("", "")
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap()
}

fn prove_by(config: &Config, says: &Says) -> Identity {
    let peer = Peer {
        address: "192.0.2.7:1".parse().unwrap(),
        client: String::new(),
    };
    identify(config, &offer(&says.signed(), "editor"), &peer, at(FROM)).unwrap()
}

fn ops() -> Says {
    Says::user(&["joan@x"]).extension("g", "ops")
}

fn request(kind: SessionKind) -> Request {
    Request {
        principal: "editor".to_owned(),
        kind,
    }
}

#[test]
fn a_group_of_the_authority_gives_what_bindings_say_of_it_and_the_files_group_is_another() {
    let config = config();
    let joan = prove_by(&config, &ops());
    let grant = decide(
        &config,
        &joan,
        &request(SessionKind::Shell),
        at_moment(at(FROM), &[]),
    )
    .unwrap();
    assert_eq!(grant.identity().as_str(), "corp--joan");
    assert!(grant.subject().to_string().ends_with(":e-corp--joan"));
    assert_eq!(grant.binding().as_str(), "ops");
    assert!(grant.certificate().is_some());
    // "sre" of the file gives the viewer; the authority's does not.
    let says = Says::user(&["joan@x"]).extension("g", "sre");
    let viewer = Request {
        principal: "viewer".to_owned(),
        kind: SessionKind::Shell,
    };
    let sre = prove_by(&config, &says);
    assert!(decide(&config, &sre, &viewer, at_moment(at(FROM), &[])).is_err());
    // Whom the file lists keeps its groups, and has the authority's besides.
    let jane = prove_by(&config, &Says::user(&["jane"]).extension("g", "ops"));
    let roles: Vec<String> = available(&config, &jane, address(), at(FROM))
        .into_iter()
        .map(|one| one.role.to_string())
        .collect();
    assert_eq!(roles, ["editor", "viewer"]);
}

#[test]
fn the_end_of_a_certificate_ends_nothing_and_opens_nothing() {
    let config = config();
    let joan = prove_by(&config, &ops());
    let ask = |now| {
        decide(
            &config,
            &joan,
            &request(SessionKind::Shell),
            at_moment(at(now), &[]),
        )
    };
    let grant = ask(FROM + 86_399).unwrap();
    let ended = FROM + 86_400;
    assert_eq!(
        still_allowed(&config, &grant, &joan, at(ended)),
        Ok(grant.ends())
    );
    let denial = ask(ended).unwrap_err();
    assert!(matches!(denial, Denial::CertificateEnded { .. }));
    assert!(
        denial
            .to_string()
            .contains("Log in again with a new certificate"),
        "{denial}"
    );
    // More time for what is open would be something new.
    let mut longer = config.clone();
    for role in longer.roles.values_mut() {
        if let RoleAccess::Kubernetes(role) = &mut role.access {
            role.max_extension = Duration::from_secs(3600);
        }
    }
    let extend = |now| extend(&longer, &grant, &joan, Duration::from_secs(60), at(now));
    assert!(extend(ended - 1).is_ok());
    assert!(matches!(
        extend(ended),
        Err(Denial::CertificateEnded { .. })
    ));
    assert!(available(&config, &joan, address(), at(ended)).is_empty());
    assert_eq!(audit_scope(&config, &joan, address(), at(ended)), None);
}

#[test]
fn an_open_session_and_a_credential_stand_as_long_as_their_certificate_is_accepted() {
    let before = config();
    let joan = prove_by(&before, &ops());
    let grant = decide(
        &before,
        &joan,
        &request(SessionKind::Credential),
        at_moment(at(FROM), &[]),
    )
    .unwrap();
    let stands = |from: &str, to: &str| {
        let after = changed(from, to);
        let held = Held {
            identity: grant.identity(),
            fingerprint: grant.fingerprint(),
            certificate: grant.certificate(),
            enrolment: None,
            role: grant.role(),
            cluster: grant.cluster(),
            subject: grant.subject(),
        };
        let open = still_allowed(&after, &grant, &joan, at(FROM)).is_ok();
        assert_eq!(open, may_hold(&after, held, at(FROM)), "{from}");
        open
    };
    assert!(stands("", ""));
    assert!(stands("name: john", "name: jack"));
    let key = crate::identity::certificate::testing::public(1);
    for (from, to) in [
        (key.as_str(), ED25519),
        ("principalSuffix: '@x'", "principalSuffix: '@y'"),
        ("{listed: true}, {principalSuffix: '@x'}", "{listed: true}"),
        ("extension: g", "extension: other"),
        (CORP, &format!("{CORP}, algorithms: [ecdsa-sha2-nistp256]")),
        ("ca/corp:ops", "ca/corp:dev"),
    ] {
        assert!(!stands(from, to), "{from}");
    }
    let withdrawn = changed(&key, ED25519);
    let denial = still_allowed(&withdrawn, &grant, &joan, at(FROM)).unwrap_err();
    assert!(
        matches!(denial, Denial::CertificateWithdrawn { .. }),
        "{denial}"
    );
    // By its key alone nobody holds it.
    let held = Held {
        identity: grant.identity(),
        fingerprint: grant.fingerprint(),
        certificate: None,
        enrolment: None,
        role: grant.role(),
        cluster: grant.cluster(),
        subject: grant.subject(),
    };
    assert!(!may_hold(&before, held, at(FROM)));
}

#[test]
fn what_a_certificate_does_not_permit_is_denied_by_name() {
    let config = config();
    let says = |extensions: &[&str]| {
        let extensions = extensions
            .iter()
            .map(|name| (name.to_string(), String::new()));
        let says = Says {
            extensions: extensions.collect(),
            ..Says::user(&["jane"])
        };
        prove_by(&config, &says)
    };
    let all = says(&["permit-port-forwarding", "permit-pty"]);
    assert!(terminal_allowed(&all).is_ok() && tunnel_allowed(&all).is_ok());
    let none = says(&["permit-X11-forwarding"]);
    let (terminal, tunnel) = (
        terminal_allowed(&none).unwrap_err().to_string(),
        tunnel_allowed(&none).unwrap_err().to_string(),
    );
    assert!(
        terminal.contains("(permit-pty). Run a command"),
        "{terminal}"
    );
    assert!(
        tunnel.ends_with("a tunnel (permit-port-forwarding)."),
        "{tunnel}"
    );
    let only_pty = says(&["permit-pty"]);
    assert!(terminal_allowed(&only_pty).is_ok() && tunnel_allowed(&only_pty).is_err());
}

#[test]
fn a_certificate_is_no_key_of_ones_own() {
    let shell = |require: &str| {
        let config = changed(
            "{kubernetes: {clusters: [prod], serviceAccount: {namespace: e,",
            &format!(
                "{{require: [{require}], kubernetes: {{clusters: [prod], serviceAccount: {{namespace: e,"
            ),
        );
        let joan = prove_by(&config, &ops());
        decide(
            &config,
            &joan,
            &request(SessionKind::Shell),
            at_moment(at(FROM), &[]),
        )
    };
    let _granted = shell("certificate").unwrap();
    let denial = shell("key").unwrap_err();
    assert!(
        denial.to_string().contains("requires a key of your own"),
        "{denial}"
    );
}
