//! Other people's clients. A client that is not installed is not tried, and the test says so.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::{Bastion, limits, outcome};

fn installed(program: &str) -> bool {
    let there = Path::new("/usr/bin").join(program).exists();
    if !there {
        println!("{program} is not installed: not tried");
    }
    there
}

async fn run(command: &mut Command) -> super::Outcome {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    outcome(command.spawn().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dropbears_client_runs_a_command() {
    if !installed("dbclient") || !installed("dropbearconvert") {
        return;
    }
    let bastion = Bastion::start(limits()).await;
    let converted = run(Command::new("dropbearconvert")
        .args(["openssh", "dropbear"])
        .arg(bastion.path("id"))
        .arg(bastion.path("id.dropbear")))
    .await;
    assert_eq!(converted.code, Some(0), "{}", converted.stderr);
    let ran = run(Command::new("dbclient")
        .env("HOME", bastion.dir.path())
        .args([
            "-y",
            "-y",
            "-T",
            "-p",
            &bastion.address.port().to_string(),
            "-i",
        ])
        .arg(bastion.path("id.dropbear"))
        .args(["operator-a@127.0.0.1", "both"]))
    .await;
    assert_eq!((ran.code, ran.text()), (Some(3), "out\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("err\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn putty_runs_a_command() {
    if !installed("plink") || !installed("puttygen") {
        return;
    }
    let bastion = Bastion::start(limits()).await;
    let converted = run(Command::new("puttygen")
        .arg(bastion.path("id"))
        .args(["-O", "private", "-o"])
        .arg(bastion.path("id.ppk")))
    .await;
    assert_eq!(converted.code, Some(0), "{}", converted.stderr);
    let fingerprint = super::read_key(&bastion.path("host"))
        .public_key()
        .fingerprint(russh::keys::HashAlg::Sha256)
        .to_string();
    let ran = run(Command::new("plink")
        .env("HOME", bastion.dir.path())
        .args(["-batch", "-ssh", "-noagent", "-hostkey", &fingerprint])
        .args(["-P", &bastion.address.port().to_string(), "-i"])
        .arg(bastion.path("id.ppk"))
        .args(["operator-a@127.0.0.1", "both"]))
    .await;
    assert_eq!((ran.code, ran.text()), (Some(3), "out\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("err\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_modern_algorithms_are_offered() {
    let bastion = Bastion::start(limits()).await;
    let ran = bastion.run(&["-vv"], &["both"]).await;
    let proposal: Vec<&str> = ran
        .stderr
        .split("peer server KEXINIT proposal")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("debug2: "))
        .take(8)
        .collect();
    assert_eq!(
        proposal,
        [
            "KEX algorithms: mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,kex-strict-s-v00@openssh.com",
            "host key algorithms: ssh-ed25519",
            "ciphers ctos: chacha20-poly1305@openssh.com,aes256-gcm@openssh.com",
            "ciphers stoc: chacha20-poly1305@openssh.com,aes256-gcm@openssh.com",
            "MACs ctos: hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com",
            "MACs stoc: hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com",
            "compression ctos: none",
            "compression stoc: none",
        ]
    );
    let signatures = ran
        .stderr
        .lines()
        .find_map(|line| line.split_once("server-sig-algs=<"));
    assert_eq!(
        signatures.map(|(_, list)| list.trim_end().trim_end_matches('>')),
        Some("ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521")
    );
}
