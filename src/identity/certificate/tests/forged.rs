//! Certificates that were made up, changed or nested.

use proptest::prelude::*;

use super::*;
use crate::config::test_keys::OTHER;

#[test]
fn only_a_key_of_the_configuration_can_vouch_for_anybody() {
    let config = config("");
    let stranger = Says {
        authority: 2,
        ..Says::user(&["jane"])
    };
    assert_eq!(
        refused(&config, &stranger),
        CertificateRefusal::UnknownAuthority {
            signed_by: fingerprint(2)
        }
    );
    // The authority's name on somebody else's signature.
    let text = Says::user(&["jane"]).signed().to_openssh().unwrap();
    let bytes = STANDARD.decode(text.split(' ').nth(1).unwrap()).unwrap();
    for position in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[position] ^= 1;
        let mut offer = offer(&Says::user(&["jane"]).signed(), "viewer");
        offer.certificate = Some(format!(
            "ssh-ed25519-cert-v01@openssh.com {}",
            STANDARD.encode(&forged)
        ));
        let answer = identify(&config, &offer, &from(HOME), second(FROM));
        assert!(answer.is_err(), "byte {position} changed: {answer:?}");
    }
    let mut principal = bytes.clone();
    let at = bytes.windows(4).rposition(|part| part == b"jane").unwrap();
    principal[at..at + 4].copy_from_slice(b"john");
    let mut offer = offer(&Says::user(&["jane"]).signed(), "viewer");
    offer.certificate = Some(format!(
        "ssh-ed25519-cert-v01@openssh.com {}",
        STANDARD.encode(&principal)
    ));
    assert_eq!(
        identify(&config, &offer, &from(HOME), second(FROM)),
        Err(CertificateRefusal::BadSignature.into())
    );
}

#[test]
fn a_certificate_speaks_for_its_own_key_only() {
    let config = config("");
    let signed = Says::user(&["jane"]).signed();
    let mut others = offer(&signed, "viewer");
    others.public_key = public(8);
    assert_eq!(
        identify(&config, &others, &from(HOME), second(FROM)),
        Err(CertificateRefusal::Unreadable.into())
    );
    let mut alone = offer(&signed, "viewer");
    alone.certificate = None;
    assert_eq!(
        identify(&config, &alone, &from(HOME), second(FROM)),
        Err(Refusal::UnknownKey)
    );
}

#[test]
fn a_certificate_in_place_of_the_key_that_signed_it_is_none_of_ours() {
    let config = config("");
    // The outer one's signing key is a certificate of the authority: by the key inside of it nothing is vouched for.
    let inner = Says {
        key: 2,
        ..Says::user(&["jane"])
    }
    .signed();
    let outer = Says {
        authority: 2,
        ..Says::user(&["jane"])
    }
    .signed();
    let bytes = outer.to_bytes().unwrap();
    let signer = prefixed(&key(2).public_key().to_bytes().unwrap());
    let at = bytes
        .windows(signer.len())
        .position(|part| part == signer)
        .unwrap();
    let nested = [
        &bytes[..at],
        &prefixed(&inner.to_bytes().unwrap()),
        &bytes[at + signer.len()..],
    ]
    .concat();
    let mut offer = offer(&outer, "viewer");
    offer.certificate = Some(format!(
        "ssh-ed25519-cert-v01@openssh.com {}",
        STANDARD.encode(nested)
    ));
    let answer = identify(&config, &offer, &from(HOME), second(FROM));
    assert!(
        matches!(
            answer,
            Err(Refusal::Certificate(
                CertificateRefusal::UnknownAuthority { .. }
            ))
        ),
        "{answer:?}"
    );
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

#[test]
fn what_is_nested_too_deeply_is_not_read_at_all() {
    let text = Says::user(&["jane"]).signed().to_openssh().unwrap();
    assert!(read(&text).is_ok());
    // 3,000 levels would take a stack with them.
    let mut deep = Vec::new();
    for _ in 0..3000 {
        deep.extend(prefixed(b"ssh-ed25519-cert-v01@openssh.com"));
    }
    deep.truncate(30_000);
    let deep = format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(deep));
    assert_eq!(read(&deep), Err(CertificateRefusal::Unreadable));
    for wrong in [
        "",
        "ssh-ed25519-cert-v01@openssh.com",
        "ssh-ed25519-cert-v01@openssh.com AAAA",
        OTHER,
        &text.replace("ssh-ed25519-cert", "ecdsa-sha2-nistp256-cert"),
        &"x".repeat(MAX_TEXT + 1),
    ] {
        assert_eq!(read(wrong), Err(CertificateRefusal::Unreadable), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever an authority signs proves an identity of that authority's rules, or nobody; and what is told of it is printable.
    #[test]
    fn whatever_is_signed_is_judged(
        principals in prop::collection::vec("[a-z.@-]{0,12}|\\PC{0,6}", 0..4),
        key_id in "[a-z=,; ]{0,20}|\\PC{0,8}|\u{1b}\\[2J",
        serial: u64,
        after in 0..2 * FROM,
        length in 0..2 * FROM,
        extension in "[a-z,]{0,12}|\\PC{0,6}",
    ) {
        let config = config("identities: [{listed: true}, {principalSuffix: '@x'}], groups: [{extension: g}, {keyIdAfter: 'a='}]");
        let says = Says {
            key_id,
            serial,
            principals,
            valid: (after, after + length),
            ..Says::user(&[]).extension("g", &extension)
        };
        let signed = says.signed();
        let told = CertificateFacts::of(&config, &signed);
        prop_assert!(told.to_string().chars().all(|c| !c.is_control()));
        if let Ok(identity) = ask(&config, &says) {
            prop_assert!(!says.principals.is_empty());
            prop_assert!(after <= FROM && FROM < after + length);
            let name = identity.name().as_str();
            let listed = ["jane", "john"].contains(&name) && says.principals.iter().any(|p| p == name);
            prop_assert!(listed || name.starts_with("corp--"), "{}", name);
            for group in identity.groups() {
                let own = group.as_str().starts_with("ca/corp:");
                prop_assert!(own || (name == "jane" && group.as_str() == "sre"), "{}", group);
            }
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(read(&text));
        drop(read(&format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(bytes))));
    }
}
