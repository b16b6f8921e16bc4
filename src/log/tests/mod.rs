//! Logs, good and bad.

mod crash;
pub(super) mod fuse;
mod harmed;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::disk::Disk;
use super::*;
use crate::clock::ManualClock;
use crate::session::SessionId;
use crate::signing::testing::{name, signer};
use crate::signing::{Digest, SignedNote, Signing};
use crate::store::room::Room;

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH))
}

fn open(directory: &Path, signing: &Signing) -> Result<EvidenceLog, LogError> {
    EvidenceLog::open(directory, signing.clone(), &*clock(), Room::default())
}

fn open_on(directory: &Path, signing: &Signing, disk: Disk) -> Result<EvidenceLog, LogError> {
    EvidenceLog::start(Writer::open(directory, signing.clone(), &*clock(), disk)?)
}

/// The `n`-th leaf of the tests.
fn leaf(n: u64) -> Leaf {
    let at = Timestamp::from_second(i64::try_from(n).unwrap()).unwrap();
    Leaf::Opened {
        session: SessionId::new(at),
        at,
        parent: None,
        note: Digest::of(&n.to_be_bytes()),
    }
}

fn number(leaf: &Leaf) -> u64 {
    match leaf {
        // A harmed one may say any time.
        Leaf::Opened { at, .. } => u64::try_from(at.as_second()).unwrap_or(u64::MAX),
        other => panic!("{other:?}"),
    }
}

/// A closed log of so many leaves.
async fn log_of(directory: &Path, signing: &Signing, leaves: u64) -> Arc<Head> {
    let log = open(directory, signing).unwrap();
    append(&log, 0..leaves).await;
    log.close().await;
    log.checkpoint()
}

async fn append(log: &EvidenceLog, which: std::ops::Range<u64>) {
    let appends = which.map(|n| log.append(leaf(n)));
    for position in futures_util::future::join_all(appends).await {
        position.unwrap();
    }
}

/// Reads a log and says which of the tests' leaves are in it.
fn read(directory: &Path, signing: &Signing) -> Result<(LogReader, Vec<u64>), LogError> {
    let mut found = Vec::new();
    let reader = LogReader::open(directory, signing.keys(), |position, leaf| {
        assert_eq!(position.0, found.len() as u64);
        found.push(number(&leaf));
    })?;
    // Who appends at the same time comes in any order.
    found.sort_unstable();
    Ok((reader, found))
}

#[tokio::test]
async fn leaves_are_found_again_in_order_and_a_checkpoint_covers_them_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    let log = open(dir.path(), &signing).unwrap();
    assert_eq!(log.checkpoint().size(), 0);
    for n in 0..3 {
        assert_eq!(log.append(leaf(n)).await.unwrap(), Position(n));
        assert_eq!(log.checkpoint().size(), n + 1);
    }
    // A reader does not need the daemon to stop.
    let (reader, found) = read(dir.path(), &signing).unwrap();
    assert_eq!((reader.size(), reader.head().size()), (3, 3));
    assert_eq!(found, [0, 1, 2]);
    log.close().await;
    assert!(matches!(log.append(leaf(3)).await, Err(LogError::Closed)));
    let head = log.checkpoint();
    let text = head.note().text();
    assert!(text.starts_with("bastion-audit/main\n3\n"), "{text}");
    let again = SignedNote::verify(head.note().as_str().as_bytes(), signing.keys()).unwrap();
    assert_eq!(&again, head.note());
}

#[tokio::test]
async fn it_goes_on_over_restarts_and_over_full_tiles() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    let mut next = 0;
    for more in [1, 254, 1, 1, 300, 0, 700] {
        let log = open(dir.path(), &signing).unwrap();
        append(&log, next..next + more).await;
        next += more;
        log.close().await;
        assert_eq!(log.checkpoint().size(), next);
        let (reader, found) = read(dir.path(), &signing).unwrap();
        assert_eq!(found, (0..next).collect::<Vec<_>>());
        assert_eq!(reader.head().size(), next);
        assert_eq!(reader.unreadable(), 0);
    }
    for file in [
        "checkpoint",
        "tile/0/003",
        "tile/entries/003",
        "tile/1/000.p/4",
    ] {
        assert!(dir.path().join(file).exists(), "{file}");
    }
    let tail = std::fs::read_to_string(dir.path().join("tail")).unwrap();
    assert!(tail.starts_with("# bastion-audit log 1, leaves from 1024\n"));
    assert_eq!(
        std::fs::read(dir.path().join("tile/0/004.p/233"))
            .unwrap()
            .len(),
        233 * 32
    );
}

#[tokio::test]
async fn a_hundred_appends_at_once_share_a_few_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    let fuse = Arc::new(fuse::Fuse::new(1 << 40));
    let disk = Disk {
        fuse: Some(Arc::clone(&fuse)),
        ..Disk::default()
    };
    let log = open_on(dir.path(), &signing, disk).unwrap();
    let before = fuse.syncs();
    append(&log, 0..100).await;
    let syncs = fuse.syncs() - before;
    assert!((1..=10).contains(&syncs), "{syncs} syncs");
    assert_eq!(log.checkpoint().size(), 100);
}

#[tokio::test]
async fn two_daemons_on_one_log_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    let _log = open(dir.path(), &signing).unwrap();
    let error = open(dir.path(), &signing).unwrap_err();
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn another_key_is_told_of_in_the_log_and_old_heads_stay_good() {
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let instance = crate::config::Name::new("main").unwrap();
    let source = crate::signing::KeySource::Own;
    let now = Timestamp::UNIX_EPOCH;
    let old = Signing::open(state.path(), &instance, &source, now).unwrap();
    let log = open(dir.path(), &old).unwrap();
    let started = |signing: &Signing| Leaf::Started {
        at: now,
        version: "0".into(),
        key: signing.key().clone(),
    };
    log.append(started(&old)).await.unwrap();
    log.close().await;
    let witness = log.checkpoint();

    let key = state.path().join("new");
    drop(signer(state.path(), "new"));
    let source = crate::signing::KeySource::File {
        key,
        previous: None,
    };
    let new = Signing::open(state.path(), &instance, &source, now).unwrap();
    let log = open(dir.path(), &new).unwrap();
    log.append(started(&new)).await.unwrap();
    log.close().await;
    let mut leaves = Vec::new();
    let reader = LogReader::open(dir.path(), new.keys(), |_, leaf| leaves.push(leaf)).unwrap();
    reader
        .check_witness(witness.note().as_str().as_bytes())
        .unwrap();
    let Leaf::Key { previous, note, .. } = &leaves[1] else {
        panic!("{leaves:?}")
    };
    assert_eq!(previous, old.key());
    let note = SignedNote::verify(note.as_bytes(), new.keys()).unwrap();
    assert_eq!(note.by(), [new.key().clone(), old.key().clone()]);

    // The old key alone signs nothing that comes after.
    let alone = Signing::new(Arc::new(
        crate::signing::FileSigner::open(&state.path().join("signing/key")).unwrap(),
    ))
    .unwrap();
    let forged = Head::sign(&alone, reader.size(), reader.head().hash()).unwrap();
    let tail = dir.path().join("tail");
    let mut text = std::fs::read_to_string(&tail).unwrap();
    text.push_str(&tail::head_line(forged.note().as_str()));
    std::fs::write(&tail, text).unwrap();
    let error = LogReader::open(dir.path(), new.keys(), |_, _| {}).unwrap_err();
    assert!(matches!(error, LogError::WrongKey { .. }), "{error}");
    assert_eq!(name().as_str(), "bastion-audit/main");
}

#[tokio::test]
async fn checkpoints_that_were_kept_elsewhere_are_held_against_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    let kept = dir.path().join("kept");
    let copy = dir.path().join("copy");
    let main = dir.path().join("log");
    let mut notes = String::new();
    for upto in [1, 200, 256, 300, 513, 700] {
        let log = open(&main, &signing).unwrap();
        let from = log.checkpoint().size();
        append(&log, from..upto).await;
        log.close().await;
        notes.push_str(&format!("{}\n", log.checkpoint().note().as_str()));
        if upto == 300 {
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([&main, &copy])
                .status();
            assert!(copied.unwrap().success());
        }
    }
    std::fs::write(&kept, &notes).unwrap();
    let notes = witness_notes(notes.as_bytes());
    assert_eq!(notes.len(), 6);
    let (reader, _) = read(&main, &signing).unwrap();
    for note in &notes {
        reader.check_witness(note.as_bytes()).unwrap();
    }
    let (rolled_back, _) = read(&copy, &signing).unwrap();
    for note in &notes[..4] {
        rolled_back.check_witness(note.as_bytes()).unwrap();
    }
    let error = rolled_back.check_witness(notes[4].as_bytes()).unwrap_err();
    let LogError::RolledBack { size, held, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((size, held), (513, 300));
    assert!(reader.continues(&rolled_back).is_ok());
    assert!(rolled_back.continues(&reader).is_err());

    // Goes on differently from the copy: the same size, another history.
    let log = open(&copy, &signing).unwrap();
    append(&log, 1000..1213).await;
    log.close().await;
    let (forked, _) = read(&copy, &signing).unwrap();
    let error = forked.check_witness(notes[4].as_bytes()).unwrap_err();
    assert!(
        matches!(error, LogError::Forked { size: 513, .. }),
        "{error}"
    );
}
