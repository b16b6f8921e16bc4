//! Other people's clients. A client that is not installed is not tried, and the test says so.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use bastion_audit::config::Algorithms;
use bastion_audit::server::{HostCertificates, HostKeys};

use super::{Bastion, limits, outcome, rules};

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
async fn ssh_audit_warns_of_nothing_but_what_old_clients_need() {
    let python = tokio::task::spawn_blocking(|| crate::clients::client("python"))
        .await
        .unwrap();
    let audit = async |algorithms| {
        let mut rules = rules(limits());
        rules.algorithms = algorithms;
        let bastion = Bastion::under(rules).await;
        let ran = run(Command::new(&python)
            .args(["-m", "ssh_audit.ssh_audit", "--skip-rate-test", "-n"])
            .args([
                "--level=warn",
                "--port",
                &bastion.address.port().to_string(),
            ])
            .arg("127.0.0.1"))
        .await;
        let told = ran
            .text()
            .lines()
            .filter(|line| line.contains("[warn]") || line.contains("[fail]"));
        let told: Vec<String> = told.map(str::to_owned).collect();
        (ran.code, told)
    };
    assert_eq!(audit(Algorithms::PostQuantum).await, (Some(0), Vec::new()));
    // 2: warnings, no failure.
    let (code, told) = audit(Algorithms::Modern).await;
    assert_eq!((code, told.len()), (Some(2), 2), "{told:?}");
    for line in told {
        assert!(line.starts_with("(kex) curve25519-sha256"), "{line}");
        assert!(line.contains("post-quantum"), "{line}");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_trusts_the_authority_knows_the_host_and_only_as_long_as_it_is_certified() {
    let bastion = Bastion::start(limits()).await;
    super::keygen(&bastion.path("ca")).await;
    let certify = async |options: &[&str]| {
        let signed = run(Command::new("ssh-keygen")
            .args(["-q", "-s"])
            .arg(bastion.path("ca"))
            .args(["-I", "bastion"])
            .args(options)
            .arg(bastion.path("host.pub")))
        .await;
        assert_eq!(signed.code, Some(0), "{}", signed.stderr);
        let path = bastion.path("host-cert.pub");
        let host = bastion.path("host");
        let keys =
            HostKeys::parse([(host.as_path(), std::fs::read(&host).unwrap().into())]).unwrap();
        let (good, wrong) = HostCertificates::read(&[path], &keys, jiff::Timestamp::now());
        let mut rules = rules(limits());
        rules.host_certificates = good;
        bastion.rules.send(rules).unwrap();
        wrong.first().map(ToString::to_string).unwrap_or_default()
    };
    let authority = std::fs::read_to_string(bastion.path("ca.pub")).unwrap();
    let known = format!("@cert-authority bastion.example.com {authority}");
    std::fs::write(bastion.path("known_hosts"), known).unwrap();
    let strictly = async |alias: &str| {
        let alias = format!("HostKeyAlias={alias}");
        // The first of an option counts.
        let options = ["-o", &alias, "-o", "GlobalKnownHostsFile=none"];
        let mut ssh = bastion.ssh(&options, &["both"]);
        let strict = crate::harness::running::with_argument(
            ssh.as_std(),
            "StrictHostKeyChecking=no",
            "StrictHostKeyChecking=yes",
        );
        ssh = Command::from(strict);
        run(&mut ssh).await.code
    };
    assert_eq!(
        certify(&["-h", "-n", "bastion.example.com", "-V", "-5m:+5m"]).await,
        ""
    );
    assert_eq!(strictly("bastion.example.com").await, Some(3));
    assert_eq!(strictly("other.example.com").await, Some(255));
    for (options, wrong) in [
        (
            &["-h", "-n", "bastion.example.com", "-V", "-2h:-1h"][..],
            "expired",
        ),
        (&["-n", "bastion.example.com"], "for users"),
        (&["-h"], "names no host"),
    ] {
        let said = certify(options).await;
        assert!(said.contains(wrong), "{options:?}: {said}");
        assert_eq!(
            strictly("bastion.example.com").await,
            Some(255),
            "{options:?}"
        );
    }
}
