//! OpenSSH certificates, made by `ssh-keygen` and shown by a stock `ssh`: who gets in by one, as whom, and who does not.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::certified::{CORP, certify, prepare, revoke, start};
use crate::harness::cluster::ControlPlane;
use crate::harness::running::{Running, processes_of};
use crate::harness::ssh_client::SshClient;
use crate::harness::tunnel::{Forwarding, kubeconfig};

const GOOD: [&str; 2] = ["-V", "-1h:+1d"];

fn options<'o>(more: &[&'o str]) -> Vec<&'o str> {
    [&GOOD[..], more].concat()
}

fn ran_it(ran: &Ran) {
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("it runs\n", Some(0)),
        "{ran:?}"
    );
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The events about the one who logged in by this certificate.
fn certified(bastion: &Bastion, name: &str, key_id: &str) -> Value {
    bastion.event(name, |event| event["certificate"]["keyId"] == key_id)
}

#[test]
fn a_listed_identity_is_proven_by_its_principal_and_everything_says_by_what() {
    let bastion = start();
    let serial = u64::MAX.to_string();
    certify(
        &bastion,
        "corp",
        "laptop",
        &options(&["-n", "root,operator-a", "-z", &serial]),
    );
    ran_it(&bastion.run_ssh("laptop", "operator-a", "echo it runs"));
    ran_it(&bastion.run_ssh("laptop", "editor", "echo it runs"));

    for name in ["authentication.ok", "policy.granted"] {
        let event = certified(&bastion, name, "laptop");
        let identity = match name {
            "policy.granted" => &event["grant"]["identity"],
            _ => &event["identity"],
        };
        assert_eq!(*identity, "operator-a", "{event}");
        assert_eq!(event["fingerprint"], bastion.fingerprint("laptop").as_str());
        let certificate = &event["certificate"];
        assert_eq!(certificate["authority"], "corp");
        assert_eq!(certificate["serial"], serial.as_str());
        assert_eq!(
            certificate["signedBy"],
            bastion.fingerprint("corp").as_str()
        );
        assert_eq!(
            certificate["principals"],
            serde_json::json!(["root", "operator-a"])
        );
        assert!(certificate["validBefore"].is_string());
    }
    let granted = certified(&bastion, "policy.granted", "laptop");
    let id = granted["session"].as_str().unwrap();
    let page = said(&bastion.cli(&["show", id]));
    let line = format!("with certificate {serial} of corp (key id laptop)");
    assert!(page.contains(&line), "{page}");
    let whoami = bastion.run_ssh("laptop", "operator-a", "bastion whoami");
    assert!(
        whoami.stdout.contains(&format!(
            "certificate {serial} of corp (key id laptop), until "
        )),
        "{whoami:?}"
    );
}

#[test]
fn who_is_listed_nowhere_gets_what_the_groups_of_the_certificate_give() {
    let bastion = start();
    let groups = "extension:groups@example.com=ops,sre";
    certify(
        &bastion,
        "corp",
        "jane",
        &options(&["-n", "jane.doe@example.com", "-O", groups]),
    );
    ran_it(&bastion.run_ssh("jane", "viewer", "echo it runs"));
    let event = certified(&bastion, "authentication.ok", "jane");
    assert_eq!(event["identity"], "corp--jane--doe");
    assert_eq!(
        event["groups"],
        serde_json::json!(["ca/corp:ops", "ca/corp:sre"])
    );
    // The file's group sre gives the editor; the authority's of that name is another.
    let ran = bastion.run_ssh("jane", "editor", "echo it runs");
    assert_eq!(ran.code, Some(255));
    assert!(ran.stderr.contains("You are corp--jane--doe"), "{ran:?}");

    certify(
        &bastion,
        "corp",
        "joan",
        &options(&["-n", "joan@example.com"]),
    );
    let ran = bastion.run_ssh("joan", "viewer", "echo it runs");
    assert_eq!(ran.code, Some(255));
    assert!(ran.stderr.contains("You are corp--joan"), "{ran:?}");
}

#[test]
fn each_certificate_that_is_not_as_it_must_be_is_refused_and_only_the_log_says_why() {
    let bastion = start();
    let named = ["-n", "operator-a"];
    let cases: &[(&str, &str, &[&str], &str)] = &[
        (
            "source",
            "corp",
            &["-O", "source-address=10.0.0.0/8"],
            "from this address",
        ),
        (
            "forced",
            "corp",
            &["-O", "force-command=echo it runs"],
            "force-command",
        ),
        ("critical", "corp", &["-O", "critical:blah=foo"], "'blah'"),
        (
            "verified",
            "corp",
            &["-O", "verify-required"],
            "verify-required",
        ),
        ("stranger", "other", &[], "is of no CertificateAuthority"),
    ];
    let mut seen = Vec::new();
    for (who, authority, more, reason) in cases {
        certify(
            &bastion,
            authority,
            who,
            &options(&[&named[..], more].concat()),
        );
        seen.push(refused(&bastion, who, reason));
    }
    certify(&bastion, "corp", "everybody", &GOOD);
    seen.push(refused(&bastion, "everybody", "names no principal"));
    certify(&bastion, "corp", "nobody", &options(&["-n", "operator-z"]));
    seen.push(refused(
        &bastion,
        "nobody",
        "no principal of the certificate is an identity",
    ));
    certify(
        &bastion,
        "corp",
        "both",
        &options(&["-n", "operator-b,operator-c"]),
    );
    seen.push(refused(&bastion, "both", "several identities"));
    seen.dedup();
    assert_eq!(seen.len(), 1, "one answer for all: {seen:?}");

    // From where it is good it is.
    let here = "source-address=10.0.0.0/8,127.0.0.0/8";
    certify(
        &bastion,
        "corp",
        "here",
        &options(&["-n", "operator-a", "-O", here]),
    );
    ran_it(&bastion.run_ssh("here", "operator-a", "echo it runs"));
    // Its login name says which of two it is.
    ran_it(&bastion.run_ssh("both", "operator-b", "echo it runs"));
}

/// No way in; what the client is told, without what differs by itself.
fn refused(bastion: &Bastion, who: &str, reason: &str) -> String {
    let ran = bastion.run_ssh(who, "editor", "echo it runs");
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("", Some(255)),
        "{who}: {ran:?}"
    );
    let event = certified(bastion, "authentication.refused", who);
    let told = event["reason"].as_str().unwrap();
    assert!(told.contains(reason), "{who}: {event}");
    assert_eq!(event["fingerprint"], bastion.fingerprint(who).as_str());
    ran.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_certificate_and_one_out_of_its_time_are_no_way_in_whatever_the_client_thinks_of_them()
 {
    let bastion = start();
    let named = ["-n", "operator-a"];
    for (who, options, reason) in [
        (
            "host-one",
            ["-h", "-V", "-1h:+1d"].as_slice(),
            Some("for hosts"),
        ),
        // russh says no before it asks.
        ("expired", &["-V", "-2d:-1d"], None),
        ("early", &["-V", "+1d:+2d"], None),
        ("good", &["-V", "-1h:+1d"], None),
    ] {
        certify(&bastion, "corp", who, &[&named[..], options].concat());
        let in_by_it = SshClient::login_certified(&bastion, who, "operator-a").await;
        assert_eq!(in_by_it.is_some(), who == "good", "{who}");
        if let Some(reason) = reason {
            let event = certified(&bastion, "authentication.refused", who);
            assert!(
                event["reason"].as_str().unwrap().contains(reason),
                "{event}"
            );
        }
    }
    let answers = bastion.events();
    let proven = answers
        .iter()
        .filter(|event| event["event"] == "authentication.ok");
    assert_eq!(proven.count(), 1);
    assert!(bastion.log().contains("expired or not yet valid"));
}

#[test]
fn what_is_taken_back_ends_what_is_open_and_stays_taken_back() {
    let bastion = start();
    for (who, serial) in [("seven", "7"), ("eight", "8"), ("nine", "9")] {
        certify(
            &bastion,
            "corp",
            who,
            &options(&["-n", "operator-a", "-z", serial]),
        );
    }
    let by_serial = Running::start(&bastion, "seven", "viewer", "sleep 300");
    let by_key = Running::start(&bastion, "eight", "viewer", "sleep 300");
    let other = Running::start(&bastion, "nine", "viewer", "sleep 300");
    let handed_out = bastion.run_ssh("seven", "editor", "bastion credential");
    assert_eq!(handed_out.code, Some(0), "{handed_out:?}");
    let issued = bastion.event("policy.granted", |event| {
        event["grant"]["kind"] == "credential"
    });
    let key = std::fs::read_to_string(bastion.path().join("keys/eight.pub")).unwrap();
    let ended = by_serial.id.clone();
    revoke(&bastion, &format!("serial: 5-7\nkey: {key}"));
    for session in [by_serial, by_key] {
        let ran = session.wait();
        assert!(ran.stderr.contains("certificate"), "{ran:?}");
        assert_ne!(ran.code, Some(0));
    }
    bastion.event("lease.released", |event| {
        event["session"] == issued["session"]
    });
    eventually("the end of its processes", || {
        processes_of(&ended).is_empty().then_some(())
    });
    assert!(!processes_of(&other.id).is_empty());
    refused(&bastion, "seven", "revoked by its serial");
    refused(&bastion, "eight", "revoked by its key");
    ran_it(&bastion.run_ssh("nine", "viewer", "echo it runs"));

    // A list that cannot be read is no empty list.
    let list = bastion.path().join("corp.krl");
    let kept = std::fs::read(&list).unwrap();
    std::fs::write(bastion.path().join("torn"), &kept[..kept.len() - 3]).unwrap();
    std::fs::rename(bastion.path().join("torn"), &list).unwrap();
    let event = bastion.event("config.refused", |_| true);
    let problems = event["problems"].as_str().unwrap();
    assert!(
        problems.contains("corp.krl is not a list of revoked keys") && problems.contains("cut off"),
        "{problems}"
    );
    refused(&bastion, "seven", "revoked by its serial");
    ran_it(&bastion.run_ssh("nine", "viewer", "echo it runs"));

    // An authority that is trusted no more ends everything by it.
    std::fs::write(&list, kept).unwrap();
    let documents = bastion.config();
    let without = documents.replace(
        CORP,
        "keysFile: keys/other.pub\n  groups: [{extension: g}]\n",
    );
    assert_ne!(documents, without);
    bastion.write_config(&without);
    let ran = other.wait();
    assert!(ran.stderr.contains("certificate"), "{ran:?}");
    refused(&bastion, "nine", "is of no CertificateAuthority");
}

#[test]
fn what_a_certificate_does_not_permit_is_not_to_be_had() {
    let bastion = start();
    let named = ["-n", "operator-a", "-O", "clear", "-O"];
    let with = |extension| options(&[&named[..], &[extension]].concat());
    certify(&bastion, "corp", "no-pty", &with("permit-port-forwarding"));
    certify(&bastion, "corp", "no-tunnel", &with("permit-pty"));

    ran_it(&bastion.run_ssh("no-pty", "viewer", "echo it runs"));
    let mut at_a_terminal = Command::new("ssh");
    let ssh = bastion.ssh("no-pty", "viewer");
    at_a_terminal
        .arg("-tt")
        .args(ssh.get_args())
        .arg("echo it runs");
    let ran = Ran::from(at_a_terminal.stdin(Stdio::null()).output().unwrap());
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.code == Some(255) && all.contains("does not permit a terminal (permit-pty)"),
        "{ran:?}"
    );

    for (who, allowed) in [("no-pty", true), ("no-tunnel", false)] {
        let forwarding = Forwarding::local(&bastion, who, "viewer", "kubernetes:443");
        let port = format!("--local-port {}", forwarding.port);
        let config = kubeconfig(&bastion, who, "viewer", &port);
        let raw = ["get", "--raw", "/api"];
        let output = ControlPlane::shared().kubectl_as(&config, &raw, "");
        assert_eq!(output.status.success(), allowed, "{who}: {}", said(&output));
        let told = said(&output).contains("does not permit a tunnel (permit-port-forwarding)");
        assert_eq!(told, !allowed, "{who}: {}", said(&output));
    }
}

#[test]
fn a_certificate_that_ends_leaves_what_is_open_and_opens_nothing_more() {
    let bastion = start();
    certify(
        &bastion,
        "corp",
        "brief",
        &["-n", "operator-a", "-V", "-1h:+10s"],
    );
    let path = format!("ControlPath={}", bastion.path().join("control").display());
    let mut shared = bastion.ssh("brief", "viewer");
    shared.args(["-o", "ControlMaster=yes", "-o", &path]);
    let mut running = Running::by(shared, "cat");
    let another = || {
        let mut ssh = bastion.ssh("brief", "viewer");
        ssh.args(["-o", "ControlMaster=no", "-o", &path, "echo it runs"]);
        Ran::from(ssh.stdin(Stdio::null()).output().unwrap())
    };
    ran_it(&another());
    std::thread::sleep(Duration::from_secs(11));
    // Open sessions are held against a changed configuration.
    revoke(&bastion, "serial: 4711");
    bastion.event("config.reloaded", |_| true);
    let ran = another();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert!(
        ran.stderr
            .contains("Log in again with a new certificate: the certificate has expired."),
        "{ran:?}"
    );
    running.send("still here\n");
    running.close_stdin();
    let ran = running.wait();
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("still here\n", Some(0)),
        "{ran:?}"
    );
}

#[test]
fn an_administrator_can_ask_beforehand_what_a_certificate_is_worth() {
    let bastion = prepare();
    let groups = "extension:groups@example.com=ops";
    let good = certify(
        &bastion,
        "corp",
        "jane",
        &options(&["-n", "jane@example.com", "-z", "7", "-O", groups]),
    );
    let explain = |file: &std::path::Path, login: &[&str]| {
        let file = file.to_str().unwrap();
        let output = bastion.cli(&[&["explain", "--certificate", file], login].concat());
        (output.status.success(), said(&output))
    };
    let (granted, text) = explain(&good, &["viewer"]);
    assert!(granted, "{text}");
    for part in [
        "certificate 7 of corp (key id jane)",
        "principals  jane@example.com",
        "corp--jane\n  groups  ca/corp:ops\n",
        "login as viewer:\n  shell       yes: role viewer on prod",
        "by the binding corp-ops",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    let stranger = certify(&bastion, "other", "joan", &options(&["-n", "operator-a"]));
    let (granted, text) = explain(&stranger, &[]);
    assert!(
        !granted && text.contains("proves nobody: the key that signed the certificate"),
        "{text}"
    );
    let expired = certify(
        &bastion,
        "corp",
        "old",
        &["-n", "operator-a", "-V", "-2d:-1d"],
    );
    let (granted, text) = explain(&expired, &[]);
    assert!(
        !granted && text.contains("proves nobody: the certificate has expired"),
        "{text}"
    );

    let check = said(&bastion.cli(&["check"]));
    assert!(
        check.contains("authorities 1, with 1 keys: corp"),
        "{check}"
    );
    assert!(
        check.contains("ok    revoked by corp: version 0, 0 entries"),
        "{check}"
    );
}
