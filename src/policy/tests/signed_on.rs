//! What a provider has said: what it gives, and that everything that stands on it ends with it.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::*;
use crate::config::Factor;
use crate::identity::Group;
use crate::oidc::{SignOn, SignOns};

const PROVIDER: &str = "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: corp}\n\
     spec: {issuer: 'https://id.example', clientId: b, groupsClaim: groups}\n";

pub(super) fn documents(require: &str) -> String {
    let plain = base().concat();
    let changed = plain
        .replace("maxSession: 1h, ", &format!("{require}maxSession: 1h, "))
        .replacen(
            "stateDir: ",
            "login: {listen: '127.0.0.1:0', certificate: c, key: k, publicUrl: 'https://b.example'}, stateDir: ",
            1,
        );
    assert!(changed.contains("login: "), "{changed}");
    changed + PROVIDER
}

fn requiring() -> Config {
    load(&[documents("require: [oidc], ") + &bind("b", "editor", "")])
}

fn said(mut config: Config, fingerprint: &str) -> Config {
    let corp = &config.providers[&name("corp")];
    let sign_on = SignOn {
        fingerprint: fingerprint.to_owned(),
        identity: name("operator-a"),
        provider: name("corp"),
        terms: corp.terms(),
        subject: "1".to_owned(),
        username: "operator-a".to_owned(),
        groups: BTreeSet::from([Group::from_provider(&name("corp"), "sre").unwrap()]),
        since: now(),
        until: now() + SignedDuration::from_mins(30),
    };
    config.sign_ons = SignOns::these([sign_on]);
    config
}

pub(super) fn signed_on(config: Config) -> Config {
    let fingerprint = proven(&config).proof().fingerprint().to_owned();
    said(config, &fingerprint)
}

fn ask(config: &Config, at: Timestamp) -> Result<Grant, Denial> {
    let identity = proven(config);
    let request = Request {
        principal: "editor+dev".to_owned(),
        kind: SessionKind::Shell,
    };
    decide(config, &identity, &request, at_moment(at, &[]))
}

#[test]
fn a_role_that_requires_a_word_is_had_with_one_of_ones_own_in_its_time() {
    let config = requiring();
    let denial = ask(&config, now()).unwrap_err().to_string();
    assert!(
        denial.contains("requires that you sign in in a browser"),
        "{denial}"
    );
    let good = signed_on(config.clone());
    let grant = ask(&good, now()).unwrap();
    assert_eq!(proven(&good).factors(), [Factor::Key, Factor::Oidc]);
    assert!(still_allowed(&good, &grant, &proven(&good), now()).is_ok());
    // Of another key it is no word on this one.
    assert!(ask(&said(config.clone(), "SHA256:x"), now()).is_err());
    // When it is over, so is what it opened, and somebody looks then.
    let over = now() + SignedDuration::from_mins(30);
    assert_eq!(next_end(&good, now()), Some(over));
    assert!(ask(&good, over).is_err());
    let identity = proven(&good);
    let ended = still_allowed(&good, &grant, &identity, over);
    let word = Factor::Oidc;
    assert!(
        matches!(&ended, Err(Denial::Unproven { missing, .. }) if *missing == word),
        "{ended:?}"
    );
    assert!(
        still_allowed(&config, &grant, &identity, now()).is_err(),
        "removed"
    );
    let changed = documents("require: [oidc], ").replace("clientId: b", "clientId: c");
    let mut changed = load(&[changed + &bind("b", "editor", "")]);
    changed.sign_ons = good.sign_ons.clone();
    assert!(
        still_allowed(&changed, &grant, &identity, now()).is_err(),
        "another client"
    );
}

#[test]
fn somebody_is_sent_to_a_provider_where_its_word_would_help() {
    let asks = |config: &Config, login: &str| {
        asks_to_sign_on(config, &proven(config), login, address(), now())
    };
    let config = requiring();
    assert!(asks(&config, "editor") && asks(&config, "editor+dev"));
    assert!(!asks(&config, "viewer") && !asks(&config, "unheard-of"));
    assert!(!asks(&signed_on(config), "editor"), "once");
    // A group of the provider's has the role.
    let bound = "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Binding\nmetadata: {name: signed-on}\n\
         spec: {subjects: [{group: 'oidc/corp:sre'}], roles: [editor]}\n";
    let grouped = load(&[documents("") + bound]);
    assert!(asks(&grouped, "editor"));
    assert!(ask(&grouped, now()).is_err());
    let grouped = signed_on(grouped);
    assert!(!asks(&grouped, "editor"));
    let grant = ask(&grouped, now()).unwrap();
    let mut removed = grouped.clone();
    removed.sign_ons = SignOns::default();
    assert!(still_allowed(&removed, &grant, &proven(&grouped), now()).is_err());
}
