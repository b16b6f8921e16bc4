//! The local socket: for the daemon's own OS user and root, nobody else; what is done there is on record.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::running::{Running, processes_of};
use crate::harness::token::Holder;

fn socket(bastion: &Bastion) -> PathBuf {
    bastion.state_dir().join("admin.sock")
}

/// Says something to the socket, a line or not; the answer.
fn say(bastion: &Bastion, words: &[u8]) -> Value {
    let mut stream = UnixStream::connect(socket(bastion)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(words).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer:?}"))
}

/// The acts on record, in order.
fn acts(bastion: &Bastion) -> Vec<Value> {
    let events = bastion.events().into_iter();
    let acts = events.filter(|event| event["event"] == "admin.act");
    acts.map(|event| {
        assert_eq!(event["uid"], rustix::process::geteuid().as_raw());
        event["act"].clone()
    })
    .collect()
}

fn worked(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sessions_are_listed_killed_and_revoked_and_each_act_is_on_record() {
    let bastion = Bastion::start();
    let killed = Running::start(&bastion, "operator-a", "viewer", "trap '' HUP; sleep 300");
    let revoked = Running::start(&bastion, "operator-b", "editor", "sleep 300");
    let stays = Running::start(&bastion, "operator-a", "editor", "sleep 300");
    let credential = bastion.run_ssh("operator-b", "editor", "bastion credential");
    let credential: Value = serde_json::from_str(&credential.stdout).unwrap();
    let holder = Holder::of(credential["status"]["token"].as_str().unwrap());
    let handed_out = bastion.event("lease.handed-out", |_| true)["session"].clone();
    let handed_out = handed_out.as_str().unwrap();

    let listed = worked(bastion.cli(&["sessions"]));
    let (table, out) = listed.split_once("Credentials handed out").unwrap();
    assert!(out.contains(handed_out), "{listed}");
    // As short as the table has them.
    let ids: Vec<&str> = table
        .lines()
        .filter(|line| line.contains(" live "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let short = |id: &str| {
        let begins = ids.iter().find(|prefix| id.starts_with(**prefix));
        begins.unwrap_or_else(|| panic!("{id} is not in {listed}"))
    };
    assert_eq!(ids.len(), 3, "{listed}");
    for id in [&revoked.id, &stays.id] {
        short(id);
    }

    // A session ends, and its client is told who did it.
    let id = killed.id.clone();
    let said = worked(bastion.cli(&["kill", short(&id)]));
    assert_eq!(said, format!("{id}: ended\n"));
    let ran = killed.wait();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let sentence = format!("bastion-audit: session {id} was ended: an administrator ended it\n");
    assert_eq!(ran.stderr, sentence);
    bastion.nothing_left(&id);
    let again = Ran::from(bastion.cli(&["kill", &id]));
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("is not open"), "{again:?}");

    // All of an identity's: what is open, and what was handed out.
    let said = worked(bastion.cli(&["revoke", "--identity", "operator-b"]));
    assert_eq!(
        said,
        format!("{handed_out}: revoked\n1 open session ended\n")
    );
    let end = Instant::now();
    let ran = revoked.wait();
    assert!(
        ran.stderr.contains("an administrator revoked it"),
        "{ran:?}"
    );
    holder.is_refused_after(end);
    let nothing = worked(bastion.cli(&["revoke", handed_out]));
    assert_eq!(nothing, "nothing was open or handed out\n");
    assert!(!processes_of(&stays.id).is_empty());

    assert_eq!(
        acts(&bastion),
        [
            json!("sessions"),
            json!("sessions"),
            json!({"kill": {"session": id, "found": true}}),
            json!({"kill": {"session": id, "found": false}}),
            json!({"revoke": {"what": "operator-b", "met": 2}}),
            json!({"revoke": {"what": handed_out, "met": 0}}),
        ]
    );
}

#[test]
fn nobody_else_may_ask() {
    let bastion = Bastion::start();
    let running = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    let mode = std::fs::metadata(socket(&bastion)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o7777, 0o600);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: to be somebody else takes root");
        return;
    }
    // Where others may execute it.
    let program = bastion.path().join("bin/bastion-audit");
    std::fs::copy(env!("CARGO_BIN_EXE_bastion-audit"), &program).unwrap();
    let kill = || {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["kill", "--state-dir"])
            .arg(bastion.state_dir())
            .arg(&running.id)
            .current_dir("/")
            .output();
        Ran::from(output.unwrap())
    };
    let ran = kill();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("Permission denied"), "{ran:?}");
    // Even if somebody opens the way to it.
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(socket(&bastion), open).unwrap();
    let ran = kill();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let sentence = "only the daemon's own OS user and root may ask";
    assert!(ran.stderr.contains(sentence), "{ran:?}");
    assert!(!processes_of(&running.id).is_empty());
    assert_eq!(acts(&bastion), Vec::<Value>::new());
}

#[test]
fn what_makes_no_sense_is_answered_and_does_nothing() {
    let bastion = Bastion::start();
    let running = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    let id = running.id.as_str();
    for words in [
        "",
        "\n",
        "{\n",
        "[]\n",
        "\"sessions\"\n",
        "{\"word\": \"shutdown\"}\n",
        "{\"word\": \"kill\"}\n",
        "{\"word\": \"kill\", \"session\": \"../../etc\"}\n",
        "{\"word\": \"revoke\"}\n",
        &format!("{{\"word\": \"kill\", \"session\": \"{id}\", \"and\": 1}}\n"),
        &format!("{{\"word\": \"revoke\", \"session\": \"{id}\", \"identity\": \"operator-a\"}}\n"),
        &format!("{}\n", "[".repeat(100_000)),
    ] {
        let answer = say(&bastion, words.as_bytes());
        assert!(answer["error"].is_string(), "{words:.80}: {answer}");
    }
    let answer = say(&bastion, b"\xff\xfe\n");
    assert!(answer["error"].is_string(), "{answer}");
    assert!(!processes_of(id).is_empty());
    assert_eq!(acts(&bastion), Vec::<Value>::new());
}

#[test]
fn who_never_stops_talking_or_says_nothing_keeps_nobody_waiting() {
    let bastion = Bastion::start();
    let silent: Vec<UnixStream> = (0..12)
        .map(|_| UnixStream::connect(socket(&bastion)).unwrap())
        .collect();
    let mut endless = UnixStream::connect(socket(&bastion)).unwrap();
    endless
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let block = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 64 && endless.write_all(&block).is_ok() {
        sent += 1;
    }
    assert!(sent < 16, "{sent} MiB were taken as one line");
    let began = Instant::now();
    worked(bastion.cli(&["sessions"]));
    assert!(began.elapsed() < Duration::from_secs(5));
    // Nor for longer than it takes to say something.
    let mut first = &silent[0];
    first
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap();
}
