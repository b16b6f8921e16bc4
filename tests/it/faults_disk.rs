//! Disks that are full and files that cannot be written: nothing runs unrecorded, and it is said why.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::running::{Running, processes_of};
use crate::harness::small_disk::SmallDisk;

/// How soon a session ends that cannot be recorded any more.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_full_disk_ends_what_cannot_be_recorded_and_is_survived() {
    let mut bastion = Bastion::prepare(|standard| standard);
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_bastion-audit")).unwrap();
    let size = program.len() + (8 << 20);
    let Some(disk) = SmallDisk::mount(&bastion.state_dir(), size, None) else {
        return;
    };
    bastion.run();
    // More than a page each time: what a file has of its last one can be written even now.
    let ticking = "while sleep 0.1; do printf 'tick%8192s\\n' .; done";
    let running = Running::start(&bastion, "operator-a", "viewer", ticking);
    let id = running.id.clone();
    let handed_out = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!(handed_out.code, Some(0), "{handed_out:?}");

    // Somebody has taken what was kept back, too: tests/it/full_disk.rs is about when it is there.
    let reserve = bastion.state_dir().join("reserve");
    for entry in std::fs::read_dir(&reserve).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    disk.fill();
    let began = Instant::now();
    let ended = running.wait();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(ended.code, Some(255), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains(&format!("bastion-audit: session {id} was ended"))
            && ended.stderr.contains("nothing runs unrecorded"),
        "{ended:?}"
    );
    bastion.nothing_left(&id);
    let failed = format!(
        r#""event":"session.failed","session":"{id}","identity":"operator-a","step":"recording""#
    );
    eventually("a word in the daemon's log", || {
        let log = bastion.log();
        let told = log.contains("no space is left for recordings") && log.contains(&failed);
        told.then_some(())
    });

    for _ in 0..3 {
        refused(&bastion.run_ssh("operator-a", "viewer", "echo it runs"));
    }
    // A file's last page takes a few lines more, and what is on record may be given. Then no more.
    disk.fill();
    let no_credential = (0..40)
        .map(|_| bastion.run_ssh("operator-b", "editor", "bastion credential"))
        .find(|ran| ran.code != Some(0))
        .expect("a credential that is on no record");
    assert_eq!(no_credential.stdout, "", "{no_credential:?}");

    disk.free();
    bastion.metric_becomes("storage_failed{reason=\"no_space\"}", 0);
    let ran = bastion.run_ssh("operator-a", "viewer", "kubectl auth whoami -o name");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // One torn line at most, and what came after it stands alone.
    let text = std::fs::read_to_string(bastion.state_dir().join("audit.jsonl")).unwrap();
    let torn = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err())
        .count();
    assert!(torn <= 1, "{torn} lines of the audit log cannot be read");
    // What could not be sealed is not called complete, now or after a restart.
    assert_eq!(state_of(&bastion, &id), "interrupted");
    assert!(bastion.stop().success());
    bastion.run();
    assert_eq!(state_of(&bastion, &id), "interrupted");
    let cast = bastion.cast(&id);
    assert!(cast.ends_with('\n') && cast.contains("tick"), "{cast}");
}

/// As an auditor sees it over ssh.
fn state_of(bastion: &Bastion, id: &str) -> String {
    let ran = bastion.run_ssh("auditor-a", "auditor", "bastion sessions --json");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let sessions = ran.stdout.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{line}"))
    });
    let mut found = sessions.filter(|entry| entry["session"]["session"] == id);
    let found = found.next().unwrap_or_else(|| panic!("{ran:?}"));
    found["state"].as_str().unwrap().to_owned()
}

/// Nothing ran, and whoever asked was told something.
fn refused(ran: &Ran) {
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert!(!ran.stderr.trim().is_empty(), "{ran:?}");
}

#[test]
fn a_recording_that_cannot_be_opened_is_a_session_that_is_refused() {
    let bastion = Bastion::start();
    let recordings = bastion.state_dir().join("recordings");
    let kept = bastion.state_dir().join("kept");
    let running = Running::start(&bastion, "operator-a", "viewer", "cat");
    std::fs::rename(&recordings, &kept).unwrap();
    std::fs::write(&recordings, "").unwrap();

    let ran = bastion.run_ssh("operator-a", "viewer", "echo it runs");
    refused(&ran);
    let sentence = "this session cannot be recorded, so it is refused; tell your administrator";
    assert!(ran.stderr.contains(sentence), "{ran:?}");
    let failed = bastion.event("session.failed", |_| true);
    assert_eq!(failed["step"], "recording", "{failed}");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("Not a directory"), "{reason}");
    let issued = bastion
        .events()
        .into_iter()
        .filter(|event| event["event"] == "lease.issued")
        .count();
    assert_eq!(issued, 1, "nothing is minted for what cannot be recorded");

    std::fs::remove_file(&recordings).unwrap();
    std::fs::rename(&kept, &recordings).unwrap();
    let ran = bastion.run_ssh("operator-a", "viewer", "echo it runs");
    assert_eq!((ran.stdout.as_str(), ran.code), ("it runs\n", Some(0)));
    drop(running);
}

#[test]
fn without_an_audit_log_nothing_is_allowed() {
    let bastion = Bastion::start();
    let socket = bastion.path().join("control");
    let path = format!("ControlPath={}", socket.display());
    let mut shared = bastion.ssh("operator-a", "viewer");
    shared.args(["-o", "ControlMaster=yes", "-o", &path]);
    let mut running = Running::by(shared, "cat");
    let log = bastion.state_dir().join("audit.jsonl");
    let kept = bastion.state_dir().join("audit.jsonl.1");
    std::fs::rename(&log, &kept).unwrap();
    std::fs::create_dir(&log).unwrap();

    // Nobody new is proven.
    refused(&bastion.run_ssh("operator-a", "viewer", "echo it runs"));
    // Who is proven already starts nothing new, and hears why.
    let another = || {
        let mut ssh = bastion.ssh("operator-a", "viewer");
        ssh.args(["-o", "ControlMaster=no", "-o", &path, "echo it runs"]);
        Ran::from(ssh.stdin(Stdio::null()).output().unwrap())
    };
    let ran = another();
    refused(&ran);
    let sentence =
        "the audit log cannot be written, so nothing is allowed; tell your administrator";
    assert!(ran.stderr.contains(sentence), "{ran:?}");
    // What runs is recorded still, and goes on.
    running.send("still here\n");

    std::fs::remove_dir(&log).unwrap();
    let ran = another();
    assert_eq!((ran.stdout.as_str(), ran.code), ("it runs\n", Some(0)));
    running.close_stdin();
    assert_eq!(running.wait().stdout, "still here\n");
}

#[test]
fn a_state_directory_that_others_can_read_is_refused_with_the_line_that_helps() {
    let bastion = Bastion::prepare(|standard| standard);
    let state = bastion.state_dir();
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = bastion.spawn().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "it never served");
    let said = bastion.log();
    let advice = format!("chmod 0711 {}", state.display());
    assert!(said.contains(&advice), "{said}");
    // And the advice is good.
    let status = Command::new("sh").args(["-c", &advice]).status();
    assert!(status.unwrap().success());
    let mut bastion = bastion;
    bastion.run();
}

#[test]
fn two_daemons_on_one_state_directory_are_one_too_many() {
    let bastion = Bastion::start();
    let running = Running::start(&bastion, "operator-a", "viewer", "cat");
    let output = bastion.spawn().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "it never served");
    let said = bastion.log();
    let sentence = format!("another daemon runs on {}", bastion.state_dir().display());
    assert!(said.contains(&sentence), "{said}");
    // The first has lost nothing: not its socket, not its sessions, not their directories.
    assert!(!processes_of(&running.id).is_empty());
    assert!(bastion.state_dir().join("run").join(&running.id).exists());
    let killed = bastion.cli(&["kill", &running.id]);
    assert!(killed.status.success(), "{killed:?}");
    assert_eq!(bastion.cut_reason(&running.id), "an administrator ended it");
}

#[test]
fn nobody_else_can_open_what_the_daemon_keeps() {
    let bastion = Bastion::start();
    let running = Running::start(&bastion, "operator-a", "viewer", "cat");
    let ran = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut directories = vec![bastion.state_dir()];
    let mut seen = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                directories.push(entry.path());
                continue;
            }
            let name = entry.file_name().into_string().unwrap();
            // What runs in sandboxes, and what is a session's own.
            let of_sessions = name == "sandbox-init"
                || entry
                    .path()
                    .components()
                    .any(|part| part.as_os_str() == "run");
            let mode = meta.permissions().mode();
            assert!(
                of_sessions || mode & 0o077 == 0,
                "{mode:o} {}",
                entry.path().display()
            );
            seen.push(name);
        }
    }
    for name in [
        "lock",
        "leases.lock",
        "leases.jsonl",
        "audit.jsonl",
        "admin.sock",
        "session.cast",
    ] {
        assert!(
            seen.iter().any(|one| one == name),
            "{name} is not in {seen:?}"
        );
    }
    drop(running);
}
