use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::config::{Config, parse};
use crate::messages::{Offer, Peer};

/// What `ssh-keygen -l` says of [`KEY`].
const FINGERPRINT: &str = "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ";
const KEY: &str = crate::config::test_keys::ED25519;
const ECDSA: &str = crate::config::test_keys::ECDSA;
const STRANGER: &str = crate::config::test_keys::OTHER;

fn config(line: &str) -> Config {
    let text = format!(
        "apiVersion: bastion-audit.dev/v1alpha1\nkind: Bastion\nmetadata: {{name: main}}\n\
         spec: {{listen: '127.0.0.1:1', hostKeys: [h], stateDir: s}}\n---\n\
         apiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {{name: operator-a}}\n\
         spec:\n  groups: [sre]\n  keys:\n  - '{line}'\n"
    );
    parse(Path::new("f.yaml"), &text).unwrap()
}

fn offer(key: &str) -> Offer {
    Offer {
        principal: "somebody-else".to_owned(),
        public_key: key.to_owned(),
        certificate: None,
        algorithm: key.split(' ').next().unwrap().to_owned(),
    }
}

fn from(address: &str) -> Peer {
    Peer {
        address: address.parse().unwrap(),
        client: String::new(),
    }
}

fn at(moment: &str) -> Timestamp {
    moment.parse().unwrap()
}

const NOW: &str = "2027-01-01T00:00:00Z";
const HOME: &str = "192.0.2.7:4000";

#[test]
fn a_key_proves_its_identity_whatever_the_login_name() {
    for key in [KEY, ECDSA] {
        let config = config(key);
        let identity = identify(&config, &offer(key), &from(HOME), at(NOW)).unwrap();
        assert_eq!(identity.name().as_str(), "operator-a");
        assert_eq!(identity.groups().len(), 1);
        assert!(is_known(&config, &offer(key)));
    }
    let identity = identify(&config(KEY), &offer(KEY), &from(HOME), at(NOW)).unwrap();
    let Proof::Key {
        fingerprint,
        algorithm,
        no_pty,
        ..
    } = identity.proof()
    else {
        panic!("{identity:?}");
    };
    assert_eq!(fingerprint, FINGERPRINT);
    assert_eq!((algorithm.as_str(), *no_pty), ("ssh-ed25519", false));
}

#[test]
fn every_other_offer_is_refused_with_its_reason() {
    let config = config(KEY);
    let refusal = |offer: &Offer| {
        assert_eq!(
            is_known(&config, offer),
            identify(&config, offer, &from(HOME), at(NOW)).is_ok()
        );
        identify(&config, offer, &from(HOME), at(NOW)).unwrap_err()
    };
    assert_eq!(refusal(&offer(STRANGER)), Refusal::UnknownKey);
    for nonsense in [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        &"A".repeat(100_000),
        "\u{0}",
    ] {
        assert_eq!(refusal(&offer(nonsense)), Refusal::BadKey, "{nonsense}");
    }
    for algorithm in [
        "",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ssh-ed25519-cert-v01@openssh.com",
        "SSH-ED25519",
    ] {
        let offer = Offer {
            algorithm: algorithm.to_owned(),
            ..offer(KEY)
        };
        assert_eq!(refusal(&offer), Refusal::AlgorithmNotAllowed, "{algorithm}");
    }
    // A kind of key that no configuration can hold.
    assert_eq!(
        refusal(&offer(crate::config::test_keys::RSA)),
        Refusal::AlgorithmNotAllowed
    );
}

#[test]
fn a_key_expires_at_its_moment_and_not_before() {
    let config = config(&format!(r#"expiry-time="20270131120000Z" {KEY}"#));
    let ask = |moment| identify(&config, &offer(KEY), &from(HOME), at(moment)).map(|_| ());
    assert_eq!(ask("2027-01-31T11:59:59Z"), Ok(()));
    assert_eq!(ask("2027-01-31T12:00:00Z"), Err(Refusal::KeyExpired));
}

#[test]
fn a_key_is_good_only_from_where_its_line_says() {
    let config = config(&format!(
        r#"from="10.0.0.0/8,!10.1.0.0/16,2001:db8::/32" {KEY}"#
    ));
    let ask = |address| identify(&config, &offer(KEY), &from(address), at(NOW)).map(|_| ());
    assert_eq!(ask("10.2.0.1:1"), Ok(()));
    assert_eq!(ask("[2001:db8::7]:1"), Ok(()));
    assert_eq!(
        ask("[::ffff:10.2.0.1]:1"),
        Ok(()),
        "IPv4 over an IPv6 socket"
    );
    for wrong in [
        "10.1.0.1:1",
        "[::ffff:10.1.0.1]:1",
        "192.0.2.7:1",
        "[2001:db9::]:1",
        "[::]:1",
    ] {
        assert_eq!(ask(wrong), Err(Refusal::SourceNotAllowed), "{wrong}");
    }
}

#[test]
fn restrict_takes_the_terminal() {
    let identity = identify(
        &config(&format!("restrict {KEY}")),
        &offer(KEY),
        &from(HOME),
        at(NOW),
    )
    .unwrap();
    assert!(matches!(identity.proof(), Proof::Key { no_pty: true, .. }));
}

proptest! {
    #[test]
    fn a_network_contains_what_shares_its_first_bits(address: u32, other: u32, prefix in 0_u8..=32) {
        let network = crate::config::SourceNetwork {
            address: std::net::IpAddr::V4(address.into()),
            prefix,
            negated: false,
        };
        let same = (0..u32::from(prefix)).all(|bit| (address ^ other) & (1 << (31 - bit)) == 0);
        prop_assert_eq!(network.contains(std::net::IpAddr::V4(other.into())), same);
    }

    #[test]
    fn no_offer_makes_it_panic(public_key in "\\PC{0,60}", algorithm in "\\PC{0,20}") {
        let config = config(KEY);
        let offer = Offer { principal: String::new(), public_key, certificate: None, algorithm };
        prop_assert!(identify(&config, &offer, &from(HOME), at(NOW)).is_err());
    }
}
