//! Disks without room: sessions end sealed, nobody new gets in but who is needed to make room, and it is said once.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::running::Running;
use crate::harness::small_disk::SmallDisk;

/// How soon a session ends that cannot be recorded any more.
const SOON: Duration = Duration::from_secs(5);
/// More than a page each time: what a file has of its last one can be written even when nothing is left.
const TICKING: &str = "while sleep 0.1; do printf 'tick%8192s\\n' .; done";

const MIB: u64 = 1 << 20;
const RESERVE: u64 = 4 * MIB;

const NO_SPACE: &str = "no space is left for recordings";

/// With a rescue role for operator-b.
fn prepare(recordings: &str) -> Bastion {
    Bastion::prepare(|documents| {
        let recordings = format!(
            "  stateDir: state\n  recordings: {{reserve: 4MiB, warnAt: 90%{recordings}}}\n"
        );
        documents.replace("  stateDir: state\n", &recordings)
            + "---\n\
            apiVersion: bastion-audit.dev/v1alpha1\n\
            kind: Role\n\
            metadata: {name: rescue}\n\
            spec:\n  \
              kubernetes: {clusters: [prod], serviceAccount: {namespace: bastion-viewer, name: viewer}}\n  \
              credentialTtl: 10m\n  \
              maxSession: 15m\n  \
              sessions: [exec]\n  \
              rescue: true\n\
            ---\n\
            apiVersion: bastion-audit.dev/v1alpha1\n\
            kind: Binding\n\
            metadata: {name: rescuers}\n\
            spec: {subjects: [{identity: operator-b}], roles: [rescue]}\n"
    })
}

/// Of which the daemon's program, which it copies, takes less than the mark.
fn size() -> u64 {
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_bastion-audit")).unwrap();
    program.len() + program.len() / 4 + 16 * MIB
}

/// Also of a log of which a line is torn.
fn events(bastion: &Bastion, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bastion.state_dir().join("audit.jsonl")).unwrap();
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["event"] == name).collect()
}

fn one_event(bastion: &Bastion, name: &str) -> Value {
    eventually(&format!("one {name}"), || {
        let mut events = events(bastion, name);
        (events.len() == 1).then(|| events.remove(0))
    })
}

fn refused(ran: &Ran, why: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
    assert!(ran.stderr.contains(why), "{ran:?}");
}

fn ran(ran: &Ran, stdout: &str) {
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        (stdout, Some(0)),
        "{ran:?}"
    );
}

/// All of it ended soon, and was told why.
fn ended(sessions: impl IntoIterator<Item = Running>, why: &str) {
    let began = Instant::now();
    for running in sessions {
        let ended = running.wait();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(ended.code, Some(255), "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
        let sentence = "nothing runs unrecorded";
        assert!(ended.stderr.contains(sentence), "{ended:?}");
    }
}

fn sealed(bastion: &Bastion, ids: &[String], why: &str) {
    for id in ids {
        let reason = bastion.cut_reason(id);
        assert!(reason.contains(why), "{reason}");
        let closed = eventually("session.closed", || {
            let mut closed = events(bastion, "session.closed");
            closed.retain(|event| event["session"] == id.as_str());
            closed.pop()
        });
        assert!(closed["checkpointSha256"].is_string(), "{closed}");
    }
}

/// What `verify` finds, and that it finds nothing wrong.
fn sound(bastion: &Bastion) -> String {
    let output = bastion.cli(&["verify", "--all"]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let chain = Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(["log", "verify-audit", "--config"])
        .arg(bastion.config_path())
        .arg(bastion.state_dir().join("audit.jsonl"))
        .output()
        .unwrap();
    assert!(chain.status.success(), "{chain:?}");
    said
}

/// A file of a rescue session as the daemon's standard error has it.
fn told(bastion: &Bastion, id: &str, file: &str) -> String {
    let log = bastion.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["rescue"] == id && line["file"] == file);
    lines
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_full_disk_ends_sessions_sealed_and_lets_only_a_rescuer_in() {
    let mut bastion = prepare("");
    let Some(disk) = SmallDisk::mount(&bastion.state_dir(), size(), None) else {
        return;
    };
    bastion.run();
    assert_eq!(bastion.metric("storage_reserved_bytes"), RESERVE);
    assert_eq!(bastion.metric("storage_low{what=\"bytes\"}"), 0);
    let busy: Vec<Running> = (0..3)
        .map(|_| Running::start(&bastion, "operator-a", "viewer", TICKING))
        .collect();
    // It records nothing, and ends all the same.
    let idle = Running::start(&bastion, "operator-a", "viewer", "cat");
    let all: Vec<Running> = busy.into_iter().chain([idle]).collect();
    let ids: Vec<String> = all.iter().map(|one| one.id.clone()).collect();

    // It is said before, once, and ends nothing.
    disk.fill_but(6 * MIB);
    let low = one_event(&bastion, "storage.low");
    assert_eq!(low["what"], "bytes", "{low}");
    assert!(low["usedPercent"].as_u64() >= Some(90), "{low}");
    assert_eq!(bastion.metric("storage_low{what=\"bytes\"}"), 1);
    assert_eq!(bastion.metric("storage_low{what=\"inodes\"}"), 0);
    assert_eq!(bastion.metric("sessions_open"), 4);

    disk.fill();
    ended(all, NO_SPACE);
    sealed(&bastion, &ids, NO_SPACE);
    let failed = one_event(&bastion, "storage.failed");
    assert_eq!(failed["trouble"], "noSpace", "{failed}");
    assert_eq!(bastion.metric("storage_failures_total"), 1);
    assert_eq!(bastion.metric("storage_failed{reason=\"no_space\"}"), 1);
    sound(&bastion);

    // Nobody gets in, whatever is left of the reserve; who is needed does.
    for _ in 0..3 {
        for (who, login) in [("operator-a", "viewer"), ("operator-b", "editor")] {
            refused(&bastion.run_ssh(who, login, "echo it runs"), NO_SPACE);
        }
    }
    let credential = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!(credential.stdout, "", "{credential:?}");
    assert!(credential.stderr.contains(NO_SPACE), "{credential:?}");
    // What anybody who reaches the port can cause takes nothing of what is kept back.
    let connections = events(&bastion, "connection.opened").len();
    for _ in 0..3 {
        refused(&bastion.run_ssh("nobody-a", "viewer", "echo it runs"), "");
    }
    assert_eq!(events(&bastion, "connection.opened").len(), connections);
    let mut rescued = Running::start(
        &bastion,
        "operator-b",
        "rescue",
        "cat; kubectl auth whoami -o name; echo rescued-here",
    );
    let second = Running::start(&bastion, "operator-b", "rescue", "cat");
    refused(
        &bastion.run_ssh("operator-b", "rescue", "echo it runs"),
        "2 sessions of the rescue role are open already",
    );
    drop(second);
    let id = rescued.id.clone();
    rescued.close_stdin();
    let ended = rescued.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with("rescued-here\n"), "{ended:?}");
    let manifest = eventually("a sealed recording", || bastion.manifest(&id));
    assert_eq!(manifest["state"], "complete", "{manifest}");
    // Byte for byte in a second place.
    let cast = told(&bastion, &id, "session.cast");
    assert_eq!(cast, bastion.cast(&id));
    assert!(cast.contains("rescued-here"));
    assert_eq!(told(&bastion, &id, "requests.jsonl"), bastion.requests(&id));
    // Nothing of it is packed as long as that would take the last room.
    let directory = bastion.recording(&id).unwrap();
    assert!(directory.join("session.cast").exists());

    // Once there is room it goes on, without a restart, and the reserve is whole again.
    disk.free();
    let recovered = one_event(&bastion, "storage.recovered");
    assert_eq!(recovered["trouble"], "noSpace", "{recovered}");
    ran(
        &bastion.run_ssh("operator-a", "viewer", "echo it runs"),
        "it runs\n",
    );
    bastion.metric_becomes("storage_reserved_bytes", RESERVE);
    bastion.metric_becomes("storage_low{what=\"bytes\"}", 0);
    assert_eq!(bastion.metric("storage_failed{reason=\"no_space\"}"), 0);
    assert_eq!(bastion.metric("storage_failures_total"), 1);
    assert_eq!(events(&bastion, "storage.failed").len(), 1);
    bastion.packed(&id);
    let said = sound(&bastion);
    for id in ids.iter().chain([&id]) {
        assert!(said.contains(id), "{id} is not in {said}");
    }
}

/// Where what was given up counts as free only a moment later.
#[test]
fn a_full_disk_of_another_kind_is_no_other() {
    let mut bastion = prepare("");
    let image = bastion.path().join("image");
    let Some(disk) = SmallDisk::mount_image(&bastion.state_dir(), &image, size() + 64 * MIB) else {
        return;
    };
    bastion.run();
    let all = [TICKING, TICKING, "cat"]
        .map(|script| Running::start(&bastion, "operator-a", "viewer", script));
    let ids: Vec<String> = all.iter().map(|one| one.id.clone()).collect();
    disk.fill();
    ended(all, NO_SPACE);
    sealed(&bastion, &ids, NO_SPACE);
    one_event(&bastion, "storage.failed");
    only_the_rescuer_gets_in(&bastion);
    sound(&bastion);
    disk.free();
    one_event(&bastion, "storage.recovered");
    ran(
        &bastion.run_ssh("operator-a", "viewer", "echo it runs"),
        "it runs\n",
    );
    sound(&bastion);
}

fn only_the_rescuer_gets_in(bastion: &Bastion) {
    refused(
        &bastion.run_ssh("operator-a", "viewer", "echo it runs"),
        NO_SPACE,
    );
    ran(
        &bastion.run_ssh("operator-b", "rescue", "echo rescued-here"),
        "rescued-here\n",
    );
}

#[test]
fn a_daemon_starts_on_a_full_disk_and_lets_the_rescuer_in() {
    let mut bastion = prepare("");
    let Some(disk) = SmallDisk::mount(&bastion.state_dir(), size(), None) else {
        return;
    };
    bastion.run();
    assert!(bastion.stop().success());
    disk.fill();
    bastion.run();
    one_event(&bastion, "storage.failed");
    only_the_rescuer_gets_in(&bastion);
    disk.free();
    one_event(&bastion, "storage.recovered");
    ran(
        &bastion.run_ssh("operator-a", "viewer", "echo it runs"),
        "it runs\n",
    );
    sound(&bastion);
}

#[test]
fn a_file_system_without_inodes_is_a_full_one() {
    let mut bastion = prepare("");
    let Some(disk) = SmallDisk::mount(&bastion.state_dir(), size(), Some(400)) else {
        return;
    };
    bastion.run();
    let running = Running::start(&bastion, "operator-a", "viewer", "cat");
    let ids = [running.id.clone()];
    disk.fill_inodes();
    // A new recording finds out.
    refused(
        &bastion.run_ssh("operator-a", "viewer", "echo it runs"),
        NO_SPACE,
    );
    ended([running], NO_SPACE);
    sealed(&bastion, &ids, NO_SPACE);
    let failed = one_event(&bastion, "storage.failed");
    assert_eq!(failed["trouble"], "noSpace", "{failed}");
    ran(
        &bastion.run_ssh("operator-b", "rescue", "echo rescued-here"),
        "rescued-here\n",
    );
    let low = one_event(&bastion, "storage.low");
    assert_eq!(low["what"], "inodes", "{low}");
    assert_eq!(bastion.metric("storage_low{what=\"inodes\"}"), 1);
    sound(&bastion);
    disk.free_inodes();
    one_event(&bastion, "storage.recovered");
    ran(
        &bastion.run_ssh("operator-a", "viewer", "echo it runs"),
        "it runs\n",
    );
    sound(&bastion);
}

#[test]
fn a_rescuer_under_encryption_is_on_record_twice_and_nowhere_in_clear() {
    let identity = age::x25519::Identity::generate();
    let mut bastion = prepare(&format!(", recipients: [{}]", identity.to_public()));
    bastion.run();
    let running = Running::start(&bastion, "operator-b", "rescue", "echo rescued-here");
    let id = running.id.clone();
    ran(&running.wait(), "rescued-here\n");
    eventually("a sealed recording", || bastion.manifest(&id));
    let log = bastion.log();
    let lines = log
        .lines()
        .filter(|line| line.starts_with('{') && line.contains(&id));
    let lines: Vec<&str> = lines.collect();
    for file in ["session.spool", "spool.key.age", "manifest.json"] {
        let named = format!("\"file\":\"{file}\"");
        assert!(lines.iter().any(|line| line.contains(&named)), "{file}");
    }
    assert!(!lines.iter().any(|line| line.contains("rescued-here")));
}

/// Everybody is sent away, it is said once, and after a restart on a disk in order nothing is wrong.
fn refuses_everybody(bastion: &Bastion, sessions: Vec<Running>) {
    let began = Instant::now();
    for running in sessions {
        let ended = running.wait();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(ended.code, Some(255), "{ended:?}");
        let sentence = "nothing runs unrecorded";
        assert!(ended.stderr.contains(sentence), "{ended:?}");
    }
    assert_eq!(bastion.metric("storage_failures_total"), 1);
    let failed = |reason| bastion.metric(&format!("storage_failed{{reason=\"{reason}\"}}"));
    eventually("word of it", || {
        (failed("read_only") + failed("broken") == 1).then_some(())
    });
    // Not even a rescuer: there is nowhere to record them.
    for login in ["editor", "rescue"] {
        let ran = bastion.run_ssh("operator-b", login, "echo it runs");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
    }
    let log = bastion.log();
    let loud = log.lines().filter(|line| {
        line.contains("ERROR") && line.contains("open sessions are ended and new ones refused")
    });
    assert_eq!(loud.count(), 1, "{log}");
}

#[test]
fn a_disk_that_goes_read_only_ends_every_session_and_refuses_new_ones() {
    let mut bastion = prepare("");
    let image = bastion.path().join("image");
    let Some(disk) = SmallDisk::mount_image(&bastion.state_dir(), &image, size() + 64 * MIB) else {
        return;
    };
    bastion.run();
    let busy = Running::start(&bastion, "operator-a", "viewer", TICKING);
    let idle = Running::start(&bastion, "operator-a", "viewer", "cat");
    let id = busy.id.clone();
    disk.abort();
    refuses_everybody(&bastion, vec![busy, idle]);

    bastion.signal("KILL");
    bastion.wait();
    disk.mend(&image);
    bastion.run();
    ran(
        &bastion.run_ssh("operator-a", "viewer", "echo it runs"),
        "it runs\n",
    );
    let manifest = eventually("a closed recording", || bastion.manifest(&id));
    assert_eq!(manifest["state"], "interrupted", "{manifest}");
    let output = bastion.cli(&["verify", "--all"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_disk_that_answers_with_errors_ends_every_session_and_refuses_new_ones() {
    let mut bastion = prepare("");
    // An image that has no room for what is written into it.
    let under = bastion.path().join("under");
    let Some(backing) = SmallDisk::mount(&under, size(), None) else {
        return;
    };
    let image = under.join("image");
    let Some(disk) = SmallDisk::mount_image(&bastion.state_dir(), &image, size() + 64 * MIB) else {
        return;
    };
    bastion.run();
    let busy = Running::start(&bastion, "operator-a", "viewer", TICKING);
    let idle = Running::start(&bastion, "operator-a", "viewer", "cat");
    backing.fill();
    refuses_everybody(&bastion, vec![busy, idle]);
    drop(disk);
}
