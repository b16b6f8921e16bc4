use std::path::Path;

use super::*;
use crate::store::room::Room;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2027-01-01T00:00:00Z")
}

fn lock(kind: Kind, value: &str, until: Option<&str>) -> Lock {
    Lock {
        on: Target::parse(kind, value).unwrap(),
        until: until.map(at),
        reason: "a lost laptop".to_owned(),
        since: now(),
        by: "uid 0".to_owned(),
    }
}

fn named(locks: &Locks) -> Vec<String> {
    let standing = locks.standing(now());
    standing.map(|lock| lock.on.to_string()).collect()
}

const KEY: &str = "SHA256:dLAZcFdcBNAicpGAf0VUzokUd0edJQ9lnezXi9HUjbQ";

#[test]
fn what_is_locked_is_read_one_way_and_written_so_that_it_is_read_again() {
    for (kind, value) in [
        (Kind::Identity, "corp--jane"),
        (Kind::Key, KEY),
        (Kind::Certificate, "corp/18446744073709551615"),
        (Kind::Role, "viewer"),
        (Kind::Cluster, "prod"),
        (Kind::Source, "192.0.2.0/24"),
        (Kind::Source, "2001:db8::/32"),
    ] {
        let target = Target::parse(kind, value).unwrap();
        assert_eq!(target.value(), value);
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
    }
    let alone = Target::parse(Kind::Source, "192.0.2.7").unwrap();
    assert_eq!(alone, Target::parse(Kind::Source, "192.0.2.7/32").unwrap());
    for (kind, value) in [
        (Kind::Identity, "Jane"),
        (Kind::Key, "MD5:00"),
        (
            Kind::Key,
            "SHA256:dLAZcFdcBNAicpGAf0VUzokUd0edJQ9lnezXi9HUjb",
        ),
        (Kind::Certificate, "7"),
        (Kind::Certificate, "corp/+7"),
        (Kind::Certificate, "corp/0"),
        (Kind::Source, "192.0.2.7/24"),
        (Kind::Source, "example.com"),
    ] {
        let error = Target::parse(kind, value).unwrap_err().to_string();
        assert!(!error.is_empty(), "{value}");
    }
    let odd = Target::parse(Kind::Role, "\u{1b}[2J").unwrap_err();
    assert!(!odd.to_string().contains('\u{1b}'));
}

#[test]
fn a_lock_is_over_at_its_end_and_not_before() {
    let until = Some("2027-01-01T02:00:00Z");
    let locks = Locks::new(vec![lock(Kind::Role, "viewer", until)]);
    let viewer = Name::new("viewer").unwrap();
    let on = |time: &str| locks.on_role(&viewer, at(time)).is_some();
    assert!(on("2027-01-01T01:59:59Z"));
    assert!(!on("2027-01-01T02:00:00Z"));
    let editor = Name::new("editor").unwrap();
    assert!(locks.on_role(&editor, now()).is_none());
    assert!(locks.on_cluster(&viewer, now()).is_none());
}

#[test]
fn who_is_held_by_what_is_locked_is_locked_out() {
    let jane = Name::new("jane").unwrap();
    let holder = |source: &str| Holder {
        identity: &jane,
        fingerprint: KEY,
        certificate: None,
        source: Some(source.parse().unwrap()),
    };
    let out = |kind, value, source| {
        let locks = Locks::new(vec![lock(kind, value, None)]);
        locks.on_holder(holder(source), now()).is_some()
    };
    assert!(out(Kind::Identity, "jane", "192.0.2.7"));
    assert!(!out(Kind::Identity, "john", "192.0.2.7"));
    assert!(out(Kind::Key, KEY, "192.0.2.7"));
    assert!(!out(Kind::Role, "jane", "192.0.2.7"));
    assert!(out(Kind::Source, "192.0.2.0/24", "192.0.2.7"));
    assert!(out(Kind::Source, "192.0.2.0/24", "::ffff:192.0.2.7"));
    assert!(!out(Kind::Source, "192.0.2.0/24", "198.51.100.7"));
    let locks = Locks::new(vec![lock(Kind::Source, "192.0.2.0/24", None)]);
    let unknown = Holder {
        source: None,
        ..holder("192.0.2.7")
    };
    assert!(locks.on_holder(unknown, now()).is_none());
}

fn open(directory: &Path) -> Result<(LockFile, Locks), LockFileError> {
    LockFile::open(directory, Room::default())
}

#[test]
fn locks_outlive_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (file, locks) = open(dir.path()).unwrap();
    assert_eq!(named(&locks), [""; 0]);
    let until = Some("2027-01-01T02:00:00Z");
    let locks = locks.with(lock(Kind::Identity, "jane", until), now());
    let locks = locks.with(lock(Kind::Source, "192.0.2.0/24", None), now());
    file.put(&locks).unwrap();
    let (_, again) = open(dir.path()).unwrap();
    assert_eq!(again, locks);
    // A crash between the draft and its rename.
    std::fs::write(dir.path().join("locks.json.new"), "{\"vers").unwrap();
    assert_eq!(open(dir.path()).unwrap().1, locks);
}

#[test]
fn a_second_lock_takes_the_place_of_the_first_and_what_is_over_goes() {
    let until = Some("2027-01-01T02:00:00Z");
    let over = Some("2026-12-31T00:00:00Z");
    let locks = Locks::new(vec![
        lock(Kind::Identity, "jane", until),
        lock(Kind::Identity, "john", over),
    ]);
    let locks = locks.with(lock(Kind::Identity, "jane", None), now());
    assert_eq!(locks.0.len(), 1);
    assert_eq!(named(&locks), ["identity jane"]);
    let jane = Target::parse(Kind::Identity, "jane").unwrap();
    assert_eq!(locks.on(&jane, now()).unwrap().until, None);
    assert_eq!(named(&locks.without(&jane, now())), [""; 0]);
}

#[test]
fn a_file_that_is_not_whole_is_an_error_and_never_no_locks() {
    let dir = tempfile::tempdir().unwrap();
    let (file, locks) = open(dir.path()).unwrap();
    file.put(&locks.with(lock(Kind::Identity, "jane", None), now()))
        .unwrap();
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    // Without its last byte, the line feed, it is whole.
    for length in 0..whole.len() - 1 {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("nobody is let in"), "{length}: {error}");
    }
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("identity", "individual"),
        ("jane", "Jane"),
        ("\"by\"", "\"bye\""),
    ] {
        let changed = String::from_utf8(whole.clone()).unwrap().replace(from, to);
        std::fs::write(&path, changed).unwrap();
        assert!(open(dir.path()).is_err(), "{to}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(open(dir.path()).is_err());
}

#[test]
fn a_reason_is_one_line() {
    check_reason("INC-7, a lost laptop").unwrap();
    for bad in ["", "  ", "two\nlines", "\u{1b}[2J", &"x".repeat(501)] {
        assert_eq!(check_reason(bad), Err(NotAReason), "{bad:?}");
    }
}
