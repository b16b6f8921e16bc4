mod forged;

use jiff::Timestamp;
use russh::keys::ssh_key::certificate::CertType;

use super::testing::{FROM, Says, config, documents, key, offer, public};
use super::*;
use crate::identity::{Refusal, identify, identify_again, is_known, is_worth_a_signature};
use crate::messages::Peer;

const HOME: &str = "192.0.2.7:4000";

fn from(address: &str) -> Peer {
    Peer {
        address: address.parse().unwrap(),
        client: String::new(),
    }
}

fn second(seconds: u64) -> Timestamp {
    moment(seconds).unwrap()
}

fn moment(seconds: u64) -> Option<Timestamp> {
    super::facts::moment(seconds)
}

fn ask(config: &Config, says: &Says) -> Result<Identity, Refusal> {
    let offer = offer(&says.signed(), "viewer");
    identify(config, &offer, &from(HOME), second(FROM))
}

fn refused(config: &Config, says: &Says) -> CertificateRefusal {
    match ask(config, says) {
        Err(Refusal::Certificate(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn groups(identity: &Identity) -> Vec<&str> {
    identity
        .groups()
        .iter()
        .map(|group| group.as_str())
        .collect()
}

#[test]
fn a_certificate_proves_the_identity_that_its_principal_names() {
    let config = config("");
    let identity = ask(&config, &Says::user(&["jane"])).unwrap();
    assert_eq!(identity.name().as_str(), "jane");
    assert_eq!(groups(&identity), ["sre"]);
    let certified = identity.proof().certificate().unwrap();
    assert!(certified.permits_pty() && certified.permits_forwarding());
    let facts = certified.facts();
    assert_eq!(facts.authority.as_ref().unwrap().as_str(), "corp");
    assert_eq!((&*facts.serial, &*facts.key_id), ("7", "jane"));
    assert_eq!(facts.principals, ["jane"]);
    assert_eq!(facts.valid_before, moment(FROM + 86_400));
    assert_eq!(facts.signed_by, fingerprint(1));
    assert_eq!(identity.proof().fingerprint(), fingerprint(9));
}

fn fingerprint(seed: u8) -> String {
    key(seed)
        .public_key()
        .fingerprint(HashAlg::Sha256)
        .to_string()
}

#[test]
fn an_authority_signs_only_as_it_may() {
    let config = config("algorithms: [ecdsa-sha2-nistp256]");
    assert_eq!(
        refused(&config, &Says::user(&["jane"])),
        CertificateRefusal::Algorithm {
            authority: Name::new("corp").unwrap(),
            algorithm: "ssh-ed25519".to_owned()
        }
    );
}

#[test]
fn a_hosts_certificate_and_one_for_everybody_prove_nobody() {
    let config = config("");
    let host = Says {
        kind: CertType::Host,
        ..Says::user(&["jane"])
    };
    assert_eq!(refused(&config, &host), CertificateRefusal::NotForUsers);
    assert_eq!(
        refused(&config, &Says::user(&[])),
        CertificateRefusal::NoPrincipals
    );
    let many: Vec<String> = (0..=256).map(|n| format!("p{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        refused(&config, &Says::user(&many)),
        CertificateRefusal::TooManyPrincipals
    );
}

#[test]
fn a_certificate_is_valid_from_its_first_second_to_before_its_last() {
    let config = config("");
    let offer = offer(&Says::user(&["jane"]).signed(), "viewer");
    let at = |seconds| {
        identify(&config, &offer, &from(HOME), second(seconds))
            .map(drop)
            .map_err(|refusal| refusal.to_string())
    };
    assert_eq!(
        at(FROM - 1),
        Err(CertificateRefusal::NotYetValid.to_string())
    );
    assert_eq!(at(FROM), Ok(()));
    assert_eq!(at(FROM + 86_399), Ok(()));
    assert_eq!(
        at(FROM + 86_400),
        Err(CertificateRefusal::Expired.to_string())
    );
    // Who was proven before stays who they are.
    let later = second(FROM + 86_400);
    let before = identify(&config, &offer, &from(HOME), second(FROM)).unwrap();
    assert!(identify_again(&config, &offer, &from(HOME), later, &before).is_ok());
    let always = Says {
        valid: (0, u64::MAX),
        ..Says::user(&["jane"])
    };
    let identity = ask(&config, &always).unwrap();
    assert_eq!(
        identity.proof().certificate_facts().unwrap().valid_before,
        None
    );
    let before_1970 = Timestamp::from_second(-1).unwrap();
    assert_eq!(
        valid_at(&always.signed(), before_1970),
        Err(CertificateRefusal::NotYetValid)
    );
}

#[test]
fn each_critical_option_is_enforced_or_refused() {
    let config = config("");
    let with = |name, value| Says::user(&["jane"]).critical(name, value);
    assert_eq!(
        refused(&config, &with("force-command", "kubectl get pods")),
        CertificateRefusal::ForceCommand
    );
    assert_eq!(
        refused(&config, &with("verify-required", "")),
        CertificateRefusal::VerifyRequired
    );
    assert_eq!(
        refused(&config, &with("bl\u{1b}ah", "")),
        CertificateRefusal::CriticalOption {
            name: "bl\\u{1b}ah".to_owned()
        }
    );
    for wrong in [
        "",
        "xxxxx",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "!10.0.0.0/8",
        "10.0.0.0/8,",
        "10.0.0.0/8 ",
        "host.example.com",
        "10.*",
        "::ffff:192.0.2.0/120",
    ] {
        assert_eq!(
            refused(&config, &with("source-address", wrong)),
            CertificateRefusal::BadSourceAddress,
            "{wrong}"
        );
    }
    let offer = offer(
        &with("source-address", "192.0.2.0/24,2001:db8::/32").signed(),
        "viewer",
    );
    let at = |address| {
        identify(&config, &offer, &from(address), second(FROM)).map(|identity| identity.name)
    };
    for right in ["192.0.2.7:1", "[2001:db8::7]:1", "[::ffff:192.0.2.9]:1"] {
        assert!(at(right).is_ok(), "{right}");
    }
    for wrong in ["192.0.3.7:1", "[2001:db9::7]:1", "[::]:1", "127.0.0.1:1"] {
        assert_eq!(
            at(wrong),
            Err(CertificateRefusal::SourceNotAllowed.into()),
            "{wrong}"
        );
    }
}

#[test]
fn extensions_that_are_not_known_are_passed_over() {
    let config = config("");
    let says = Says::user(&["jane"]).extension("surprise@example.com", "x");
    assert!(ask(&config, &says).is_ok());
    let none = Says {
        extensions: Vec::new(),
        ..says
    };
    let identity = ask(&config, &none).unwrap();
    let certified = identity.proof().certificate().unwrap();
    assert!(!certified.permits_pty() && !certified.permits_forwarding());
}

#[test]
fn principals_that_are_nobodys_prove_nobody() {
    let config = config("");
    for wrong in [
        "nobody",
        "Jane",
        "jane@example.com",
        "sre",
        "viewer",
        "corp",
        "",
    ] {
        assert!(
            matches!(
                refused(&config, &Says::user(&[wrong])),
                CertificateRefusal::NobodysPrincipals { .. }
            ),
            "{wrong}"
        );
    }
    let identity = ask(&config, &Says::user(&["root", "jane", "deploy"])).unwrap();
    assert_eq!(identity.name().as_str(), "jane");
}

#[test]
fn a_comma_in_a_principal_parts_nothing() {
    let config = config("identities: [{listed: true}, {principalSuffix: '@x'}]");
    for one in [
        "root,jane",
        "jane,root",
        "jane,",
        ",jane",
        "jane,john@x",
        "jane jane",
    ] {
        assert!(
            matches!(
                refused(&config, &Says::user(&[one])),
                CertificateRefusal::NobodysPrincipals { .. }
            ),
            "{one}"
        );
    }
}

#[test]
fn of_several_identities_the_login_name_says_which() {
    let config = config("");
    let signed = Says::user(&["jane", "john"]).signed();
    let login = |login: &str| {
        identify(&config, &offer(&signed, login), &from(HOME), second(FROM))
            .map(|identity| identity.name().to_string())
    };
    assert_eq!(login("john"), Ok("john".to_owned()));
    assert_eq!(login("jane"), Ok("jane".to_owned()));
    for neither in ["viewer", "root", "", "john+prod"] {
        assert!(
            matches!(
                login(neither),
                Err(Refusal::Certificate(
                    CertificateRefusal::SeveralIdentities { .. }
                ))
            ),
            "{neither}"
        );
    }
}

#[test]
fn who_was_proven_stays_the_same_when_the_certificate_comes_to_mean_others_too() {
    let offer = offer(&Says::user(&["jane", "jack"]).signed(), "viewer");
    let before = identify(&config(""), &offer, &from(HOME), second(FROM)).unwrap();
    let now = second(FROM);
    let with = |from: &str, to: &str| {
        let text = documents("").replace(from, to);
        crate::config::parse(std::path::Path::new("f.yaml"), &text).unwrap()
    };
    let both = with("name: john", "name: jack");
    assert!(identify(&both, &offer, &from(HOME), now).is_err());
    let again = identify_again(&both, &offer, &from(HOME), now, &before).unwrap();
    assert_eq!(again.name().as_str(), "jane");
    let gone = with("name: jane", "name: joan");
    assert!(identify_again(&gone, &offer, &from(HOME), now, &before).is_err());
}

#[test]
fn nobody_need_be_listed_where_a_rule_says_so() {
    let config = config("identities: [{principalSuffix: '@example.com'}]");
    let identity = ask(&config, &Says::user(&["jane.doe@example.com"])).unwrap();
    assert_eq!(identity.name().as_str(), "corp--jane--doe");
    assert!(groups(&identity).is_empty());
    // A listed one of the same name is somebody else.
    let identity = ask(&config, &Says::user(&["jane@example.com"])).unwrap();
    assert_eq!(identity.name().as_str(), "corp--jane");
    assert!(groups(&identity).is_empty());
    for wrong in [
        "jane",
        "@example.com",
        "jane@example.org",
        "Jane@example.com",
        "jane--doe@example.com",
        "a@b@example.com",
    ] {
        assert!(
            matches!(
                refused(&config, &Says::user(&[wrong])),
                CertificateRefusal::NobodysPrincipals { .. }
            ),
            "{wrong}"
        );
    }
}

#[test]
fn for_each_principal_the_first_rule_that_fits_counts() {
    let config = config(
        "identities: [{listed: true, principalSuffix: '@example.com'}, {principalSuffix: '@example.com'}]",
    );
    let name = |principal| ask(&config, &Says::user(&[principal])).unwrap().name;
    assert_eq!(name("jane@example.com").as_str(), "jane");
    assert_eq!(name("jack@example.com").as_str(), "corp--jack");
}

#[test]
fn groups_come_from_where_the_authority_says_and_carry_its_name() {
    let config = config("groups: [{extension: groups@example.com}, {keyIdAfter: 'groups='}]");
    let says = |extension: &str, key_id: &str| Says {
        key_id: key_id.to_owned(),
        ..Says::user(&["jane"]).extension("groups@example.com", extension)
    };
    let identity = ask(&config, &says("sre,dev", "jane groups=ops;host=a")).unwrap();
    assert_eq!(
        groups(&identity),
        ["ca/corp:dev", "ca/corp:ops", "ca/corp:sre", "sre"]
    );
    let identity = ask(&config, &says("", "groups=")).unwrap();
    assert_eq!(groups(&identity), ["sre"]);
    // Not at a word's beginning: somebody's name for their machine.
    let identity = ask(&config, &says("", "host=groups=admin")).unwrap();
    assert_eq!(groups(&identity), ["sre"]);
    for (extension, key_id) in [
        ("sre,ca/other:admin", ""),
        ("a b", ""),
        ("\u{1b}[2J", ""),
        ("", "groups=dev groups=admin"),
    ] {
        assert!(
            matches!(
                refused(&config, &says(extension, key_id)),
                CertificateRefusal::Groups { .. }
            ),
            "{extension} {key_id}"
        );
    }
    let many: Vec<String> = (0..200).map(|n| format!("g{n}")).collect();
    assert!(matches!(
        refused(&config, &says(&many.join(","), "")),
        CertificateRefusal::Groups { .. }
    ));
}

#[test]
fn without_a_rule_a_certificate_names_no_groups() {
    let config = config("");
    let says = Says::user(&["jane"]).extension("groups@example.com", "admin");
    assert_eq!(groups(&ask(&config, &says).unwrap()), ["sre"]);
}

#[test]
fn where_certificates_are_taken_every_key_is_worth_a_signature_and_none_is_known_for_it() {
    let config = config("");
    let offer = offer(&Says::user(&["jane"]).signed(), "viewer");
    let mut probe = offer.clone();
    probe.certificate = None;
    assert!(is_worth_a_signature(&config, &probe) && !is_known(&config, &probe));
    probe.public_key = crate::config::test_keys::RSA.to_owned();
    probe.algorithm = "rsa-sha2-512".to_owned();
    assert!(!is_worth_a_signature(&config, &probe));
    let without = documents("")
        .split("---\n")
        .filter(|document| !document.contains("CertificateAuthority"))
        .collect::<Vec<_>>()
        .join("---\n");
    let without = crate::config::parse(std::path::Path::new("f.yaml"), &without).unwrap();
    let probe = crate::messages::Offer {
        certificate: None,
        ..offer
    };
    assert!(!is_worth_a_signature(&without, &probe));
}

/// What OpenSSH itself tests with (`regress/unittests/authopt/testdata`): for "user", in 1999, by a key that signed no more.
#[test]
fn the_certificates_that_openssh_tests_with_each_get_the_right_answer() {
    macro_rules! theirs {
        ($name:literal) => {
            (
                $name,
                include_str!(concat!(
                    "../../../../tests/fixtures/openssh-certificates/",
                    $name,
                    ".cert"
                )),
            )
        };
    }
    let text = documents("").replace("name: jane", "name: user");
    let verdict = |(_, text_of): (&str, &str), address: &str| {
        let certificate = read(text_of).unwrap();
        let signed_by = russh::keys::PublicKey::new(certificate.signature_key().clone(), "");
        let trusting = text.replace(&public(1), &signed_by.to_openssh().unwrap());
        let config = crate::config::parse(std::path::Path::new("f.yaml"), &trusting).unwrap();
        let in_1999 = "1999-06-01T00:00:00Z".parse().unwrap();
        let offer = offer(&certificate, "user");
        identify(&config, &offer, &from(address), in_1999).map(|identity| {
            assert_eq!(identity.name().as_str(), "user");
            let certified = identity.proof().certificate().unwrap();
            (certified.permits_pty(), certified.permits_forwarding())
        })
    };
    for (fixture, expected) in [
        (theirs!("all_permit"), (true, true)),
        (theirs!("no_permit"), (false, false)),
        (theirs!("no_agentfwd"), (true, true)),
        (theirs!("no_portfwd"), (true, false)),
        (theirs!("no_pty"), (false, true)),
        (theirs!("no_user_rc"), (true, true)),
        (theirs!("no_x11fwd"), (true, true)),
        (theirs!("only_agentfwd"), (false, false)),
        (theirs!("only_portfwd"), (false, true)),
        (theirs!("only_pty"), (true, false)),
        (theirs!("only_user_rc"), (false, false)),
        (theirs!("only_x11fwd"), (false, false)),
    ] {
        assert_eq!(verdict(fixture, HOME), Ok(expected), "{}", fixture.0);
    }
    let sourced = theirs!("sourceaddr");
    assert!(verdict(sourced, "127.0.0.1:1").is_ok() && verdict(sourced, "[::1]:1").is_ok());
    for (fixture, refusal) in [
        (sourced, CertificateRefusal::SourceNotAllowed),
        (
            theirs!("bad_sourceaddr"),
            CertificateRefusal::BadSourceAddress,
        ),
        (theirs!("force_command"), CertificateRefusal::ForceCommand),
        (
            theirs!("unknown_critical"),
            CertificateRefusal::CriticalOption {
                name: "blah".to_owned(),
            },
        ),
        (theirs!("host"), CertificateRefusal::NotForUsers),
    ] {
        assert_eq!(verdict(fixture, HOME), Err(refusal.into()), "{}", fixture.0);
    }
}
