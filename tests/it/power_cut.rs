//! Power cuts: the disk takes nothing more from one moment to the next, the daemon is gone, and what is found on the disk
//! afterwards is what docs/RECORDING-FORMAT.md promises.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::power::Disk;

const MIB: u64 = 1 << 20;

/// What was shown so long before the cut is on the disk.
const STABLE: Duration = Duration::from_millis(250);
/// For syncs that take longer than 100 ms, and threads that wait for a processor, where other tests run beside this one.
/// Most cuts are held to [`STABLE`] alone.
const BUSY: Duration = Duration::from_millis(350);
/// As many bytes may be missing, whenever they were shown.
const UNSYNCED: usize = 8 << 20;

/// A client of which is known what it had seen when.
struct Watched {
    id: String,
    client: Child,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    /// How many bytes there were at which moment.
    times: Vec<(Instant, usize)>,
}

impl Seen {
    /// How many bytes were there at a moment.
    fn until(&self, moment: Instant) -> usize {
        let before = self.times.iter().rev().find(|(at, _)| *at < moment);
        before.map_or(0, |(_, bytes)| *bytes)
    }

    /// When the byte at this place came.
    fn came(&self, place: usize) -> Option<Instant> {
        let after = self.times.iter().find(|(_, bytes)| *bytes > place);
        after.map(|(at, _)| *at)
    }
}

impl Watched {
    fn start(bastion: &Bastion, script: &str) -> Self {
        let mut ssh = bastion.ssh("operator-a", "viewer");
        ssh.arg(format!("echo $BASTION_SESSION; {script}"));
        let ssh = ssh.stdin(Stdio::null()).stderr(Stdio::null());
        let mut client = ssh.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = client.stdout.take().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sees = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            while let Ok(read @ 1..) = stdout.read(&mut chunk) {
                let now = Instant::now();
                let mut seen = sees.lock().unwrap();
                seen.bytes.extend_from_slice(&chunk[..read]);
                let bytes = seen.bytes.len();
                seen.times.push((now, bytes));
            }
        });
        let id = eventually("a session", || {
            let seen = seen.lock().unwrap();
            let line = seen.bytes.get(..26)?;
            Some(String::from_utf8(line.to_vec()).unwrap())
        });
        Self { id, client, seen }
    }

    fn bytes(&self) -> usize {
        self.seen.lock().unwrap().bytes.len()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.client.kill());
        drop(self.client.wait());
    }
}

/// What was found after a cut.
struct Found {
    /// How long before the cut the first byte was shown that is missing; nothing if none is.
    late: Duration,
    /// How many bytes are missing of what was shown.
    missing: usize,
}

/// Lets sessions end, lets one write, cuts the power once it has written `bytes` and a random moment has passed, and starts
/// a daemon on what is left.
fn cut(bastion: &mut Bastion, disk: &mut Disk, script: &str, bytes: usize) -> Found {
    let witness = bastion.path().join("witness");
    let watched = Watched::start(bastion, script);
    let short = bastion.run_ssh("operator-a", "viewer", "echo short");
    assert_eq!(short.code, Some(0), "{short:?}");
    keep_checkpoint(bastion, &witness);
    eventually("output", || (watched.bytes() > bytes).then_some(()));
    eventually("a sync that counts", || {
        (bastion.metric("recordings_syncs_total") > 0).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100 + nanoseconds() % 600));
    // What is said to be sealed is.
    let sealed = closed(bastion);

    let moment = disk.cut();
    bastion.signal("KILL");
    bastion.wait();
    disk.restore();
    bastion.run();

    let output = bastion.cli(&["verify", "--all", "--witness", witness.to_str().unwrap()]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    let line = said.lines().find(|line| line.starts_with(&watched.id));
    assert!(line.is_some_and(|it| it.contains("interrupted")), "{said}");
    let state = |id: &str| bastion.manifest(id).unwrap()["state"].clone();
    assert_eq!(state(&watched.id), "interrupted");
    assert!(!sealed.is_empty());
    for id in sealed {
        assert_eq!(state(&id), "complete", "{id}");
        assert!(said.contains(&id), "{id} is not in {said}");
    }
    let exported = bastion.cli(&["export", &watched.id, "--as", "raw", "--stream", "stdout"]);
    assert!(exported.status.success(), "{exported:?}");
    found(&watched.seen.lock().unwrap(), &exported.stdout, moment)
}

fn found(seen: &Seen, kept: &[u8], moment: Instant) -> Found {
    let same = seen.bytes.iter().zip(kept).take_while(|(a, b)| a == b);
    let same = same.count();
    // Without gaps: one is the beginning of the other.
    assert_eq!(same, seen.bytes.len().min(kept.len()));
    let shown = seen.until(moment);
    let first = seen.came(kept.len());
    Found {
        late: first.map_or(Duration::ZERO, |it| moment.saturating_duration_since(it)),
        missing: shown.saturating_sub(kept.len()),
    }
}

/// As somebody keeps it who looks whether the log's end is there still.
fn keep_checkpoint(bastion: &Bastion, witness: &Path) {
    let head = eventually("a checkpoint", || {
        let output = log(bastion, &["checkpoint"]);
        // The log may just be written.
        output.status.success().then_some(output.stdout)
    });
    std::fs::write(witness, head).unwrap();
}

fn log(bastion: &Bastion, args: &[&str]) -> Output {
    let (word, rest) = args.split_first().unwrap();
    Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(["log", word, "--config"])
        .arg(bastion.config_path())
        .args(rest)
        .output()
        .unwrap()
}

/// Sessions of which the daemon has said that they are closed, which it says when they are sealed.
fn closed(bastion: &Bastion) -> Vec<String> {
    let text = std::fs::read_to_string(bastion.state_dir().join("audit.jsonl")).unwrap();
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["event"] == "session.closed")
        .map(|event| event["session"].as_str().unwrap().to_owned())
        .collect()
}

fn nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().subsec_nanos().into()
}

/// The audit log too holds after all of these cuts.
fn audit_holds(bastion: &Bastion) {
    let file = bastion.state_dir().join("audit.jsonl");
    let output = log(bastion, &["verify-audit", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
}

/// A daemon on such a disk, of which the image takes what is written.
fn on_a_disk(bytes: u64) -> Option<(Bastion, Disk)> {
    let mut bastion = Bastion::prepare(|documents| documents);
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_bastion-audit")).unwrap();
    let disk = Disk::mount(&bastion.state_dir(), program.len() + bytes)?;
    bastion.run();
    Some((bastion, disk))
}

#[test]
fn a_power_cut_takes_nothing_that_was_shown_250_ms_before() {
    const CUTS: usize = 6;
    let Some((mut bastion, mut disk)) = on_a_disk(128 * MIB) else {
        return;
    };
    let script = "n=0; while sleep 0.01; do n=$((n+1)); echo tick $n; done";
    let mut late = Vec::new();
    for _ in 0..CUTS {
        late.push(cut(&mut bastion, &mut disk, script, 60).late);
    }
    audit_holds(&bastion);
    println!("{late:?}");
    // Something of the last moment is always lost, or nothing was cut.
    assert!(late.iter().any(|late| *late > Duration::ZERO), "{late:?}");
    assert!(late.iter().all(|late| *late < STABLE + BUSY), "{late:?}");
    let stable = late.iter().filter(|late| **late < STABLE).count();
    assert!(stable * 3 >= CUTS * 2, "{late:?}");
}

#[test]
fn a_power_cut_takes_at_most_8_mib_of_a_flood() {
    const CUTS: usize = 4;
    let Some((mut bastion, mut disk)) = on_a_disk(1024 * MIB) else {
        return;
    };
    let script = "n=0; while :; do seq $n $((n+9999)); n=$((n+10000)); done";
    for _ in 0..CUTS {
        // So much that what may be missing is not all of it.
        let found = cut(&mut bastion, &mut disk, script, 3 * UNSYNCED);
        println!("{} bytes of {:?}", found.missing, found.late);
        assert!(found.missing <= UNSYNCED, "{}", found.missing);
    }
    audit_holds(&bastion);
}
