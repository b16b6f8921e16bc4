//! The chain through the audit log, kept and broken.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::clock::ManualClock;
use crate::signing::{PublicKey, Signer, Signing, SigningError};

/// A log, the state beside it, and who signs.
struct Bench {
    dir: tempfile::TempDir,
    signing: Signing,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            signing: crate::signing::testing::signing(),
        }
    }

    /// Whose signer can be told to sign nothing.
    fn moody() -> (Self, Arc<AtomicBool>) {
        let dir = tempfile::tempdir().unwrap();
        let works = Arc::new(AtomicBool::new(true));
        let moody = Moody {
            signer: crate::signing::testing::signer(dir.path(), "key"),
            works: Arc::clone(&works),
        };
        let signing = Signing::new(Arc::new(moody)).unwrap();
        (Self { dir, signing }, works)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    fn open(&self) -> Audit {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let state = self.dir.path();
        Audit::open(
            &self.path(),
            state,
            "main",
            self.signing.clone(),
            clock,
            crate::store::room::Room::default(),
        )
        .unwrap()
    }

    /// One run of the daemon.
    async fn run(&self, events: usize) {
        let audit = self.open();
        emit(&audit, events).await;
        audit.close().await;
    }

    fn verify(&self) -> Result<Verified, AuditFault> {
        self.verify_files(&[self.path()])
    }

    fn verify_files(&self, files: &[PathBuf]) -> Result<Verified, AuditFault> {
        verify(files, self.signing.keys(), &[])
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        text.split_inclusive('\n').map(ToOwned::to_owned).collect()
    }
}

async fn emit(audit: &Audit, events: usize) {
    for n in 0..events {
        let version = format!("{n}");
        let event = Event::DaemonStarted {
            version: &version,
            config_digest: "",
        };
        audit.emit(event).await.unwrap();
    }
}

#[tokio::test]
async fn lines_are_chained_over_restarts_and_rotations_and_signed_at_the_end() {
    let bench = Bench::new();
    bench.run(3).await;
    let found = bench.verify().unwrap();
    assert_eq!((found.first, found.signed), (1, found.last.seq));
    assert!(found.last.seq > 3, "there is a head at the end");
    bench.run(2).await;
    assert!(bench.verify().unwrap().last.seq > found.last.seq + 2);

    // Moved away while the daemon runs, and again while it does not.
    let moved = [1, 2].map(|n| bench.dir.path().join(format!("audit.jsonl.{n}")));
    let audit = bench.open();
    emit(&audit, 1).await;
    std::fs::rename(bench.path(), &moved[0]).unwrap();
    emit(&audit, 1).await;
    audit.close().await;
    std::fs::rename(bench.path(), &moved[1]).unwrap();
    bench.run(1).await;
    let files = [moved[0].clone(), moved[1].clone(), bench.path()];
    let whole = bench.verify_files(&files).unwrap();
    assert_eq!((whole.first, whole.signed), (1, whole.last.seq));
    let part = bench.verify_files(&files[1..]).unwrap();
    assert!(part.first > 1);

    let swapped = [files[0].clone(), files[2].clone()];
    let fault = bench.verify_files(&swapped).unwrap_err();
    assert!(matches!(fault.fault, Fault::Missing { .. }), "{fault}");
    let fault = bench
        .verify_files(&[files[1].clone(), files[0].clone()])
        .unwrap_err();
    assert!(matches!(fault.fault, Fault::OutOfOrder { .. }), "{fault}");
}

#[tokio::test]
async fn a_second_of_activity_has_its_head() {
    let bench = Bench::new();
    let audit = bench.open();
    emit(&audit, 2).await;
    let mut signed = audit.signed();
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(10), signed.changed());
    in_time.await.unwrap().unwrap();
    let head = bench
        .lines()
        .into_iter()
        .find(|line| line.contains("audit.head"));
    assert!(head.unwrap().contains("bastion-audit/main/audit"));
    // The daemon dies here, without a word.
    drop(audit);
}

#[tokio::test]
async fn a_line_that_was_never_finished_is_told_of_and_is_no_fault() {
    for torn in ["{\"v\":1,\"ti", "{\"v\":1,\"ti\n"] {
        let bench = Bench::new();
        bench.run(2).await;
        let mut text = std::fs::read_to_string(bench.path()).unwrap();
        text.push_str(torn);
        std::fs::write(bench.path(), text).unwrap();
        assert!(bench.verify().is_err(), "nobody has said so yet");
        bench.run(1).await;
        let found = bench.verify().unwrap();
        assert_eq!(found.torn, 1);
        let without =
            std::fs::read_to_string(bench.path())
                .unwrap()
                .replacen("{\"v\":1,\"ti\n", "", 1);
        std::fs::write(bench.path(), without).unwrap();
        let fault = bench.verify().unwrap_err();
        assert!(matches!(fault.fault, Fault::NothingTorn), "{fault}");
    }
}

#[tokio::test]
async fn what_was_cut_off_is_missed_by_the_next_daemon_and_by_the_evidence_log() {
    let bench = Bench::new();
    bench.run(5).await;
    let last = bench.verify().unwrap().last;
    let lines = bench.lines();
    std::fs::write(bench.path(), lines[..3].concat()).unwrap();
    assert!(bench.verify().is_ok(), "files alone do not know");
    let fault = verify(&[bench.path()], bench.signing.keys(), &[last]).unwrap_err();
    assert!(
        matches!(fault.fault, Fault::Cut { held: 3, seq } if seq == last.seq),
        "{fault}"
    );
    // The next daemon does not fill the gap.
    bench.run(1).await;
    let fault = bench.verify().unwrap_err();
    assert!(
        matches!(fault.fault, Fault::Missing { from: 4, to } if to == last.seq),
        "{fault}"
    );
    assert_eq!(fault.line, 4);
}

#[tokio::test]
async fn a_power_cut_and_a_rotation_before_the_next_start_accuse_nobody() {
    // What of the last lines, and of the file that says where the chain is, had reached the disk.
    for (of_log, of_state) in [(0, 5), (3, 5), (5, 0), (5, 3), (5, 5), (0, 0)] {
        for torn in ["", "{\"v\":1,\"ti"] {
            let (bench, signs) = Bench::moody();
            bench.run(2).await;
            // A new run, of which no head was signed when the power went: nothing of it had to be on the disk.
            signs.store(false, Ordering::SeqCst);
            let state = bench.dir.path().join("audit.chain");
            let audit = bench.open();
            let (mut logs, mut states) = (Vec::new(), Vec::new());
            for n in 0..=5 {
                logs.push(std::fs::read(bench.path()).unwrap());
                states.push(std::fs::read(&state).unwrap());
                emit(&audit, usize::from(n < 5)).await;
            }
            // Waited for: its thread would write while the files are exchanged below.
            audit.close().await;
            let mut log = logs[of_log].clone();
            log.extend_from_slice(torn.as_bytes());
            let moved = bench.dir.path().join("audit.jsonl.1");
            std::fs::remove_file(bench.path()).unwrap();
            std::fs::write(&moved, log).unwrap();
            std::fs::write(&state, &states[of_state]).unwrap();
            // An older one, and what is none.
            std::fs::write(bench.dir.path().join("audit.jsonl.2"), &logs[0]).unwrap();
            std::fs::write(bench.dir.path().join("audit.jsonl.1.gz"), b"\x1f\x8b\n\n").unwrap();
            signs.store(true, Ordering::SeqCst);
            bench.run(1).await;
            let found = bench.verify_files(&[moved, bench.path()]);
            let found =
                found.unwrap_or_else(|fault| panic!("{of_log} {of_state} {torn:?}: {fault}"));
            assert_eq!((found.first, found.torn), (1, u64::from(!torn.is_empty())));
        }
    }
}

#[tokio::test]
async fn what_was_cut_off_a_file_that_was_moved_away_is_missed() {
    let bench = Bench::new();
    bench.run(5).await;
    let last = bench.verify().unwrap().last;
    let moved = bench.dir.path().join("audit.jsonl.1");
    std::fs::write(&moved, bench.lines()[..3].concat()).unwrap();
    std::fs::remove_file(bench.path()).unwrap();
    bench.run(1).await;
    let fault = bench.verify_files(&[moved, bench.path()]).unwrap_err();
    assert!(
        matches!(fault.fault, Fault::Missing { from: 4, to } if to == last.seq),
        "{fault}"
    );
}

/// Signs until it is told not to.
#[derive(Debug)]
struct Moody {
    signer: crate::signing::FileSigner,
    works: Arc<AtomicBool>,
}

impl Signer for Moody {
    fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; 64], SigningError> {
        match self.works.load(Ordering::SeqCst) {
            true => self.signer.sign(text),
            false => Err(SigningError::Slow),
        }
    }
}

#[test]
fn a_signer_that_fails_for_too_long_ends_what_is_allowed_and_a_good_one_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let works = Arc::new(AtomicBool::new(false));
    let moody = Moody {
        signer: crate::signing::testing::signer(dir.path(), "key"),
        works: Arc::clone(&works),
    };
    let signing = Signing::new(Arc::new(moody)).unwrap();
    let mut writer = log::tests::writer(dir.path(), signing);
    // The bound is a minute; the clock of the test does not wait for it.
    writer.event().unwrap();
    writer.until(|writer| writer.has_failed());
    writer.event().unwrap();
    writer.unsigned_for(std::time::Duration::from_secs(61));
    let error = writer.event().unwrap_err();
    assert!(matches!(error, AuditError::Unsigned { .. }), "{error}");
    works.store(true, Ordering::SeqCst);
    writer.until(|writer| !writer.has_failed());
    writer.event().unwrap();
}

fn chained(runs: &[usize]) -> Bench {
    let bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for events in runs {
        runtime.block_on(bench.run(*events));
    }
    bench
}

#[derive(Clone, Debug)]
enum Harm {
    Flip(Index, u8),
    Swap(Index, Index),
    Double(Index),
    Drop(Index),
}

fn harms() -> impl Strategy<Value = Harm> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        1 => (index(), index()).prop_map(|(a, b)| Harm::Swap(a, b)),
        1 => index().prop_map(Harm::Double),
        1 => index().prop_map(Harm::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_harm_is_found(runs in proptest::collection::vec(1..4_usize, 1..3), which in harms()) {
        let bench = chained(&runs);
        let honest = bench.verify().unwrap();
        prop_assert_eq!(honest.signed, honest.last.seq);
        let mut lines = bench.lines();
        let before = lines.concat();
        match &which {
            Harm::Flip(at, bit) => {
                let mut bytes = before.clone().into_bytes();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                std::fs::write(bench.path(), &bytes).unwrap();
            }
            Harm::Swap(a, b) => {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
                std::fs::write(bench.path(), lines.concat()).unwrap();
            }
            Harm::Double(at) => {
                let at = at.index(lines.len());
                let line = lines[at].clone();
                lines.insert(at, line);
                std::fs::write(bench.path(), lines.concat()).unwrap();
            }
            Harm::Drop(at) => {
                // The last one: that is cut off, which only a place elsewhere can know.
                let at = at.index(lines.len());
                lines.remove(at);
                std::fs::write(bench.path(), lines.concat()).unwrap();
            }
        }
        let changed = std::fs::read(bench.path()).unwrap() != before.as_bytes();
        let found = verify(&[bench.path()], bench.signing.keys(), &[honest.last]);
        // The first ones may have been left out by whoever verifies: that is told, and no fault.
        let told = found.as_ref().map_or(true, |found| found.first > 1);
        prop_assert_eq!(told, changed, "{:?}: {:?}", which, found);
    }
}
