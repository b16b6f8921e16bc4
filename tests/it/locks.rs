//! Locks: at once, on what is open and what would be new; kept over a restart; said no more of than may be said.

use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::running::Running;
use crate::harness::token::Holder;

fn worked(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lines that begin with what is locked; what changes with the time is cut off.
fn locked(bastion: &Bastion, word: &[&str]) -> Vec<String> {
    let said = worked(bastion.cli(word));
    let lines = said.lines().filter(|line| line.contains(": locked "));
    lines
        .map(|line| line.split(": locked ").next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_lock_ends_what_is_open_takes_back_what_is_out_and_outlives_the_daemon() {
    let mut bastion = Bastion::start();
    let open = Running::start(&bastion, "operator-b", "editor", "sleep 300");
    let mut stays = Running::start(&bastion, "operator-a", "editor", "cat");
    let credential = bastion.run_ssh("operator-b", "editor", "bastion credential");
    let credential: Value = serde_json::from_str(&credential.stdout).unwrap();
    let holder = Holder::of(credential["status"]["token"].as_str().unwrap());
    let handed_out = bastion.event("lease.handed-out", |_| true)["session"].clone();

    let word = [
        "lock",
        "identity",
        "operator-b",
        "--for",
        "2h",
        "--reason",
        "INC-7",
    ];
    let said = worked(bastion.cli(&word));
    let end = Instant::now();
    assert!(
        said.starts_with("identity operator-b: locked until 20"),
        "{said}"
    );
    assert!(said.contains("1 open session ended\n"), "{said}");
    assert!(
        said.contains(&format!("{}: revoked\n", handed_out.as_str().unwrap())),
        "{said}"
    );
    let ran = open.wait();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let sentence =
        "You are operator-b, and your access is locked. Ask the administrators of this bastion.";
    assert!(ran.stderr.contains(sentence), "{ran:?}");
    assert!(!ran.stderr.contains("INC-7"), "{ran:?}");
    let event = bastion.event("lock.set", |_| true);
    assert_eq!(event["lock"]["on"]["value"], "operator-b", "{event}");
    assert_eq!(
        (&event["sessions"], &event["credentials"]),
        (&1.into(), &1.into()),
        "{event}"
    );
    assert_eq!(event["notKept"], Value::Null);

    // Who has proven who they are is told; words of ours are refused as well, and an unproven client sees what it always sees.
    let refused = |bastion: &Bastion| {
        for command in [
            "true",
            "bastion whoami",
            "bastion credential",
            "bastion kubeconfig",
        ] {
            let ran = bastion.run_ssh("operator-b", "editor", command);
            assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(255)), "{ran:?}");
            assert!(ran.stderr.contains(sentence), "{command}: {ran:?}");
        }
    };
    refused(&bastion);
    let denied = bastion.event("policy.denied", |_| true);
    assert_eq!(denied["denial"]["why"], "locked", "{denied}");
    // To a key that is nobody's the locked name looks like any other.
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(bastion.path().join("keys/stranger"))
        .status();
    assert!(made.unwrap().success());
    let stranger = |login: &str| {
        let ran = bastion.run_ssh("stranger", login, "true");
        assert_eq!(ran.code, Some(255), "{ran:?}");
        ran.stderr.replace(login, "LOGIN")
    };
    assert_eq!(stranger("operator-b"), stranger("operator-z"));
    assert_eq!(locked(&bastion, &["locks"]), ["identity operator-b"]);
    assert_eq!(locked(&bastion, &["sessions"]), ["identity operator-b"]);
    holder.is_refused_after(end);
    stays.send("still here\n");
    stays.close_stdin();
    assert_eq!(stays.wait().stdout, "still here\n");

    bastion.stop();
    bastion.run();
    refused(&bastion);
    assert_eq!(locked(&bastion, &["locks"]), ["identity operator-b"]);
    assert_eq!(
        worked(bastion.cli(&["unlock", "identity", "operator-b"])),
        "identity operator-b: unlocked\n"
    );
    let ran = bastion.run_ssh("operator-b", "editor", "true");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let again = Ran::from(bastion.cli(&["unlock", "identity", "operator-b"]));
    assert!(again.stderr.contains("is not locked"), "{again:?}");
    assert_eq!(worked(bastion.cli(&["locks"])), "nothing is locked\n");

    // Half a file is no file: nobody is let in until somebody has looked at it.
    worked(bastion.cli(&["lock", "role", "viewer", "--reason", "closed for repairs"]));
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert!(
        ran.stderr
            .contains("The role viewer is locked: closed for repairs."),
        "{ran:?}"
    );
    bastion.stop();
    let down = Ran::from(bastion.cli(&["lock", "role", "editor", "--reason", "x"]));
    assert!(
        down.stderr.contains("only a running daemon locks"),
        "{down:?}"
    );
    let path = bastion.state_dir().join("locks.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let status = bastion.spawn().wait().unwrap();
    assert!(!status.success());
    assert!(
        bastion.log().contains("locks.json are not whole"),
        "{}",
        bastion.log()
    );
}
