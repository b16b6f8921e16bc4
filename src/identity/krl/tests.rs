use std::path::Path;

use proptest::prelude::*;
use russh::keys::PublicKey;

use super::*;
use crate::identity::certificate::testing::{Says, config_at, key, offer};
use crate::identity::certificate::{CertificateRefusal, read};
use crate::identity::{Refusal, identify};
use crate::messages::Peer;

/// Writes a list as PROTOCOL.krl says.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn begun() -> Self {
        let mut writer = Self::default();
        writer.0.extend(b"SSHKRL\n\0");
        writer.0.extend(1_u32.to_be_bytes());
        for number in [42_u64, 1_700_000_000, 0] {
            writer.0.extend(number.to_be_bytes());
        }
        writer.string(b"").string(b"made by a test")
    }

    fn string(mut self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap();
        self.0.extend(length.to_be_bytes());
        self.0.extend(bytes);
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn part(mut self, kind: u8, contents: Writer) -> Self {
        self.0.push(kind);
        self.string(&contents.0)
    }
}

fn strings(all: &[&[u8]]) -> Writer {
    all.iter()
        .fold(Writer::default(), |writer, one| writer.string(one))
}

/// Certificates of the authority `signed_by`, or of any.
fn certificates(signed_by: Option<u8>, parts: Vec<(u8, Writer)>) -> Vec<u8> {
    let signed_by = signed_by.map_or_else(Vec::new, blob);
    let section = parts
        .into_iter()
        .fold(strings(&[&signed_by, b""]), |section, (kind, part)| {
            section.part(kind, part)
        });
    Writer::begun().part(1, section).0
}

fn blob(seed: u8) -> Vec<u8> {
    key(seed).public_key().to_bytes().unwrap()
}

fn by(list: &[u8], serial: u64, key_id: &str) -> Option<RevokedBy> {
    let says = Says {
        serial,
        key_id: key_id.to_owned(),
        ..Says::user(&["jane"])
    };
    Krl::parse(list).unwrap().has_certificate(&says.signed())
}

fn bitmap(first: u64, number: &[u8]) -> Vec<u8> {
    let part = Writer::default().number(first).string(number);
    certificates(Some(1), vec![(0x22, part)])
}

#[test]
fn serials_are_found_in_lists_ranges_and_bitmaps() {
    let list = certificates(
        Some(1),
        vec![
            (0x20, Writer::default().number(u64::MAX).number(5)),
            (0x21, Writer::default().number(100).number(200)),
            (0x21, Writer::default().number(150).number(300)),
            // Bits 0, 9 and 16.
            (
                0x22,
                Writer::default().number(1000).string(&[0b1, 0b10, 0b1]),
            ),
        ],
    );
    for revoked in [5, 100, 200, 201, 300, u64::MAX, 1000, 1009, 1016] {
        assert_eq!(by(&list, revoked, ""), Some(RevokedBy::Serial), "{revoked}");
    }
    for good in [
        0,
        1,
        4,
        6,
        99,
        301,
        999,
        1001,
        1008,
        1015,
        1017,
        u64::MAX - 1,
    ] {
        assert_eq!(by(&list, good, ""), None, "{good}");
    }
    let krl = Krl::parse(&list).unwrap();
    assert_eq!((krl.version(), krl.entries()), (42, 4));
}

#[test]
fn a_section_speaks_of_its_own_authoritys_certificates() {
    let serials = || vec![(0x20, Writer::default().number(7))];
    assert_eq!(by(&certificates(Some(2), serials()), 7, ""), None);
    for all in [Some(1), None] {
        let list = certificates(all, serials());
        assert_eq!(by(&list, 7, ""), Some(RevokedBy::Serial));
    }
    let key_ids = certificates(Some(1), vec![(0x23, strings(&[b"jane", b"john"]))]);
    assert_eq!(by(&key_ids, 0, "john"), Some(RevokedBy::KeyId));
    assert_eq!(by(&key_ids, 0, "joh"), None);
}

#[test]
fn keys_are_found_whole_and_by_fingerprint_the_authoritys_too() {
    let with = |kind, contents: &[u8]| Writer::begun().part(kind, strings(&[contents])).0;
    for (seed, by_what) in [(9, RevokedBy::Key), (1, RevokedBy::Authority)] {
        let whole = blob(seed);
        for list in [
            with(2, &whole),
            with(3, &sha1(&whole)),
            with(5, &sha256(&whole)),
        ] {
            assert_eq!(by(&list, 7, ""), Some(by_what));
            let krl = Krl::parse(&list).unwrap();
            assert!(krl.has_key(key(seed).public_key().key_data()));
            assert!(!krl.has_key(key(3).public_key().key_data()));
        }
    }
    // Of kinds that nobody can log in with, too: the list is whole.
    let rsa = PublicKey::from_openssh(crate::config::test_keys::RSA).unwrap();
    let krl = Krl::parse(&with(2, &rsa.to_bytes().unwrap())).unwrap();
    assert!(krl.has_key(rsa.key_data()));
}

#[test]
fn what_is_not_understood_is_refused_whole() {
    let good = certificates(Some(1), vec![(0x20, Writer::default().number(7))]);
    let refused = |bytes: &[u8]| Krl::parse(bytes).unwrap_err();
    assert_eq!(refused(b""), NotAKrl::Magic);
    assert_eq!(
        refused(crate::config::test_keys::OTHER.as_bytes()),
        NotAKrl::Magic
    );
    let whole = Writer::begun().0.len();
    for end in 8..good.len() {
        // An end between two sections is one.
        if end != whole {
            assert_eq!(refused(&good[..end]), NotAKrl::CutOff, "{end}");
        }
    }
    let mut other = good.clone();
    other[11] = 2;
    assert_eq!(refused(&other), NotAKrl::Format(2));
    let section = |kind, contents| Writer::begun().part(kind, contents).0;
    let signature = section(4, strings(&[&blob(1)]));
    assert_eq!(refused(&signature), NotAKrl::Signed);
    assert_eq!(refused(&section(6, strings(&[]))), NotAKrl::Section(6));
    assert_eq!(refused(&section(2, strings(&[b"key"]))), NotAKrl::Key);
    let certificate = Says::user(&["jane"]).signed().to_bytes().unwrap();
    assert_eq!(refused(&section(2, strings(&[&certificate]))), NotAKrl::Key);
    let longer = [blob(1), vec![0]].concat();
    assert_eq!(refused(&section(2, strings(&[&longer]))), NotAKrl::Key);
    // In the authority's place, too: else a list that takes back its certificates takes back none.
    for signer in [b"key".to_vec(), certificate, longer] {
        let section = Writer::default().string(&signer).string(b"");
        let list = Writer::begun().part(1, section).0;
        assert_eq!(refused(&list), NotAKrl::Key);
    }
    assert_eq!(
        refused(&section(3, strings(&[&[0; 32]]))),
        NotAKrl::Fingerprint
    );
    assert_eq!(
        refused(&section(5, strings(&[&[0; 20]]))),
        NotAKrl::Fingerprint
    );
    let part = |kind, contents| certificates(None, vec![(kind, contents)]);
    assert_eq!(refused(&part(0x24, strings(&[]))), NotAKrl::Section(0x24));
    let range = |first, last| part(0x21, Writer::default().number(first).number(last));
    for (first, last) in [(0, 5), (0, 0), (6, 5)] {
        assert_eq!(refused(&range(first, last)), NotAKrl::Serial);
    }
    let more = part(0x21, Writer::default().number(1).number(2).number(3));
    assert_eq!(refused(&more), NotAKrl::LeftOver);
    assert_eq!(
        refused(&part(0x20, Writer::default().number(0))),
        NotAKrl::Serial
    );
}

#[test]
fn bitmaps_hold_only_serials() {
    assert_eq!(Krl::parse(&bitmap(0, &[1])), Err(NotAKrl::Serial), "0");
    assert_eq!(
        Krl::parse(&bitmap(5, &[0x80])),
        Err(NotAKrl::Serial),
        "negative"
    );
    assert_eq!(Krl::parse(&bitmap(u64::MAX, &[2])), Err(NotAKrl::Serial));
    assert_eq!(
        by(&bitmap(u64::MAX, &[1]), u64::MAX, ""),
        Some(RevokedBy::Serial)
    );
    assert_eq!(by(&bitmap(0, &[2]), 1, ""), Some(RevokedBy::Serial));
    assert_eq!(by(&bitmap(5, &[]), 5, ""), None);
    let mut longest = vec![0; MAX_BITMAP + 1];
    longest[1] = 0x80;
    let last = 10 + 8 * 2048 - 1;
    assert_eq!(by(&bitmap(10, &longest), last, ""), Some(RevokedBy::Serial));
    assert_eq!(by(&bitmap(10, &longest), last + 1, ""), None);
    longest.insert(1, 1);
    assert_eq!(Krl::parse(&bitmap(10, &longest)), Err(NotAKrl::Serial));
}

#[test]
fn an_extension_is_passed_over_only_if_it_says_so() {
    let extension = |critical: u8| {
        let mut contents = strings(&[b"future@example.com"]);
        contents.0.push(critical);
        contents.string(b"x")
    };
    for (kind, nested) in [(255, false), (0x39, true)] {
        let list = |critical| {
            if nested {
                certificates(None, vec![(kind, extension(critical))])
            } else {
                Writer::begun().part(kind, extension(critical)).0
            }
        };
        assert!(Krl::parse(&list(0)).is_ok());
        assert_eq!(Krl::parse(&list(1)), Err(NotAKrl::CriticalExtension));
    }
}

/// Lists by `ssh-keygen -k` itself.
#[test]
fn what_ssh_keygen_writes_is_read_as_it_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let public = |seed: u8| key(seed).public_key().to_openssh().unwrap();
    std::fs::write(path("ca.pub"), public(1)).unwrap();
    let made = |spec: &str| {
        std::fs::write(path("spec"), spec).unwrap();
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-k", "-z", "3", "-f"])
            .args([path("krl"), "-s".into(), path("ca.pub"), path("spec")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        std::fs::read(path("krl")).unwrap()
    };
    let serials = made(
        "serial: 1\nserial: 3\nserial: 5-9\nserial: 1000-100000\nserial: 18446744073709551615\n",
    );
    for revoked in [1, 3, 5, 7, 9, 1000, 50_000, 100_000, u64::MAX] {
        assert_eq!(
            by(&serials, revoked, ""),
            Some(RevokedBy::Serial),
            "{revoked}"
        );
    }
    for good in [0, 2, 4, 10, 999, 100_001, u64::MAX - 1] {
        assert_eq!(by(&serials, good, ""), None, "{good}");
    }
    let odd: String = (0..4000)
        .map(|n| format!("serial: {}\n", 2 * n + 1))
        .collect();
    let odd = made(&odd);
    for serial in (0..8100).step_by(37) {
        let expected = (serial % 2 == 1 && serial < 8000).then_some(RevokedBy::Serial);
        assert_eq!(by(&odd, serial, ""), expected, "{serial}");
    }
    let id = made("id: jane\n");
    assert_eq!(by(&id, 7, "jane"), Some(RevokedBy::KeyId));
    assert_eq!(by(&id, 7, "john"), None);
    for kind in ["key", "sha1", "sha256"] {
        let list = made(&format!("{kind}: {}\n", public(9)));
        assert_eq!(by(&list, 7, ""), Some(RevokedBy::Key), "{kind}");
        let other = made(&format!("{kind}: {}\n", public(3)));
        assert_eq!(by(&other, 7, ""), None, "{kind}");
    }
    assert_eq!(Krl::parse(&serials).unwrap().version(), 3);
}

#[test]
fn a_revoked_certificate_proves_nobody_and_a_revoked_key_does_not_either() {
    let dir = tempfile::tempdir().unwrap();
    let here: &Path = &dir.path().join("f.yaml");
    std::fs::write(
        dir.path().join("corp.krl"),
        certificates(Some(1), vec![(0x20, Writer::default().number(7))]),
    )
    .unwrap();
    let config = config_at(here, "revoked: corp.krl");
    let peer = Peer {
        address: "192.0.2.7:1".parse().unwrap(),
        client: String::new(),
    };
    let now = "2027-01-01T12:00:00Z".parse().unwrap();
    let ask = |says: Says, config: &crate::config::Config| {
        identify(config, &offer(&says.signed(), "viewer"), &peer, now)
            .map(|identity| identity.name().to_string())
    };
    let jane = || Says::user(&["jane"]);
    assert_eq!(
        ask(jane(), &config),
        Err(CertificateRefusal::Revoked {
            by: "its serial".to_owned()
        }
        .into())
    );
    let next = Says {
        serial: 8,
        ..jane()
    };
    assert_eq!(ask(next.clone(), &config), Ok("jane".to_owned()));

    // A key that is taken back is no key of an Identity any more, nor of any authority's certificate.
    let keys = Writer::begun().part(5, strings(&[&sha256(&blob(9))])).0;
    std::fs::write(dir.path().join("corp.krl"), keys).unwrap();
    let text = crate::identity::certificate::testing::documents("revoked: corp.krl").replace(
        "groups: [sre], keys: []",
        &format!(
            "groups: [sre], keys: ['{}']",
            key(9).public_key().to_openssh().unwrap()
        ),
    );
    let config = crate::config::parse(here, &text).unwrap();
    assert_eq!(
        ask(next.clone(), &config),
        Err(CertificateRefusal::Revoked {
            by: "its key".to_owned()
        }
        .into())
    );
    let mut plain = offer(&next.signed(), "viewer");
    plain.certificate = None;
    assert_eq!(
        identify(&config, &plain, &peer, now),
        Err(Refusal::KeyRevoked)
    );
    assert!(read(&next.signed().to_openssh().unwrap()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..200_usize) {
        drop(Krl::parse(&bytes));
        let mut sections = Writer::begun().0;
        sections.extend(&bytes);
        drop(Krl::parse(&sections));
        let mut changed = bitmap(1000, &[1, 2, 3]);
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= bytes.first().copied().unwrap_or(1);
        }
        drop(Krl::parse(&changed));
    }

    /// The same serials, however they are written.
    #[test]
    fn however_serials_are_written_the_same_are_found(serials in prop::collection::btree_set(1_u64..3000, 0..60), asked in 0_u64..3010) {
        let expected = serials.contains(&asked).then_some(RevokedBy::Serial);
        let list = serials.iter().fold(Writer::default(), |list, serial| list.number(*serial));
        let ranges = serials.iter().map(|serial| (0x21, Writer::default().number(*serial).number(*serial))).collect();
        let mut bits = vec![0_u8; 400];
        for serial in &serials {
            let bit = usize::try_from(*serial).unwrap();
            bits[399 - bit / 8] |= 1 << (bit % 8);
        }
        let bitmap = Writer::default().number(0).string(&bits);
        for written in [
            certificates(Some(1), vec![(0x20, list)]),
            certificates(Some(1), ranges),
            certificates(Some(1), vec![(0x22, bitmap)]),
        ] {
            prop_assert_eq!(by(&written, asked, ""), expected);
        }
    }
}
