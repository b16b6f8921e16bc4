//! What happened is on record: whole, exact, playable, and found again.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::harness::bastion::{Bastion, Ran, drain};
use crate::harness::running::Running;
use crate::harness::terminal::Terminal;

/// Runs a command whose first line on stderr is its session's id, with bytes on its input: the id, its stdout.
fn run(bastion: &Bastion, command: &str, input: Vec<u8>) -> (String, Vec<u8>) {
    let mut child = bastion
        .ssh("operator-a", "viewer")
        .arg(format!("echo $BASTION_SESSION >&2; {command}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&input).unwrap();
    drop(stdin);
    child.wait().unwrap();
    let said = stderr.join().unwrap();
    let id = String::from_utf8_lossy(&said[..said.len().min(26)]).into_owned();
    assert_eq!(id.len(), 26, "{}", String::from_utf8_lossy(&said));
    (id, stdout.join().unwrap())
}

/// Bytes that nothing shortens, the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn export(bastion: &Bastion, id: &str, shape: &[&str]) -> Vec<u8> {
    let output = bastion.cli(&[&["export", id, "--as"], shape].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    output.stdout
}

/// A cast's lines below its header: code and data.
fn events(cast: &str) -> Vec<(String, String)> {
    let lines = cast.lines().skip(1);
    lines
        .map(|line| {
            let event: (f64, String, String) = serde_json::from_str(line).unwrap();
            (event.1, event.2)
        })
        .collect()
}

fn input_of(cast: &str) -> Vec<u8> {
    let mut input = Vec::new();
    for (code, data) in events(cast) {
        match code.as_str() {
            "i" => input.extend_from_slice(data.as_bytes()),
            "j" => input.extend_from_slice(&STANDARD.decode(data).unwrap()),
            _ => {}
        }
    }
    input
}

#[test]
fn a_random_stream_is_the_same_at_both_ends_and_on_record() {
    let bastion = Bastion::shared();
    let sent = noise(64 << 20);
    let (id, received) = run(bastion, "cat", sent.clone());
    assert!(received == sent, "{} bytes came back", received.len());
    let exported = export(bastion, &id, &["raw", "--stream", "stdout"]);
    assert!(exported == sent, "{} bytes on record", exported.len());
    let manifest = bastion.manifest(&id).unwrap();
    assert_eq!(manifest["totals"]["stdinBytes"], 64 << 20, "{manifest}");
    assert_eq!(manifest["totals"]["stdoutBytes"], 64 << 20);
    assert_eq!(manifest["cast"]["bytes"], bastion.cast(&id).len());
    let packed = bastion.packed(&id);
    let manifest = bastion.manifest(&id).unwrap();
    for (name, file) in manifest["files"].as_object().unwrap() {
        let sum = Command::new("sha256sum")
            .arg(packed.join(name))
            .output()
            .unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert_eq!(file["sha256"], sum[..64], "{name}");
    }
    // Large, and of no more use: other tests want the disk.
    std::fs::remove_dir_all(bastion.recording(&id).unwrap()).unwrap();
}

#[test]
fn the_streams_of_a_command_are_on_record_apart_and_exactly() {
    let bastion = Bastion::shared();
    let input = [
        &b"caf\xc3\xa9 \x1b[31m\0\xff\xfe"[..],
        &noise(100_000),
        b"\nend",
    ]
    .concat();
    let (id, stdout) = run(bastion, "tee /dev/stderr; exit 5", input.clone());
    assert!(stdout == input);
    assert!(export(bastion, &id, &["raw", "--stream", "stdout"]) == input);
    let stderr = export(bastion, &id, &["raw", "--stream", "stderr"]);
    assert!(stderr == [format!("{id}\n").as_bytes(), &input].concat());
    let cast = bastion.cast(&id);
    assert!(input_of(&cast) == input, "what ran is what was sent");
    assert!(events(&cast).contains(&("x".into(), "5".into())));
    assert_eq!(
        bastion.manifest(&id).unwrap()["ending"],
        serde_json::json!({"exit": 5})
    );
}

#[test]
fn a_script_is_on_record_and_a_password_at_a_terminal_is_not() {
    let bastion = Bastion::shared();
    let (id, _) = run(bastion, "bash", b"echo from a script\n".to_vec());
    assert_eq!(input_of(&bastion.cast(&id)), b"echo from a script\n");

    let mut ssh = bastion.ssh("operator-a", "viewer");
    ssh.args([
        "-tt",
        "echo in $BASTION_SESSION; read -s -p 'secret: ' word; echo ${#word} long",
    ]);
    let mut terminal = Terminal::start(ssh, 80, 24);
    terminal.expect("in ");
    let id = terminal.expect("\r\n");
    terminal.expect("secret: ");
    terminal.resize(100, 40);
    terminal.send("correct horse\r");
    terminal.expect("13 long");
    assert_eq!(terminal.wait(), Some(0));
    let cast = bastion.cast(&id);
    assert!(!cast.contains("correct"), "{cast}");
    assert!(cast.contains("13 long"));
    assert!(
        events(&cast).contains(&("r".into(), "100x40".into())),
        "{cast}"
    );
    let manifest = bastion.manifest(&id).unwrap();
    assert_eq!(manifest["coverage"]["stdin"], "off", "{manifest}");
    assert_eq!(manifest["coverage"]["terminal"], "recorded");
    assert_eq!(manifest["totals"]["stdinBytes"], "correct horse\r".len());
}

#[test]
fn the_header_says_who_why_what_and_where() {
    let bastion = Bastion::shared();
    let (id, _) = run(bastion, "kubectl version --client", Vec::new());
    let header = bastion.cast(&id);
    let header: Value = serde_json::from_str(header.lines().next().unwrap()).unwrap();
    assert_eq!(header["version"], 3);
    let ours = &header["bastion"];
    let authenticated = bastion.event("policy.granted", |event| event["session"] == id.as_str());
    for (key, value) in [
        ("session", id.as_str()),
        ("instance", "test"),
        ("identity", "operator-a"),
        (
            "fingerprint",
            authenticated["fingerprint"].as_str().unwrap(),
        ),
        ("role", "viewer"),
        ("binding", "sre-viewers"),
        ("reason", "on call"),
        ("cluster", "prod"),
        ("subject", "system:serviceaccount:bastion-viewer:viewer"),
        ("kind", "exec"),
        (
            "command",
            "echo $BASTION_SESSION >&2; kubectl version --client",
        ),
    ] {
        assert_eq!(ours[key], value, "{key}: {ours}");
    }
    assert_eq!(ours["groups"], serde_json::json!(["sre"]));
    let client = &ours["client"];
    assert!(
        client["address"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    assert!(
        client["client"]
            .as_str()
            .unwrap()
            .starts_with("SSH-2.0-OpenSSH")
    );
    let digest = |event: &Value| event["grant"]["configDigest"].clone();
    assert_eq!(
        ours["configDigest"],
        digest(&authenticated),
        "{authenticated}"
    );

    // The manifest repeats it, and lists what was issued for it.
    let manifest = bastion.manifest(&id).unwrap();
    assert_eq!(manifest["session"]["session"], id.as_str());
    let events = bastion.events();
    let issued: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "lease.issued" && event["session"] == id.as_str())
        .map(|event| &event["jti"])
        .collect();
    let listed = manifest["leases"].as_array().unwrap().iter();
    let listed: Vec<&Value> = listed.map(|lease| &lease["jti"]).collect();
    assert_eq!(listed, issued);
    assert_eq!(listed.len(), 1);
    let closed = bastion.event("session.closed", |event| event["session"] == id.as_str());
    assert_eq!(closed["castBytes"], manifest["cast"]["bytes"]);
    let checkpoints = std::fs::read_to_string(bastion.packed(&id).join("checkpoints")).unwrap();
    let parts: Vec<&str> = checkpoints.split("\n\n").collect();
    let sealed = parts
        .chunks_exact(2)
        .find(|note| note[0].contains("\"state\":\"sealed\""))
        .map(|note| format!("{}\n\n{}\n", note[0], note[1]))
        .unwrap();
    let digest = Sha256::digest(sealed.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(closed["checkpointSha256"], digest);
}

#[test]
fn a_session_is_found_by_whatever_is_known_of_it() {
    let bastion = Bastion::start();
    let (first, _) = run(&bastion, "echo needle", Vec::new());
    let other = bastion.run_ssh("operator-b", "editor", "echo $BASTION_SESSION");
    let second = other.stdout.trim().to_owned();
    let going_on = Running::start(&bastion, "operator-a", "editor", "cat");
    let third = going_on.id.clone();
    let lease = bastion.manifest(&first).unwrap()["leases"][0].clone();
    let (jti, audit_id) = (&lease["jti"], &lease["auditId"]);
    let found = |filters: &[&str]| -> Vec<String> {
        let ran = Ran::from(bastion.cli(&[&["sessions", "--json"], filters].concat()));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        let sessions = ran.stdout.lines();
        let sessions = sessions.map(|line| serde_json::from_str::<Value>(line).unwrap());
        sessions
            .map(|one| one["session"]["session"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = [third.as_str(), second.as_str(), first.as_str()];
    assert_eq!(found(&[]), all, "newest first");
    assert_eq!(found(&["--jti", jti.as_str().unwrap()]), [&*first]);
    let as_logged = format!("JTI={}", jti.as_str().unwrap());
    assert_eq!(found(&["--jti", &as_logged]), [&*first]);
    assert_eq!(
        found(&["--audit-id", audit_id.as_str().unwrap()]),
        [&*first]
    );
    assert_eq!(found(&["--identity", "operator-b"]), [&*second]);
    assert_eq!(found(&["--role", "editor"]), [&*third, &*second]);
    assert_eq!(
        found(&["--role", "editor", "--identity", "operator-a"]),
        [&*third]
    );
    assert_eq!(found(&["--command", "NEEDLE"]), [&*first]);
    assert_eq!(found(&["--live"]), [&*third]);
    assert_eq!(found(&["--since", "1h"]), all);
    assert_eq!(found(&["--limit", "1", "--state", "complete"]), [&*second]);
    let nothing = Vec::<String>::new();
    assert_eq!(found(&["--until", "1h"]), nothing);
    assert_eq!(found(&["--cluster", "staging"]), nothing);
    assert_eq!(found(&["--jti", "nobody"]), nothing);

    // One of a live session's credentials is found as well.
    let issued = bastion.event("lease.issued", |event| event["session"] == third.as_str());
    assert_eq!(
        found(&["--jti", issued["jti"].as_str().unwrap()]),
        [&*third]
    );

    let show = |id: &str| Ran::from(bastion.cli(&["show", id]));
    assert!(show("latest").stdout.contains(&format!("{third}, live")));
    assert!(
        show(&first[..25])
            .stdout
            .contains(&format!("{first}, complete"))
    );
    let ambiguous = show(&first[..3]);
    assert_eq!(ambiguous.code, Some(1), "{ambiguous:?}");
    assert!(
        ambiguous.stderr.contains("add a character or more"),
        "{ambiguous:?}"
    );
    let none = show("7ZZZ");
    assert!(none.stderr.contains("the newest are"), "{none:?}");
    let table = Ran::from(bastion.cli(&["sessions"]));
    let of_third = table.stdout.lines().nth(1).unwrap();
    assert!(of_third.contains(" live "), "{table:?}");
    assert_eq!(table.stdout.lines().count(), 4);
}

/// Two sessions: one at a terminal with colours and a resize, one without. Their ids, and what each has shown.
fn two_kinds(bastion: &Bastion) -> [(String, &'static str); 2] {
    let mut ssh = bastion.ssh("operator-a", "viewer");
    let script = "echo in $BASTION_SESSION; printf '\\033[32mgr\\303\\274n\\033[0m\\n'; \
                  until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo wi''de";
    ssh.args(["-tt", script]);
    let mut terminal = Terminal::start(ssh, 80, 24);
    terminal.expect("in ");
    let id = terminal.expect("\r\n");
    terminal.resize(100, 30);
    terminal.expect("wide");
    terminal.wait();
    let (exec, _) = run(
        bastion,
        "echo plain; echo grün; sleep 0.5; printf 'a\\377b'",
        Vec::new(),
    );
    [(id, "\x1b[32mgrün\x1b[0m\r\n"), (exec, "plain\r\ngrün\r\n")]
}

#[test]
fn casts_play_in_asciinema_2() {
    let Some(asciinema) = asciinema(2, "apt-get install asciinema") else {
        return;
    };
    let bastion = Bastion::shared();
    let dir = tempfile::tempdir().unwrap();
    for (id, shown) in two_kinds(bastion) {
        let file = dir.path().join(format!("{id}.cast"));
        std::fs::write(&file, export(bastion, &id, &["asciicast-v2"])).unwrap();
        for how in [&["cat"][..], &["play", "--speed", "50"]] {
            let mut play = Command::new(&asciinema);
            play.args(how).arg(&file);
            let mut terminal = Terminal::start(play, 120, 40);
            terminal.expect(shown);
            assert_eq!(terminal.wait(), Some(0), "{}", terminal.shown());
        }
    }
}

#[test]
fn casts_play_in_asciinema_3() {
    let Some(asciinema) = asciinema(3, "cargo install asciinema") else {
        return;
    };
    let bastion = Bastion::shared();
    let dir = tempfile::tempdir().unwrap();
    for (id, shown) in two_kinds(bastion) {
        // Without a terminal nothing added carriage returns, and what is stored is exact.
        let shown = if shown.starts_with("plain") {
            shown.replace('\r', "")
        } else {
            shown.to_owned()
        };
        // As it is stored, and as it is exported.
        let stored = dir.path().join(format!("{id}.stored.cast"));
        std::fs::write(&stored, bastion.cast(&id)).unwrap();
        let exported = dir.path().join(format!("{id}.cast"));
        std::fs::write(&exported, export(bastion, &id, &["asciicast-v3"])).unwrap();
        for file in [stored, exported] {
            let output = Command::new(&asciinema)
                .args(["convert", "--output-format", "raw"])
                .arg(&file)
                .arg("-")
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(&shown), "{text:?}");
            let mut play = Command::new(&asciinema);
            play.args(["play", "--speed", "50"]).arg(&file);
            let mut terminal = Terminal::start(play, 120, 40);
            terminal.expect(&shown);
            assert_eq!(terminal.wait(), Some(0), "{}", terminal.shown());
        }
    }
}

/// asciinema of that major version. It may be missing on an engineer's machine, and not where it counts.
fn asciinema(major: u32, install: &str) -> Option<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let candidates = [
        std::env::var(format!("ASCIINEMA{major}")).unwrap_or_default(),
        format!("asciinema{major}"),
        format!("{home}/.cargo/bin/asciinema"),
        "/usr/bin/asciinema".to_owned(),
        "asciinema".to_owned(),
    ];
    let found = candidates.into_iter().map(PathBuf::from).find(|program| {
        let version = Command::new(program).arg("--version").output();
        let expected = format!("asciinema {major}");
        version.is_ok_and(|version| version.stdout.starts_with(expected.as_bytes()))
    });
    if found.is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "asciinema {major} must be there: {install}");
        println!("skipped: no asciinema {major} ({install}, or ASCIINEMA{major}=PROGRAM)");
    }
    found
}
