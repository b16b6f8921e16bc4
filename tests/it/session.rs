//! What an operator gets: a shell and commands with a working kubectl, and nothing that Kubernetes does not give.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::cluster::ControlPlane;
use crate::harness::processes::running;
use crate::harness::ssh_client::SshClient;
use crate::harness::terminal::Terminal;

/// A pod of the test's own.
fn pod(name: &str) {
    ControlPlane::shared().apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, \
         spec: {{containers: [{{name: main, image: none}}]}}}}"
    ));
}

fn pod_is_there(name: &str) -> bool {
    let get = ["get", "pod", name];
    ControlPlane::shared().kubectl(&get).status.success()
}

/// One command with something on its standard input.
fn run_with_input(bastion: &Bastion, command: &[&str], input: &[u8]) -> Ran {
    let mut ssh = bastion.ssh("operator-a", "viewer");
    let mut child = ssh
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    match child.stdin.take().unwrap().write_all(input) {
        // It may end before it has read all.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn what_a_role_may_do_is_said_by_kubernetes() {
    let bastion = Bastion::shared();
    pod("session-rbac");
    let list = bastion.run_ssh("operator-a", "viewer", "kubectl get pods -A");
    assert_eq!(list.code, Some(0), "{list:?}");
    assert!(list.stdout.contains("session-rbac"), "{list:?}");

    let delete = "kubectl delete pod session-rbac --wait=false";
    let refused = bastion.run_ssh("operator-a", "viewer", delete);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains(
            "Error from server (Forbidden): pods \"session-rbac\" is forbidden: \
             User \"system:serviceaccount:bastion-viewer:viewer\" cannot delete resource"
        ),
        "{refused:?}"
    );
    assert!(pod_is_there("session-rbac"));

    let whoami = bastion.run_ssh("operator-a", "operator-a", "kubectl auth whoami -o json");
    let whoami: serde_json::Value = serde_json::from_str(&whoami.stdout).unwrap();
    let user = &whoami["status"]["userInfo"]["username"];
    assert_eq!(user, "system:serviceaccount:bastion-viewer:viewer");

    let deleted = bastion.run_ssh("operator-a", "editor+prod", delete);
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
}

#[test]
fn a_command_keeps_its_streams_and_its_exit_status() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "viewer", "echo out; echo err >&2; exit 42");
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str(), ran.code),
        ("out\n", "err\n", Some(42))
    );
    // A status is not confused with a signal of the same number.
    let ran = bastion.run_ssh("operator-a", "viewer", "exit 137");
    assert_eq!(ran.code, Some(137), "{ran:?}");
    // Output of more than a window, on both streams at once.
    let ran = bastion.run_ssh(
        "operator-a",
        "viewer",
        "seq 1 700000 & seq 1 700000 >&2; wait",
    );
    let expected: String = (1..=700_000).map(|n| format!("{n}\n")).collect();
    assert!(ran.stdout == expected, "stdout: {} bytes", ran.stdout.len());
    assert!(ran.stderr == expected, "stderr: {} bytes", ran.stderr.len());
}

#[tokio::test]
async fn a_command_that_a_signal_ended_says_which() {
    let bastion = Bastion::shared();
    let client = SshClient::login(bastion, "operator-a", "viewer")
        .await
        .unwrap();
    let ended = client.run("kill -SEGV $$").await;
    assert_eq!(ended.signal.as_deref(), Some("SEGV"), "{ended:?}");
    assert_eq!(ended.status, None);
    let ended = client.run("kill -KILL $$").await;
    assert_eq!(ended.signal.as_deref(), Some("KILL"), "{ended:?}");
    // The stock client: 255, and it says so itself.
    let ran = bastion.run_ssh("operator-a", "viewer", "echo out; kill -TERM $$");
    assert_eq!((ran.stdout.as_str(), ran.code), ("out\n", Some(255)));
}

#[test]
fn the_end_of_input_reaches_a_command_and_its_output_comes_after() {
    let bastion = Bastion::shared();
    let input = b"\0\xffhello world";
    let ran = run_with_input(bastion, &["tail -c 5; sleep 0.2; echo; echo late"], input);
    assert_eq!(ran.stdout, "world\nlate\n", "{ran:?}");
    let ran = run_with_input(bastion, &["wc -c"], input);
    assert_eq!(ran.stdout, "13\n");
    // A command that leaves its input unread ends all the same.
    let ran = run_with_input(bastion, &["head -c 1 | wc -c"], &[b'x'; 1 << 20]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("1\n", Some(0)));
}

#[test]
fn a_shell_without_a_terminal_runs_the_script_on_its_input() {
    let bastion = Bastion::shared();
    let script = b"cd /tmp\necho \"in $PWD as $USER\"\ntty\nexit 3\n";
    let ran = run_with_input(bastion, &["-T"], script);
    assert_eq!(ran.stdout, "in /tmp as operator-a\nnot a tty\n", "{ran:?}");
    assert_eq!((ran.stderr.as_str(), ran.code), ("", Some(3)));
}

#[test]
fn a_shell_at_a_terminal_is_one() {
    let bastion = Bastion::shared();
    let mut ssh = bastion.ssh("operator-a", "operator-a");
    ssh.arg("-tt").env("TERM", "xterm-256color");
    let mut terminal = Terminal::start(ssh, 97, 31);
    // Who one is, before a word is typed.
    terminal.expect("[viewer@prod] ~$ ");
    terminal.send("stty size; echo $TERM; tty\r");
    terminal.expect("31 97\r\nxterm-256color\r\n/dev/");
    terminal.expect("[viewer@prod] ~$ ");

    // A window change reaches the program that runs.
    terminal.send("(trap 'stty size' WINCH; echo rea''dy; while :; do sleep 0.1; done)\r");
    terminal.expect("ready");
    terminal.resize(123, 45);
    terminal.expect("45 123");
    // Ctrl-C ends it, and not the shell. Not while `stty` still runs: bash goes on where that ended by itself.
    std::thread::sleep(Duration::from_millis(500));
    terminal.send("\x03");
    terminal.expect("[viewer@prod] ~$ ");
    terminal.send("stty size; cd /tmp\r");
    terminal.expect("45 123");
    terminal.expect("[viewer@prod] /tmp$ ");

    // Full screen programs and job control.
    terminal.send("sleep 100\r");
    terminal.expect("sleep 100\r\n");
    // Not before it is in the foreground: bash itself is not stopped.
    std::thread::sleep(Duration::from_millis(500));
    terminal.send("\x1a");
    terminal.expect("Stopped");
    terminal.send("kill %1; kubectl auth whoami\r");
    terminal.expect("system:serviceaccount:bastion-viewer:viewer");
    terminal.send("exit 7\r");
    assert_eq!(terminal.wait(), Some(7), "{}", terminal.shown());
    assert!(terminal.is_sane());
}

#[test]
fn a_terminal_whose_client_vanishes_ends_what_runs_in_it() {
    let bastion = Bastion::shared();
    let mut terminal = Terminal::start(bastion.ssh("operator-a", "viewer"), 80, 24);
    terminal.expect("[viewer@prod] ~$ ");
    let sleep = format!("sleep {}", 1_000_000 + std::process::id());
    terminal.send(&format!("echo in $BASTION_SESSION; {sleep}\r"));
    terminal.expect("in 0");
    let id = format!("0{}", terminal.expect("\r\n"));
    drop(terminal);
    let closed = bastion.event("session.closed", |event| event["session"] == id.as_str());
    assert_eq!(closed["ended"]["cut"]["reason"], "the client went away");
    assert!(running(&sleep).is_empty());
}

#[test]
fn scp_and_sftp_are_refused_with_the_line_that_works() {
    let bastion = Bastion::shared();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("chart")).unwrap();
    std::fs::write(dir.path().join("chart/values.yaml"), "replicas: 3\n").unwrap();
    let there = format!("viewer@127.0.0.1:{}", "chart");
    let port = bastion.port().to_string();
    for program in [
        vec!["scp", "-r", "-P", &port],
        vec!["scp", "-O", "-r", "-P", &port],
    ] {
        let (name, options) = program.split_first().unwrap();
        let mut copy = std::process::Command::new(name);
        copy.args(["-F", "none"]).args(options);
        for option in bastion.ssh_options("operator-a") {
            copy.args(["-o", &option]);
        }
        let ran = Ran::from(
            copy.arg(dir.path().join("chart"))
                .arg(&there)
                .output()
                .unwrap(),
        );
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.stderr.contains("tar c chart | ssh HOST 'tar x && "),
            "{program:?}: {ran:?}"
        );
    }
    let mut sftp = std::process::Command::new("sftp");
    sftp.args(["-F", "none", "-P", &port]);
    for option in bastion.ssh_options("operator-a") {
        sftp.args(["-o", &option]);
    }
    let ran = Ran::from(sftp.arg("viewer@127.0.0.1").output().unwrap());
    assert_ne!(ran.code, Some(0));
    assert!(ran.stderr.contains("tar c chart | ssh HOST"), "{ran:?}");

    // The line.
    let tar = std::process::Command::new("tar")
        .args(["c", "chart"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let ran = run_with_input(bastion, &["tar x && cat chart/values.yaml"], &tar.stdout);
    assert_eq!(ran.stdout, "replicas: 3\n", "{ran:?}");
}

#[test]
fn who_is_proven_is_told_which_login_name_works() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "root", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert!(
        ran.stderr
            .contains("You are operator-a, and 'root' is not a role"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("User editor"), "{ran:?}");
    // The id that the operator was told finds the reason.
    let (_, id) = ran.stderr.rsplit_once("(session ").unwrap();
    let id = id.trim().trim_end_matches(')');
    let denied = bastion.event("policy.denied", |event| event["session"] == id);
    assert_eq!(denied["denial"]["why"], "unknownPrincipal", "{denied}");
    assert_eq!(denied["principal"], "root");

    let ran = bastion.run_ssh("operator-c", "operator-c", "true");
    assert_eq!(ran.code, Some(255));
    assert!(
        ran.stderr
            .contains("You are operator-c, and no binding gives you a role now"),
        "{ran:?}"
    );
    // Somebody else's role looks like one that is none.
    let ran = bastion.run_ssh("operator-b", "viewer", "true");
    assert!(
        ran.stderr
            .contains("You are operator-b, and 'viewer' is not a role"),
        "{ran:?}"
    );
    // At a terminal it is told as well.
    let mut ssh = bastion.ssh("operator-a", "root");
    let mut terminal = Terminal::start(
        {
            ssh.arg("-tt");
            ssh
        },
        80,
        24,
    );
    terminal.expect("User editor\r\n");
    assert_eq!(terminal.wait(), Some(255));
}

#[test]
fn whose_key_proves_nobody_is_told_nothing() {
    let bastion = Bastion::shared();
    for login in ["nobody-a", "operator-a", "viewer"] {
        let ran = bastion.run_ssh("nobody-a", login, "true");
        assert_eq!(ran.code, Some(255));
        assert_eq!(
            ran.stderr,
            format!("{login}@127.0.0.1: Permission denied (publickey).\r\n")
        );
        // Administrators are.
        let refused = bastion.event("authentication.refused", |event| {
            event["principal"] == login
        });
        let key = bastion.fingerprint("nobody-a");
        assert_eq!(refused["fingerprint"], key.as_str(), "{refused}");
        let reason = refused["reason"].as_str().unwrap();
        assert!(reason.contains("no identity has this key"), "{refused}");
    }
}

#[test]
fn who_offers_several_keys_until_one_is_taken_has_attempted_nothing() {
    let bastion = Bastion::start();
    let mut ssh = bastion.ssh("nobody-a", "viewer");
    let second = bastion.path().join("keys/operator-a");
    ssh.arg("-i").arg(second).args(["bastion", "whoami"]);
    let ran = Ran::from(ssh.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    bastion.event("connection.closed", |event| {
        event["identity"] == "operator-a"
    });
    let events = bastion.events();
    assert!(
        !events
            .iter()
            .any(|event| event["event"] == "authentication.refused"),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_login_name_can_be_anything_and_does_no_harm() {
    let bastion = Bastion::shared();
    let long = "x".repeat(10_000);
    for odd in [
        &long,
        "\x1b]0;owned\x07\n\r\u{202e}",
        "viewer\0",
        "",
        "+",
        "viewer+",
    ] {
        let client = SshClient::login(bastion, "operator-a", odd).await.unwrap();
        let ended = client.run("true").await;
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status, Some(255), "{odd:?}: {told}");
        assert!(told.contains("You "), "{odd:?}: {told}");
        assert!(told.len() < 1500, "{odd:?}: {told}");
        let printable = |c: char| c == '\n' || (!c.is_control() && c != '\u{202e}');
        assert!(told.chars().all(printable), "{told:?}");
        // A key that proves nobody does not prove somebody under an odd name.
        assert!(SshClient::login(bastion, "nobody-a", odd).await.is_none());
    }
    for event in bastion.events() {
        let principal = event["principal"].as_str().unwrap_or_default();
        assert!(principal.len() <= 2560 && principal.chars().all(|c| !c.is_control()));
    }
    assert!(!bastion.log().contains("\x1b]0;owned"));
    assert!(!bastion.log().contains(&long));
}
