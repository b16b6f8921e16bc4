use std::path::Path;
use std::sync::Arc;

use super::code::{Typed, recovery_codes};
use super::codes::Removed;
use super::*;
use crate::config::test_keys::{ED25519, OTHER};
use crate::config::watch::{InForce, follow};
use crate::config::{self, Config};
use crate::identity::{Identity, identify};
use crate::locks::{Kind, Lock, Locks, Target};
use crate::messages::{Offer, Peer};
use crate::store::room::Room;

const REMEMBER: Duration = Duration::from_secs(3600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2027-01-01T00:00:10Z")
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn configured() -> Config {
    let text = format!(
        "apiVersion: bastion-audit.dev/v1alpha1\nkind: Bastion\nmetadata: {{name: main}}\n\
         spec: {{listen: '127.0.0.1:2222', hostKeys: [host], stateDir: state}}\n\
         ---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {{name: jane}}\nspec: {{keys: ['{ED25519}', '{OTHER}']}}\n"
    );
    config::parse(Path::new("f.yaml"), &text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn jane_by(key: &str, address: &str) -> Identity {
    let offer = Offer {
        principal: String::new(),
        public_key: key.to_owned(),
        certificate: None,
        algorithm: "ssh-ed25519".to_owned(),
    };
    let peer = Peer {
        address: format!("{address}:1").parse().unwrap(),
        client: String::new(),
    };
    static CONFIG: std::sync::OnceLock<Config> = std::sync::OnceLock::new();
    let config = CONFIG.get_or_init(configured);
    identify(config, &offer, &peer, now()).unwrap()
}

fn jane() -> Identity {
    jane_by(ED25519, "192.0.2.7")
}

fn name() -> Name {
    Name::new("jane").unwrap()
}

fn open(directory: &Path) -> Result<Codes, TotpFileError> {
    Ok(opened(directory)?.0)
}

fn opened(directory: &Path) -> Result<(Codes, InForce), TotpFileError> {
    let (_watch, reloads) = follow(Path::new("f.yaml"), Arc::new(configured()));
    let (file, found) = TotpFile::open(directory, Room::default())?;
    let in_force = reloads.in_force.clone();
    Ok((Codes::begin(file, found, reloads.in_force), in_force))
}

/// Jane is enrolled a minute ago; her secret, and her recovery codes.
async fn enrolled(directory: &Path) -> (Codes, Secret, Vec<Hidden>) {
    let codes = open(directory).unwrap();
    let secret = Secret::random().unwrap();
    let code = code(&secret, later(-60));
    let by = "uid 0".to_owned();
    let enrolling = codes.enroll(name(), secret.clone(), &code, by, later(-60));
    let recovery = enrolling.await.unwrap();
    (codes, secret, recovery)
}

fn code(secret: &Secret, at: Timestamp) -> Hidden {
    Hidden::new(secret.code_at(at.as_second().try_into().unwrap()))
}

/// A code that is not good then.
fn wrong(secret: &Secret, at: Timestamp) -> Hidden {
    let good: Vec<Hidden> = (-1..=1)
        .map(|steps| code(secret, at + SignedDuration::from_secs(steps * 30)))
        .collect();
    let mut all = (0..).map(|number| Hidden::new(format!("{number:06}")));
    all.find(|one| !good.contains(one)).unwrap()
}

async fn accept(codes: &Codes, typed: &Hidden, now: Timestamp) -> Result<Accepted, CodeRefused> {
    codes.accept(&jane(), typed, now, REMEMBER).await
}

#[test]
fn codes_are_those_of_rfc_6238() {
    // Appendix B, the last six of its eight digits; the secret is "12345678901234567890".
    let secret = Secret::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
    for (time, code) in [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (2_000_000_000, "279037"),
    ] {
        assert_eq!(secret.code_at(time), code);
        assert_eq!(secret.step_of(code, time), Some(time / 30));
        // One step before and after, and no more.
        assert_eq!(secret.step_of(code, time + 30), Some(time / 30));
        assert_eq!(secret.step_of(code, time - 30), Some(time / 30));
        assert_eq!(secret.step_of(code, time + 60), None);
        if time > 60 {
            assert_eq!(secret.step_of(code, time - 60), None);
        }
    }
    assert_eq!(Secret::parse("GEZDGNBV").unwrap_err(), NotASecret);
    assert_eq!(Secret::parse("not base32!").unwrap_err(), NotASecret);
    let url = secret.url("main", "jane").unwrap();
    assert_eq!(
        url.expose(),
        "otpauth://totp/main:jane?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=main"
    );
}

#[test]
fn what_is_typed_is_digits_a_recovery_code_or_no_guess() {
    let digits = |text: &str| Typed::Digits(Hidden::new(text));
    assert_eq!(Typed::read("123456"), digits("123456"));
    assert_eq!(Typed::read(" 123 456 "), digits("123456"));
    for neither in ["", "12345", "1234567", "+12345", "12345a", "１２３４５６"] {
        assert_eq!(Typed::read(neither), Typed::Neither, "{neither}");
    }
    assert_eq!(Typed::read(&"1".repeat(100_000)), Typed::Neither);
    let codes = recovery_codes().unwrap();
    assert_eq!(codes.len(), 10);
    for (code, hash) in codes {
        assert_eq!(code.expose().len(), 19, "{}", code.expose());
        assert_eq!(Typed::read(code.expose()), Typed::Recovery(hash.clone()));
        let loud = code.expose().to_uppercase().replace('-', "");
        assert_eq!(Typed::read(&loud), Typed::Recovery(hash));
    }
}

#[test]
fn nothing_shows_what_is_hidden() {
    let secret = Secret::random().unwrap();
    let shown = format!(
        "{secret:?} {:?} {:?}",
        secret.base32(),
        Typed::read("123456")
    );
    assert!(!shown.contains(secret.base32().expose()), "{shown}");
    assert!(!shown.contains("123456"), "{shown}");
}

#[tokio::test]
async fn a_code_is_accepted_once_over_restarts_too() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, secret, _) = enrolled(dir.path()).await;
    let present = code(&secret, now());
    let accepted = accept(&codes, &present, now()).await.unwrap();
    assert_eq!(accepted.recovery_left, None);
    assert_eq!(accepted.passed.until(), later(3600));
    let used = |result| matches!(result, Err(CodeRefused::Used));
    assert!(used(accept(&codes, &present, now()).await));
    // One that was good before it is not good after it.
    assert!(used(
        accept(&codes, &code(&secret, later(-30)), now()).await
    ));
    let again = open(dir.path()).unwrap();
    assert!(used(accept(&again, &present, now()).await));
    accept(&again, &code(&secret, later(30)), now())
        .await
        .unwrap();
    // The clock is set back: no code twice all the same.
    assert!(used(
        accept(&again, &code(&secret, later(30)), later(-1)).await
    ));
    // That with which they were enrolled was seen by whoever stood there.
    let enrolled_with = code(&secret, later(-60));
    assert!(used(accept(&again, &enrolled_with, later(-60)).await));
    let (accepted, refused) = again.counts();
    assert_eq!((accepted, refused), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_type_the_same_code_at_once_one_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, secret, _) = enrolled(dir.path()).await;
    let present = code(&secret, now());
    let all: Vec<_> = (0..20)
        .map(|_| {
            let (codes, present) = (codes.clone(), present.clone());
            tokio::spawn(async move { accept(&codes, &present, now()).await.is_ok() })
        })
        .collect();
    let mut accepted = 0;
    for one in all {
        accepted += u32::from(one.await.unwrap());
    }
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn guessing_gets_ever_slower_and_the_owner_has_a_way_in() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, secret, recovery) = enrolled(dir.path()).await;
    // A year of as many guesses as there may be, each as soon as it may be.
    let (mut guesses, mut time) = (0, now());
    let year = later(365 * 86_400);
    while time < year {
        match accept(&codes, &wrong(&secret, time), time).await {
            Err(CodeRefused::Wrong) => guesses += 1,
            Err(CodeRefused::TooMany { until }) => {
                assert!(time < until && until <= time + SignedDuration::from_hours(1));
                time = until;
            }
            other => panic!("{other:?}"),
        }
    }
    // Three of a million codes are good at a time.
    assert!((8_000..9_000).contains(&guesses), "{guesses}");
    // While nothing is looked at, a right code is not either, and what nobody guesses is.
    let guess = accept(&codes, &wrong(&secret, time), time).await;
    assert!(matches!(guess, Err(CodeRefused::Wrong)), "{guess:?}");
    let right = code(&secret, time);
    let refused = accept(&codes, &right, time).await;
    assert!(
        matches!(refused, Err(CodeRefused::TooMany { .. })),
        "{refused:?}"
    );
    let listed = codes.list(time).await;
    assert!(listed[0].not_before.is_some());
    let accepted = accept(&codes, &recovery[0], time).await.unwrap();
    assert_eq!(accepted.recovery_left, Some(9));
    // From then on it is as it was.
    accept(&codes, &right, time).await.unwrap();
    assert_eq!(codes.list(time).await[0].not_before, None);
}

#[tokio::test]
async fn what_is_no_guess_counts_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, secret, _) = enrolled(dir.path()).await;
    for _ in 0..100 {
        for typed in ["", "hello", "aaaa-aaaa-aaaa-aaaa", "1234567"] {
            let refused = accept(&codes, &Hidden::new(typed), now()).await;
            assert!(matches!(refused, Err(CodeRefused::Wrong)), "{refused:?}");
        }
    }
    accept(&codes, &code(&secret, now()), now()).await.unwrap();
    for _ in 0..100 {
        let refused = accept(&codes, &code(&secret, now()), now()).await;
        assert!(matches!(refused, Err(CodeRefused::Used)), "{refused:?}");
    }
    accept(&codes, &code(&secret, later(30)), now())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_recovery_code_is_good_once_and_only_its_hash_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, secret, recovery) = enrolled(dir.path()).await;
    let path = dir.path().join(FILE);
    let kept = std::fs::read_to_string(&path).unwrap();
    for code in &recovery {
        let plain = code.expose().replace('-', "");
        assert!(!kept.contains(code.expose()) && !kept.contains(&plain));
        assert!(!kept.contains(&plain.to_uppercase()));
    }
    assert!(kept.contains(secret.base32().expose()));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    for (number, code) in recovery.iter().enumerate() {
        let accepted = accept(&codes, code, now()).await.unwrap();
        assert_eq!(accepted.recovery_left, Some(9 - number));
        assert!(accept(&codes, code, now()).await.is_err());
        let again = open(dir.path()).unwrap();
        assert!(accept(&again, code, now()).await.is_err());
    }
}

#[tokio::test]
async fn a_code_that_cannot_be_noted_as_used_is_not_accepted_and_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, secret, recovery) = enrolled(dir.path()).await;
    // Where the draft should be written.
    let in_the_way = dir.path().join("totp.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    for typed in [&code(&secret, now()), &recovery[0]] {
        let refused = accept(&codes, typed, now()).await;
        assert!(
            matches!(refused, Err(CodeRefused::NotKept(_))),
            "{refused:?}"
        );
    }
    let error = accept(&codes, &code(&secret, later(30)), now())
        .await
        .unwrap_err();
    assert!(
        !error.to_string().contains(secret.base32().expose()),
        "{error}"
    );
    let other = Name::new("john").unwrap();
    let secret_of_john = Secret::random().unwrap();
    let code_of_john = code(&secret_of_john, now());
    let by = "uid 0".to_owned();
    let enrolling = codes.enroll(other.clone(), secret_of_john, &code_of_john, by, now());
    assert!(matches!(enrolling.await, Err(NotEnrolled::File(_))));
    assert_eq!(codes.list(now()).await.len(), 1);

    std::fs::remove_dir(&in_the_way).unwrap();
    for typed in [
        &code(&secret, now()),
        &code(&secret, later(30)),
        &recovery[0],
    ] {
        assert!(accept(&codes, typed, now()).await.is_err());
    }
    accept(&codes, &code(&secret, later(60)), later(30))
        .await
        .unwrap();
    accept(&codes, &recovery[1], now()).await.unwrap();
}

#[tokio::test]
async fn who_is_enrolled_is_in_force_and_on_disk_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, in_force) = opened(dir.path()).unwrap();
    let (secret, by) = (Secret::random().unwrap(), || "uid 0".to_owned());
    let bad = wrong(&secret, now());
    assert!(matches!(
        codes.would_enroll(&name(), &secret, &bad, now()),
        Err(NotEnrolled::WrongCode)
    ));
    let refused = codes
        .enroll(name(), secret.clone(), &bad, by(), now())
        .await;
    assert!(matches!(refused, Err(NotEnrolled::WrongCode)));
    assert_eq!(in_force.config().enrolled.since(&name()), None);
    let refused = accept(&codes, &code(&secret, now()), now()).await;
    assert!(matches!(refused, Err(CodeRefused::NotEnrolled)));

    let good = code(&secret, now());
    codes.would_enroll(&name(), &secret, &good, now()).unwrap();
    codes
        .enroll(name(), secret.clone(), &good, by(), now())
        .await
        .unwrap();
    assert_eq!(in_force.config().enrolled.since(&name()), Some(now()));
    let (_, again) = opened(dir.path()).unwrap();
    assert_eq!(again.config().enrolled.since(&name()), Some(now()));
    let refused = codes
        .enroll(name(), secret.clone(), &good, by(), now())
        .await;
    assert!(matches!(refused, Err(NotEnrolled::Already(_))));

    // In force at once, whatever the disk says.
    let in_the_way = dir.path().join("totp.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let Removed { was, not_kept } = codes.remove(&name()).await;
    assert!(was);
    let why = not_kept.unwrap().to_string();
    assert!(
        why.contains("a restart of the daemon would bring it back"),
        "{why}"
    );
    assert_eq!(in_force.config().enrolled.since(&name()), None);
    assert!(
        accept(&codes, &code(&secret, later(30)), now())
            .await
            .is_err()
    );
    assert!(!codes.remove(&name()).await.was);
}

#[tokio::test]
async fn a_code_is_remembered_for_its_key_and_address_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (codes, in_force) = opened(dir.path()).unwrap();
    let secret = Secret::random().unwrap();
    let enroll = async |at: Timestamp| {
        let (code, by) = (code(&secret, at), "uid 0".to_owned());
        let enrolling = codes.enroll(name(), secret.clone(), &code, by, at);
        enrolling.await.unwrap();
    };
    enroll(later(-60)).await;
    let accepted = accept(&codes, &code(&secret, now()), now()).await.unwrap();
    assert_eq!(codes.recall(&jane(), now()), None, "not yet");
    let remember = || codes.remember(&jane(), accepted.passed, now());
    remember();
    assert_eq!(codes.recall(&jane(), now()), Some(accepted.passed));
    let mapped = jane_by(ED25519, "[::ffff:192.0.2.7]");
    assert_eq!(codes.recall(&mapped, now()), Some(accepted.passed));
    for other in [jane_by(OTHER, "192.0.2.7"), jane_by(ED25519, "192.0.2.8")] {
        assert_eq!(codes.recall(&other, now()), None);
    }
    assert!(codes.recall(&jane(), later(3599)).is_some());
    assert_eq!(codes.recall(&jane(), later(3600)), None);

    let target = |kind, value: &str| Target::parse(kind, value).unwrap();
    let fingerprint = jane().proof().fingerprint().to_owned();
    let other = jane_by(OTHER, "192.0.2.7").proof().fingerprint().to_owned();
    for (on, forgets) in [
        (target(Kind::Identity, "jane"), true),
        (target(Kind::Identity, "john"), false),
        (target(Kind::Key, &fingerprint), true),
        (target(Kind::Key, &other), false),
        (target(Kind::Source, "192.0.2.0/24"), true),
        (target(Kind::Source, "198.51.100.0/24"), false),
        (target(Kind::Certificate, "corp/7"), false),
        (target(Kind::Role, "viewer"), false),
    ] {
        remember();
        codes.forget_locked(&on);
        assert_eq!(codes.recall(&jane(), now()).is_none(), forgets, "{on}");
    }
    // Somebody who is locked out while a code of theirs is being looked at.
    let locked = Locks::new(vec![Lock {
        on: target(Kind::Identity, "jane"),
        until: None,
        reason: "INC-7".to_owned(),
        since: now(),
        by: "uid 0".to_owned(),
    }]);
    codes.forget_locked(&target(Kind::Identity, "jane"));
    in_force.change_locks(|_| locked);
    remember();
    in_force.change_locks(|_| Locks::default());
    assert_eq!(codes.recall(&jane(), now()), None);

    // Another enrolment is another, whenever the code of the old one was accepted.
    remember();
    codes.remove(&name()).await;
    assert_eq!(codes.recall(&jane(), now()), None);
    enroll(now()).await;
    remember();
    assert_eq!(codes.recall(&jane(), now()), None);
}

#[test]
fn what_is_remembered_is_bounded_and_forgets_what_ends_first() {
    let mut remembered = super::remembered::Remembered::default();
    let passed = |seconds| Passed::of(now(), later(seconds));
    for number in 0..5_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
        let jane = jane_by(ED25519, &address);
        remembered.remember(&jane, passed(i64::from(number) + 10), now());
    }
    assert_eq!(remembered.len(), 4096);
    assert_eq!(
        remembered.recall(&jane_by(ED25519, "10.0.0.0"), now()),
        None
    );
    assert!(
        remembered
            .recall(&jane_by(ED25519, "10.0.19.135"), now())
            .is_some()
    );
    // Those that are over make room for one.
    remembered.remember(&jane(), passed(20_000), later(4_000));
    assert!(remembered.len() < 1_100);
}

#[tokio::test]
async fn a_file_that_is_not_whole_or_not_ours_alone_is_an_error_and_never_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (_, secret, _) = enrolled(dir.path()).await;
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    // Without its last byte, the line feed, it is whole.
    for length in 0..whole.len() - 1 {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("are not whole"), "{length}: {error}");
    }
    let text = String::from_utf8(whole.clone()).unwrap();
    let secret = secret.base32();
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("\"jane\"", "\"Jane\""),
        ("lastStep", "firstStep"),
        (secret.expose(), "GEZDGNBV"),
        (secret.expose(), "0189"),
    ] {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(!error.contains(secret.expose()), "{error}");
    }
    // Nothing of a torn file is repeated, wherever it is torn.
    let torn = text.replace(&format!("\"{}\"", secret.expose()), secret.expose());
    std::fs::write(&path, torn).unwrap();
    let error = format!("{:?}", open(dir.path()).unwrap_err());
    assert!(!error.contains(&secret.expose()[..8]), "{error}");

    std::fs::write(&path, &whole).unwrap();
    open(dir.path()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&path, mode).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("0640"), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(open(dir.path()).is_err());
}

#[test]
fn where_no_code_is_remembered_one_counts_for_a_day_on_its_connection() {
    let lasts = |remember| Passed::new(now(), now(), remember).until();
    assert_eq!(lasts(Duration::ZERO), later(86_400));
    assert_eq!(lasts(Duration::from_secs(60)), later(60));
    assert_eq!(lasts(Duration::MAX), later(86_400));
}
