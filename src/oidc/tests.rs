mod attempts;
mod device;
mod hostile;
mod kept;
mod polling;
mod provider;

use std::path::Path;

use jiff::SignedDuration;

use super::*;
use crate::config::test_keys::{ED25519, OTHER};
use crate::config::{self};
use crate::identity::{Identity, Proof, Refusal, identify};
use crate::messages::{Offer, Peer};

fn now() -> Timestamp {
    "2027-01-01T00:00:10Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Jane has a key. The provider corp speaks as `spec` says.
fn configured(spec: &str) -> Config {
    let text = format!(
        "apiVersion: bastion-audit.dev/v1alpha1\nkind: Bastion\nmetadata: {{name: main}}\n\
         spec: {{listen: '127.0.0.1:2222', hostKeys: [host], stateDir: state, \
         login: {{listen: '127.0.0.1:0', certificate: c, key: k, publicUrl: 'https://b.example'}}}}\n\
         ---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {{name: jane}}\nspec: {{keys: ['{ED25519}'], groups: [ops]}}\n\
         ---\napiVersion: bastion-audit.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{name: corp}}\nspec: {{issuer: 'https://idp.example', clientId: b, {spec}}}\n"
    );
    config::parse(Path::new("f.yaml"), &text).unwrap_or_else(|problems| panic!("{problems}"))
}

const ANY: &str =
    "groupsClaim: groups, anyKey: true, identities: [{listed: true}, {listed: false}]";

fn peer() -> Peer {
    Peer {
        address: "192.0.2.7:1".parse().unwrap(),
        client: String::new(),
    }
}

fn by(config: &Config, key: &str) -> Result<Identity, Refusal> {
    let offer = Offer {
        principal: String::new(),
        public_key: key.to_owned(),
        certificate: None,
        algorithm: "ssh-ed25519".to_owned(),
    };
    identify(config, &offer, &peer(), now())
}

fn fingerprint(key: &str) -> String {
    let key = russh::keys::PublicKey::from_openssh(key).unwrap();
    crate::identity::fingerprint(&key)
}

fn sign_on(config: &Config, key: &str, username: &str, identity: &str) -> SignOn {
    let corp = &config.providers[&name("corp")];
    SignOn {
        fingerprint: fingerprint(key),
        identity: name(identity),
        provider: name("corp"),
        terms: corp.terms(),
        subject: "1".to_owned(),
        username: username.to_owned(),
        groups: BTreeSet::from([Group::from_provider(&name("corp"), "sre").unwrap()]),
        since: now(),
        until: later(60),
    }
}

fn asked(identity: Option<&str>) -> Asked {
    Asked {
        peer: peer(),
        fingerprint: fingerprint(OTHER),
        principal: "viewer".to_owned(),
        identity: identity.map(name),
        began: now(),
    }
}

fn said(config: &Config, username: &str) -> Said {
    Said {
        provider: name("corp"),
        terms: config.providers[&name("corp")].terms(),
        subject: "1".to_owned(),
        username: username.to_owned(),
        groups: BTreeSet::new(),
        browser: "192.0.2.7".parse().ok(),
    }
}

fn with(mut config: Config, sign_ons: impl IntoIterator<Item = SignOn>) -> Config {
    config.sign_ons = SignOns::these(sign_ons);
    config
}

#[test]
fn a_key_that_is_nobodys_proves_whom_a_provider_has_named() {
    let config = configured(ANY);
    assert_eq!(by(&config, OTHER), Err(Refusal::UnknownKey));
    for (username, identity, groups) in [
        ("jane", "jane", vec!["oidc/corp:sre", "ops"]),
        ("john.doe", "corp--john--doe", vec!["oidc/corp:sre"]),
    ] {
        let one = sign_on(&config, OTHER, username, identity);
        let identity = by(&with(config.clone(), [one.clone()]), OTHER).unwrap();
        assert_eq!(identity.name(), &one.identity);
        let has: Vec<&str> = identity.groups().iter().map(Group::as_str).collect();
        assert_eq!(has, groups);
        assert!(matches!(identity.proof(), Proof::SignedOn { .. }));
        assert_eq!(identity.factors(), [crate::config::Factor::Oidc]);
    }
}

#[test]
fn what_was_said_under_other_terms_or_of_somebody_else_or_is_over_counts_no_more() {
    let config = configured(ANY);
    let good = sign_on(&config, OTHER, "jane", "jane");
    let nobody = |config: &Config, one: &SignOn| {
        by(&with(config.clone(), [one.clone()]), OTHER) == Err(Refusal::UnknownKey)
    };
    assert!(!nobody(&config, &good));
    for changed in [
        "anyKey: true",
        "groupsClaim: roles, anyKey: true",
        "groupsClaim: groups, anyKey: true, usernameClaim: email",
        "groupsClaim: groups, anyKey: true, identities: [{listed: true, usernameSuffix: '@example.com'}]",
        // Nobody's keys are no longer taken.
        "groupsClaim: groups",
    ] {
        assert!(nobody(&configured(changed), &good), "{changed}");
    }
    let mut gone = config.clone();
    gone.providers.clear();
    assert!(nobody(&gone, &good));
    for wrong in [
        SignOn {
            until: now(),
            ..good.clone()
        },
        SignOn {
            identity: name("john"),
            ..good.clone()
        },
        SignOn {
            provider: name("other"),
            ..good.clone()
        },
        SignOn {
            username: "jane2".to_owned(),
            ..good.clone()
        },
    ] {
        assert!(nobody(&config, &wrong), "{wrong:?}");
    }
}

#[test]
fn a_key_of_somebodys_stays_theirs_whatever_a_provider_says() {
    let config = configured(ANY);
    let of_another = sign_on(&config, ED25519, "john", "corp--john");
    let jane = by(&with(config.clone(), [of_another]), ED25519).unwrap();
    assert_eq!((jane.name().as_str(), jane.signed_on()), ("jane", None));
    assert!(jane.groups().iter().all(|group| !group.is_of_a_provider()));
    let own = sign_on(&config, ED25519, "jane", "jane");
    let jane = by(&with(config, [own]), ED25519).unwrap();
    assert!(matches!(jane.proof(), Proof::Key { .. }));
    assert!(jane.signed_on().is_some());
    assert!(jane.groups().iter().any(Group::is_of_a_provider));
}

#[test]
fn a_word_means_who_asked_or_nobody() {
    let any = configured(ANY);
    let who = |config: &Config, asked: &Asked, username: &str| {
        meant(config, asked, &said(config, username)).map(String::from)
    };
    assert_eq!(who(&any, &asked(None), "jane"), Ok("jane".to_owned()));
    assert_eq!(
        who(&any, &asked(Some("jane")), "jane"),
        Ok("jane".to_owned())
    );
    assert!(matches!(
        who(&any, &asked(Some("jane")), "john"),
        Err(NotMeant::Another { .. })
    ));
    assert!(matches!(
        who(&any, &asked(None), "../x"),
        Err(NotMeant::Nobody { .. })
    ));
    let own = configured("groupsClaim: groups");
    assert!(matches!(
        who(&own, &asked(None), "jane"),
        Err(NotMeant::Nobody { .. })
    ));
    assert_eq!(
        who(&own, &asked(Some("jane")), "jane"),
        Ok("jane".to_owned())
    );
    let before = said(&own, "jane");
    let changed = configured("groupsClaim: roles");
    assert!(matches!(
        meant(&changed, &asked(Some("jane")), &before),
        Err(NotMeant::Changed(_))
    ));
    // What it says is shown, so it is escaped.
    let odd = who(&any, &asked(None), "<b>\u{1b}[31m")
        .unwrap_err()
        .to_string();
    assert!(!odd.contains('\u{1b}'), "{odd}");
}

#[test]
fn what_is_not_ours_in_a_page_is_escaped() {
    let mut asked = asked(None);
    asked.principal = "<script>alert('x')</script>\"&".to_owned();
    let from = "198.51.100.1".parse().unwrap();
    for page in [
        pages::begin("b.example:22", "\"><script>", &asked, from, &[name("corp")]),
        pages::code(
            &asked,
            from,
            &name("jane"),
            &crate::totp::Hidden::new("BCDF-GHJK"),
        ),
        pages::sorry("<script>"),
    ] {
        assert!(!page.contains("<script"), "{page}");
    }
    let page = pages::begin("b.example:22", "L", &asked, from, &[name("corp")]);
    for told in [
        "192.0.2.7",
        &asked.fingerprint,
        "198.51.100.1",
        "another address",
        "/login/L/corp",
        "Did somebody send you this link?",
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
}
