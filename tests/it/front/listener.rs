//! Admission: how many, how long, and what happens when the daemon stops.

use std::time::Duration;

use bastion_audit::server::HostKeys;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::monitor::Seen;
use super::{Bastion, limits, outcome, rules, soon};

fn ended(seen: &Seen) -> bool {
    *seen == Seen::Ended
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_in_time_is_cut() {
    let mut limits = limits();
    limits.login_grace = Duration::from_millis(800);
    let bastion = Bastion::start(limits).await;
    // One says nothing, one a version letter by letter, one all of it and then nothing.
    let mut silent = TcpStream::connect(bastion.address).await.unwrap();
    let slow = TcpStream::connect(bastion.address).await.unwrap();
    let (mut slow_reading, mut slow_writing) = slow.into_split();
    let dripping = tokio::spawn(async move {
        while slow_writing.write_all(b"S").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let unproven = bastion.connect().await;
    let mut bytes = Vec::new();
    // A reset counts as cut too.
    drop(soon(silent.read_to_end(&mut bytes)).await);
    drop(soon(slow_reading.read_to_end(&mut bytes)).await);
    assert!(
        bytes.starts_with(b"SSH-2.0-bastion-audit_0.1\r\n"),
        "{bytes:?}"
    );
    bastion.monitor.wait_for_many(3, "the end", ended).await;
    soon(dripping).await.unwrap();
    drop(unproven);
    // Who is proven stays.
    let client = bastion.login().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(client.channel_open_session().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once() {
    let mut limits = limits();
    limits.max_connections = 2;
    let bastion = Bastion::start(limits.clone()).await;
    let _one = TcpStream::connect(bastion.address).await.unwrap();
    let two = TcpStream::connect(bastion.address).await.unwrap();
    bastion
        .monitor
        .wait_for_many(2, "connections", |seen| *seen == Seen::Connected)
        .await;
    let mut three = TcpStream::connect(bastion.address).await.unwrap();
    let mut bytes = Vec::new();
    soon(three.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.is_empty(), "not even a version for it");
    drop(two);
    bastion.monitor.wait_for("the end", ended).await;
    let ran = bastion.run(&[], &["both"]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    // A reload counts from the next connection on.
    limits.max_connections = 1;
    bastion.rules.send(rules(limits)).unwrap();
    let mut four = TcpStream::connect(bastion.address).await.unwrap();
    soon(four.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_daemon_lets_sessions_finish() {
    let bastion = Bastion::start(limits()).await;
    let working = bastion.ssh(&[], &["sleep", "1000"]).spawn().unwrap();
    bastion.monitor.wait_for_session("asleep").await;
    let idle = bastion.login().await;
    bastion.shutdown.cancel();
    let ran = outcome(working).await;
    assert_eq!(
        (ran.code, ran.text()),
        (Some(0), "slept\n"),
        "{}",
        ran.stderr
    );
    soon(bastion.served).await.unwrap();
    assert!(idle.channel_open_session().await.is_err());
    assert!(
        TcpStream::connect(bastion.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_daemon_waits_for_nobody_for_ever() {
    let mut limits = limits();
    limits.drain = Duration::from_millis(500);
    let bastion = Bastion::start(limits).await;
    let working = bastion.ssh(&[], &["sleep"]).spawn().unwrap();
    bastion.monitor.wait_for_session("asleep").await;
    let _silent = TcpStream::connect(bastion.address).await.unwrap();
    bastion.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(4), bastion.served)
        .await
        .unwrap()
        .unwrap();
    bastion.monitor.wait_for_session("woken").await;
    let ran = outcome(working).await;
    assert_eq!(ran.code, Some(255));
    assert!(ran.stderr.contains("shutting down"), "{}", ran.stderr);
}

#[test]
fn only_keys_that_can_serve_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, kind: &str, passphrase: &str| {
        let path = dir.path().join(name);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-C", "", "-f"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        path
    };
    let parse = |paths: &[&std::path::PathBuf]| {
        let read = |path: &&std::path::PathBuf| std::fs::read(path).unwrap();
        let files: Vec<_> = paths.iter().map(read).collect();
        let files = paths
            .iter()
            .zip(files)
            .map(|(path, bytes)| (path.as_path(), bytes.into()));
        HostKeys::parse(files)
    };
    let ed25519 = make("ed25519", "ed25519", "");
    let ecdsa = make("ecdsa", "ecdsa", "");
    let keys = parse(&[&ed25519, &ecdsa]).unwrap();
    assert_eq!(keys.fingerprints().count(), 2);
    let shown = format!("{keys:?}");
    assert!(shown.contains("SHA256:") && shown.len() < 250, "{shown}");

    let second = make("second", "ed25519", "");
    let locked = make("locked", "ed25519", "passphrase");
    let rsa = make("rsa", "rsa", "");
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, "-----BEGIN nothing").unwrap();
    for (paths, expected) in [
        (&[][..], "no host key"),
        (&[&ed25519, &second], "second: a second ssh-ed25519 key"),
        (&[&locked], "locked: has a passphrase"),
        (&[&rsa], "rsa: ssh-rsa keys are not served"),
        (&[&garbage], "garbage: not a private key in OpenSSH format"),
    ] {
        let error = parse(paths).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// In a process of its own: the limit on open files is the process's.
#[test]
fn a_process_without_file_descriptors_serves_again_when_it_has_some() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "front::listener::child_without_file_descriptors",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process of its own, started by the test above"]
async fn child_without_file_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let bastion = Bastion::start(limits()).await;
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let old = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(open + 6),
        maximum: old.maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect(bastion.address).await {
        held.push(stream);
        assert!(held.len() < 100, "no limit was met");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!bastion.served.is_finished(), "the listener gave up");
    held.clear();
    setrlimit(Resource::Nofile, old).unwrap();
    let ran = bastion.run(&[], &["both"]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}
