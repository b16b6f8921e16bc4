//! SSH clients of others, each with a whole daemon: docs/CLIENTS.md is what came of it.

use std::process::Stdio;

use crate::harness::certified;
use crate::harness::terminal::Terminal;

use super::*;

const SCRIPT: &str = include_str!("matrix.py");
/// The columns of the table.
const COLUMNS: [&str; 8] = [
    "exec",
    "terminal",
    "bulk",
    "rekey",
    "half-close",
    "stalled",
    "fifty",
    "certificate",
];
const SCRIPT_OF_SSH2: &str = "tests/it/clients/matrix.js";

/// What goes in and comes back, in bytes: 32 MiB, or what BASTION_TEST_BULK_MIB says.
fn bulk() -> usize {
    let asked = std::env::var("BASTION_TEST_BULK_MIB");
    asked.map_or(32, |mebibytes| mebibytes.parse().unwrap()) << 20
}

/// Whether the table says that a client shows certificates.
fn shows_certificates(client: &str) -> bool {
    row(client).last() == Some(&"yes")
}

/// What the table says of a client: the columns with a yes.
fn documented(client: &str) -> Vec<&'static str> {
    // Certificates have a test of their own.
    let columns = COLUMNS.into_iter().take(COLUMNS.len() - 1);
    columns
        .zip(row(client))
        .filter_map(|(column, cell)| (cell == "yes").then_some(column))
        .collect()
}

/// The cells of its row.
fn row(client: &str) -> Vec<&'static str> {
    let table = include_str!("../../../docs/CLIENTS.md");
    let heading = format!("| client | {} |", COLUMNS.join(" | "));
    assert!(table.contains(&heading), "the columns are others");
    let row = table
        .lines()
        .find(|line| line.starts_with(&format!("| {client}")))
        .unwrap_or_else(|| panic!("docs/CLIENTS.md has no {client}"));
    let cells: Vec<&str> = row
        .split('|')
        .skip(2)
        .take(COLUMNS.len())
        .map(str::trim)
        .collect();
    assert!(
        cells.iter().all(|cell| ["yes", "-"].contains(cell)),
        "{row}"
    );
    cells
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

#[test]
fn ssh2_of_npm_does_what_the_table_says() {
    if !installed("node") || !installed("npm") {
        return;
    }
    let mut program = limited();
    let port = Bastion::shared().port().to_string();
    program
        .args(["node", SCRIPT_OF_SSH2])
        .arg(client("node"))
        .arg(port);
    library("ssh2", program);
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
    let sent: Vec<u8> = (0..bulk()).map(|n| (n * n / 7 % 251) as u8).collect();
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
        .arg(format!("head -c {} /dev/zero", bulk()))
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
    assert_eq!(output.stdout.len(), bulk());
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
    let fingerprint = host_fingerprint(bastion);
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

/// One that is good gets in; one that has ended and one of a stranger's do not.
#[test]
fn certificates_are_shown_by_the_clients_of_which_the_table_says_so() {
    let bastion = certified::start();
    let of = |who: &str, authority: &str, validity: &str| {
        certified::certify(
            &bastion,
            authority,
            who,
            &["-n", "operator-a", "-V", validity],
        )
    };
    let good = of("good", "corp", "-1h:+1d");
    let ended = of("ended", "corp", "-2d:-1d");
    let strange = of("strange", "other", "-1h:+1d");
    for (client, attempt) in CERTIFIED {
        if !shows_certificates(client) {
            panic!("the table does not know that {client} shows certificates");
        }
        let gets_in = |certificate: &Path| {
            let key = certificate.to_str().unwrap().trim_end_matches("-cert.pub");
            attempt(&bastion, Path::new(key), certificate)
        };
        let Some(first) = gets_in(&good) else {
            continue;
        };
        assert!(first, "{client}");
        assert_eq!(gets_in(&ended), Some(false), "{client}");
        assert_eq!(gets_in(&strange), Some(false), "{client}");
    }
    for client in ["dropbear", "ssh2"] {
        assert!(!shows_certificates(client), "{client} is not tried");
    }
}

/// Logs in by a key and its certificate; `None` if the client is not there.
type Attempt = fn(&Bastion, &Path, &Path) -> Option<bool>;

const CERTIFIED: [(&str, Attempt); 4] = [
    ("OpenSSH", |bastion, key, certificate| {
        let name = key.file_name().unwrap().to_str().unwrap();
        assert_eq!(certificate.parent(), key.parent());
        let ran = bastion.run_ssh(name, "operator-a", "echo in");
        Some(ran.stdout == "in\n")
    }),
    ("PuTTY", |bastion, key, certificate| {
        if !installed("plink") || !installed("puttygen") {
            return None;
        }
        let ppk = key.with_extension("ppk");
        let converted = Command::new("puttygen")
            .arg(key)
            .args(["-O", "private", "-o"])
            .arg(&ppk)
            .status()
            .unwrap();
        assert!(converted.success());
        let output = Command::new("plink")
            .env("HOME", key.parent().unwrap())
            .args(["-batch", "-ssh", "-T", "-noagent", "-hostkey"])
            .args([
                &host_fingerprint(bastion),
                "-P",
                &bastion.port().to_string(),
            ])
            .arg("-i")
            .arg(&ppk)
            .arg("-cert")
            .arg(certificate)
            .args(["operator-a@127.0.0.1", "echo in"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Some(output.stdout == b"in\n")
    }),
    ("golang.org/x/crypto/ssh", |bastion, key, certificate| {
        let output = limited()
            .arg(client("matrix"))
            .arg(format!("127.0.0.1:{}", bastion.port()))
            .arg("operator-a")
            .arg(key)
            .arg(bastion.path().join("keys/host.pub"))
            .arg(certificate)
            .output()
            .unwrap();
        Some(output.stdout == b"exec\n")
    }),
    ("paramiko", |bastion, key, certificate| {
        let output = limited()
            .arg(client("python"))
            .args(["-c", SCRIPT, &bastion.port().to_string(), "operator-a"])
            .arg(key)
            .arg(bastion.path().join("keys/host.pub"))
            .arg(certificate)
            .output()
            .unwrap();
        Some(output.stdout == b"exec\n")
    }),
];

fn host_fingerprint(bastion: &Bastion) -> String {
    let host_key = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(bastion.path().join("keys/host.pub"))
        .output()
        .unwrap();
    said(&host_key)
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned()
}
