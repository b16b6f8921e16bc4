//! SSH clients of others, each with a whole daemon: docs/CLIENTS.md is what came of it.

use std::process::Stdio;

use crate::harness::terminal::Terminal;

use super::*;

const SCRIPT: &str = include_str!("matrix.py");
/// The columns of the table.
const COLUMNS: [&str; 7] = [
    "exec",
    "terminal",
    "bulk",
    "rekey",
    "half-close",
    "stalled",
    "fifty",
];
/// What goes in and comes back, in bytes.
const BULK: usize = 32 << 20;

/// What the table says of a client: the columns with a yes.
fn documented(client: &str) -> Vec<&'static str> {
    let table = include_str!("../../../docs/CLIENTS.md");
    let heading = format!("| client | {} |", COLUMNS.join(" | "));
    assert!(table.contains(&heading), "the columns are others");
    let row = table
        .lines()
        .find(|line| line.starts_with(&format!("| {client}")))
        .unwrap_or_else(|| panic!("docs/CLIENTS.md has no {client}"));
    let cells = row.split('|').skip(2).map(str::trim);
    COLUMNS
        .into_iter()
        .zip(cells)
        .filter_map(|(column, cell)| match cell {
            "yes" => Some(column),
            "-" => None,
            other => panic!("{other:?} in {row}"),
        })
        .collect()
}

/// A program of a library's, which does everything itself and prints what went well.
fn library(client: &str, mut program: Command) {
    let bastion = Bastion::shared();
    let output = program
        .args([
            "operator-a",
            bastion.path().join("keys/operator-a").to_str().unwrap(),
            bastion.path().join("keys/host.pub").to_str().unwrap(),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = said(&output);
    assert_eq!(said.lines().collect::<Vec<_>>(), documented(client));
}

fn limited() -> Command {
    let mut command = Command::new("timeout");
    command.arg(LONGEST_SCRIPT);
    command
}

#[test]
fn gos_ssh_does_what_the_table_says() {
    let mut program = limited();
    let address = format!("127.0.0.1:{}", Bastion::shared().port());
    program.arg(client("matrix")).arg(address);
    library("golang.org/x/crypto/ssh", program);
}

#[test]
fn paramiko_does_what_the_table_says() {
    let mut program = limited();
    let port = Bastion::shared().port().to_string();
    program.arg(client("python")).args(["-c", SCRIPT]).arg(port);
    library("paramiko", program);
}

/// A program that is a client: how it is started without a terminal, with one, and so that it asks for new keys often.
struct Client<'a> {
    name: &'static str,
    plain: &'a dyn Fn() -> Command,
    terminal: &'a dyn Fn() -> Command,
    rekeys: Option<&'a dyn Fn() -> Command>,
}

impl Client<'_> {
    fn does_what_the_table_says(&self, more: &[&'static str]) {
        let mut done = vec!["exec", "terminal", "bulk"];
        exec((self.plain)());
        terminal((self.terminal)());
        carry((self.plain)());
        if let Some(rekeys) = self.rekeys {
            carry(rekeys());
            done.push("rekey");
        }
        half_close((self.plain)());
        stalled((self.plain)());
        done.extend(["half-close", "stalled"]);
        done.extend(more);
        assert_eq!(done, documented(self.name));
    }
}

fn exec(mut client: Command) {
    let output = client
        .arg("echo out; echo err >&2; exit 7")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert_eq!(output.stdout, b"out\n", "{stderr}");
    assert!(stderr.ends_with("err\n"), "{stderr}");
}

fn terminal(mut client: Command) {
    client.arg("stty size; read line; stty size; exit 0");
    let mut shown = Terminal::start(client, 100, 30);
    shown.expect("30 100");
    shown.resize(120, 40);
    std::thread::sleep(std::time::Duration::from_millis(300));
    shown.send("\r");
    shown.expect("40 120");
}

fn carry(mut client: Command) {
    let sent: Vec<u8> = (0..BULK).map(|n| (n * n / 7 % 251) as u8).collect();
    let output = piped(client.arg("cat"), sent.clone());
    assert!(output == sent, "{} bytes came back", output.len());
}

fn half_close(mut client: Command) {
    let output = piped(client.arg("cat; sleep 0.3; echo after"), b"in".to_vec());
    assert_eq!(String::from_utf8_lossy(&output), "inafter\n");
}

/// What a command says that is given this input, which then ends.
fn piped(client: &mut Command, input: Vec<u8>) -> Vec<u8> {
    let mut child = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    output.stdout
}

fn stalled(mut client: Command) {
    let mut child = client
        .arg(format!("head -c {BULK} /dev/zero"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(
        child.try_wait().unwrap().is_none(),
        "nobody took its output"
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout.len(), BULK);
}

#[test]
fn openssh_does_what_the_table_says() {
    let bastion = Bastion::shared();
    let control = tempfile::TempDir::new().unwrap();
    let plain = || bastion.ssh("operator-a", "operator-a");
    let terminal = || {
        let mut ssh = plain();
        ssh.arg("-tt");
        ssh
    };
    let rekeys = || {
        let mut ssh = plain();
        ssh.args(["-o", "RekeyLimit=1M"]);
        ssh
    };
    let path = format!("ControlPath={}/%C", control.path().display());
    let shared = || {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-o",
            &path,
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=30",
        ]);
        ssh.args(plain().get_args());
        ssh
    };
    for n in 0..50 {
        let output = shared().arg(format!("echo {n}")).output().unwrap();
        assert_eq!(said(&output), format!("{n}\n"));
    }
    let stopped = shared().args(["-O", "exit"]).output().unwrap();
    assert!(stopped.status.success());
    Client {
        name: "OpenSSH",
        plain: &plain,
        terminal: &terminal,
        rekeys: Some(&rekeys),
    }
    .does_what_the_table_says(&["fifty"]);
}

fn installed(program: &str) -> bool {
    let there = Path::new("/usr/bin").join(program).exists();
    if !there {
        println!("{program} is not installed: not tried");
    }
    there
}

#[test]
fn dropbear_does_what_the_table_says() {
    if !installed("dbclient") || !installed("dropbearconvert") {
        return;
    }
    let bastion = Bastion::shared();
    let home = tempfile::TempDir::new().unwrap();
    let key = home.path().join("id");
    let converted = Command::new("dropbearconvert")
        .args(["openssh", "dropbear"])
        .arg(bastion.path().join("keys/operator-a"))
        .arg(&key)
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    let with = |flag: &str| {
        let mut dbclient = Command::new("dbclient");
        dbclient
            .env("HOME", home.path())
            .args(["-y", "-y", flag, "-p", &bastion.port().to_string(), "-i"])
            .arg(&key)
            .arg("operator-a@127.0.0.1");
        dbclient
    };
    Client {
        name: "dropbear",
        plain: &|| with("-T"),
        terminal: &|| with("-t"),
        rekeys: None,
    }
    .does_what_the_table_says(&[]);
}

#[test]
fn putty_does_what_the_table_says() {
    if !installed("plink") || !installed("puttygen") {
        return;
    }
    let bastion = Bastion::shared();
    let home = tempfile::TempDir::new().unwrap();
    let key = home.path().join("id.ppk");
    let converted = Command::new("puttygen")
        .arg(bastion.path().join("keys/operator-a"))
        .args(["-O", "private", "-o"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    let host_key = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(bastion.path().join("keys/host.pub"))
        .output()
        .unwrap();
    let host_key = said(&host_key);
    let fingerprint = host_key.split_whitespace().nth(1).unwrap().to_owned();
    let with = |flag: &str| {
        let mut plink = Command::new("plink");
        plink
            .env("HOME", home.path())
            .args(["-batch", "-ssh", "-noagent", "-hostkey", &fingerprint, flag])
            .args(["-P", &bastion.port().to_string(), "-i"])
            .arg(&key)
            .arg("operator-a@127.0.0.1");
        plink
    };
    Client {
        name: "PuTTY",
        plain: &|| with("-T"),
        terminal: &|| with("-t"),
        rekeys: None,
    }
    .does_what_the_table_says(&[]);
}
