//! A running daemon follows its configuration, whole or not at all, and ends what is no longer allowed.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::cluster::ControlPlane;
use crate::harness::network::Network;
use crate::harness::running::{Running, processes_of, secrets_of};
use crate::harness::token::Holder;

/// What the standard configuration says of the binding sre-viewers, from `subjects` on.
const SRE_VIEWERS: &str = "subjects: [{group: sre}]\n  roles: [viewer, editor]\n";

/// Changes one thing that is there.
fn edited(documents: &str, from: &str, to: &str) -> String {
    let changed = documents.replacen(from, to, 1);
    assert_ne!(documents, changed, "{from:?} is not in the documents");
    changed
}

/// A binding of one identity to one role.
fn binding(identity: &str, role: &str, more: &str) -> String {
    format!(
        "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Binding\nmetadata: {{name: {identity}-{role}}}\n\
         spec: {{subjects: [{{identity: {identity}}}], roles: [{role}]{more}}}\n"
    )
}

fn digest(bastion: &Bastion) -> Value {
    let mut events = bastion.events().into_iter().rev();
    let last = events
        .find(|event| event["event"] == "config.reloaded" || event["event"] == "daemon.started");
    last.unwrap()["configDigest"].clone()
}

/// Waits for a configuration other than the one with this digest.
fn reloaded(bastion: &Bastion, before: &Value) -> Value {
    let event = bastion.event("config.reloaded", |event| {
        event["previousDigest"] == *before
    });
    event["configDigest"].clone()
}

fn is_let_in(bastion: &Bastion, who: &str, login: &str) -> bool {
    let ran = bastion.run_ssh(who, login, "echo it runs");
    match (ran.stdout.as_str(), ran.code) {
        ("it runs\n", Some(0)) => true,
        ("", Some(255)) => false,
        _ => panic!("{ran:?}"),
    }
}

#[test]
fn a_renamed_file_takes_force_and_a_bad_one_changes_nothing() {
    let bastion = Bastion::start();
    let running = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    let first = bastion.config();
    let with_c = first.clone() + &binding("operator-c", "viewer", "");
    let started = digest(&bastion);
    assert!(!is_let_in(&bastion, "operator-c", "viewer"));
    bastion.write_config(&with_c);
    let now = reloaded(&bastion, &started);
    assert!(is_let_in(&bastion, "operator-c", "viewer"));

    // Two mistakes, both told, with where and what; nothing of it is in force.
    let bad = first.clone() + &binding("operator-c", "veiwer", ", untill: 2030-01-01T00:00:00Z");
    let line = bad.lines().count();
    bastion.write_config(&bad);
    let refused = bastion.event("config.refused", |_| true);
    let problems = refused["problems"].as_str().unwrap();
    let last = bad.lines().last().unwrap();
    for word in ["veiwer", "untill"] {
        let column = last.find(word).unwrap() + 1;
        let place = format!("{}:{line}:{column}:", bastion.config_path().display());
        assert!(problems.contains(&place), "{place} is not in: {problems}");
    }
    assert_eq!(refused["configDigest"], now);
    assert!(bastion.log().contains("the old one stays"));
    assert!(is_let_in(&bastion, "operator-c", "viewer"));

    // What takes a restart is said to.
    let elsewhere = edited(&first, "listen: 127.0.0.1:0", "listen: 127.0.0.2:0");
    bastion.write_config(&elsewhere);
    let refused = bastion.event("config.refused", |event| {
        event["problems"].as_str().unwrap().contains("restart")
    });
    let problems = refused["problems"].as_str().unwrap();
    assert!(
        problems.contains("the Bastion's listen changed"),
        "{problems}"
    );

    let smaller = edited(&first, "sandbox: {", "sandbox: {processes: 77, ");
    bastion.write_config(&smaller);
    bastion.event("config.refused", |event| {
        let problems = event["problems"].as_str().unwrap();
        problems.contains("the Bastion's sandbox changed, which takes a restart")
    });

    bastion.write_config(&first);
    let last = reloaded(&bastion, &now);
    assert_eq!(last, started, "the same documents have the same digest");
    assert!(!is_let_in(&bastion, "operator-c", "viewer"));
    assert!(
        !processes_of(&running.id).is_empty(),
        "what was allowed all the time has gone on all the time"
    );
}

#[test]
fn the_data_link_of_a_mounted_config_map_is_followed() {
    let mut bastion = Bastion::prepare(|documents| documents);
    let absolute = ["keys/host", "test.kubeconfig", "bin/kubectl"]
        .into_iter()
        .fold(bastion.config(), |documents, path| {
            let whole = bastion.path().join(path);
            edited(&documents, path, whole.to_str().unwrap())
        });
    let state = format!("stateDir: {}", bastion.state_dir().display());
    let documents = edited(&absolute, "stateDir: state", &state);
    // As kubelet lays a volume out.
    let mount = bastion.config_path();
    std::fs::remove_file(&mount).unwrap();
    std::fs::create_dir(&mount).unwrap();
    publish(&mount, "..1", &documents);
    std::os::unix::fs::symlink("..data/bastion.yaml", mount.join("bastion.yaml")).unwrap();
    bastion.run();
    let started = digest(&bastion);
    assert!(!is_let_in(&bastion, "operator-c", "viewer"));

    publish(
        &mount,
        "..2",
        &(documents + &binding("operator-c", "viewer", "")),
    );
    reloaded(&bastion, &started);
    assert!(is_let_in(&bastion, "operator-c", "viewer"));
}

/// A new version of all files, in force by one rename.
fn publish(mount: &Path, version: &str, documents: &str) {
    std::fs::create_dir(mount.join(version)).unwrap();
    std::fs::write(mount.join(version).join("bastion.yaml"), documents).unwrap();
    std::os::unix::fs::symlink(version, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[test]
fn sighup_reloads_at_once_and_says_so_when_there_is_nothing_new() {
    let bastion = Bastion::start();
    let started = digest(&bastion);
    bastion.signal("HUP");
    eventually("a word on nothing", || {
        bastion.log().contains("nothing to reload").then_some(())
    });
    assert_eq!(digest(&bastion), started);
    bastion.write_config(&(bastion.config() + &binding("operator-c", "viewer", "")));
    bastion.signal("HUP");
    reloaded(&bastion, &started);
    assert!(is_let_in(&bastion, "operator-c", "viewer"));
}

#[test]
fn what_lost_its_identity_key_role_or_binding_ends_and_nothing_else_does() {
    let bastion = Bastion::prepare(|documents| {
        let extra = edited(
            documents
                .split("---\n")
                .find(|d| d.contains("name: viewer}\nspec"))
                .unwrap(),
            "name: viewer}\nspec",
            "name: extra}\nspec",
        );
        documents.clone()
            + "---\n"
            + &extra
            + &binding("operator-a", "extra", "")
            + &binding("operator-c", "viewer", "")
            + &binding("operator-b", "viewer", "")
    });
    let mut bastion = bastion;
    let nobody = std::fs::read_to_string(bastion.path().join("keys/nobody-a.pub")).unwrap();
    let full = bastion.config()
        + &format!(
            "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {{name: leaver}}\n\
             spec: {{keys: [\"{}\"]}}\n",
            nobody.trim()
        )
        + &binding("leaver", "viewer", "");
    bastion.write_config(&full);
    bastion.run();
    let started = digest(&bastion);
    let open = |who, login| Running::start(&bastion, who, login, "trap '' HUP; sleep 300");
    let stays = open("operator-a", "viewer");
    let lost_binding = open("operator-a", "editor");
    let lost_role = open("operator-a", "extra");
    let lost_last_binding = open("operator-c", "viewer");
    let lost_key = open("operator-b", "viewer");
    let lost_identity = open("nobody-a", "viewer");
    let handed_out = bastion.run_ssh("operator-b", "editor", "bastion credential");
    let document: Value = serde_json::from_str(&handed_out.stdout).unwrap();
    let holder = Holder::of(document["status"]["token"].as_str().unwrap());
    let handed_out = bastion.event("lease.handed-out", |_| true)["session"].clone();
    let handed_out = handed_out.as_str().unwrap();

    let other_key = std::fs::read_to_string(bastion.path().join("keys/host.pub")).unwrap();
    let old_key = std::fs::read_to_string(bastion.path().join("keys/operator-b.pub")).unwrap();
    let gone = ["operator-a-extra", "operator-c-viewer", "leaver-viewer"];
    let kept = full.split("---\n").filter(|document| {
        let named = |name: &str| document.contains(&format!("metadata: {{name: {name}}}"));
        !gone.iter().any(|name| named(name)) && !named("leaver") && !named("extra")
    });
    let kept = kept.collect::<Vec<_>>().join("---\n");
    let kept = edited(
        &kept,
        SRE_VIEWERS,
        "subjects: [{group: sre}]\n  roles: [viewer]\n",
    );
    let kept = edited(&kept, old_key.trim(), other_key.trim());
    // Not the identity: what it was handed out goes because its role hands nothing out any more.
    let kept = edited(
        &kept,
        "sessions: [shell, exec, credential]",
        "sessions: [shell, exec]",
    );
    bastion.write_config(&kept);
    let began = Instant::now();
    reloaded(&bastion, &started);

    for (session, who, why) in [
        (lost_binding, "editor", "it is no longer allowed"),
        (lost_role, "extra", "it is no longer allowed"),
        (lost_last_binding, "operator-c", "it is no longer allowed"),
        (lost_key, "operator-b", "key"),
        (lost_identity, "leaver", "key"),
    ] {
        let id = session.id.clone();
        let ran = session.wait();
        assert_eq!(ran.code, Some(255), "{who}: {ran:?}");
        assert!(ran.stderr.contains(why), "{who}: {ran:?}");
        let reason = bastion.cut_reason(&id);
        assert!(reason.contains("no longer"), "{who}: {reason}");
        bastion.nothing_left(&id);
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    let released = bastion.event("lease.released", |event| event["session"] == handed_out);
    assert_eq!(released["validUntil"], Value::Null, "{released}");
    holder.is_refused_after(Instant::now());
    assert!(secrets_of(handed_out).is_empty());
    assert!(!processes_of(&stays.id).is_empty());
    assert!(!is_let_in(&bastion, "operator-b", "viewer"));
}

#[test]
fn a_connection_whose_key_was_withdrawn_ends_even_when_nothing_runs_on_it() {
    let bastion = Bastion::start();
    let socket = bastion.path().join("control");
    let mut ssh = bastion.ssh("operator-b", "editor");
    ssh.args(["-N", "-o", "ControlMaster=yes", "-o"])
        .arg(format!("ControlPath={}", socket.display()));
    let mut master = ssh.stderr(std::process::Stdio::piped()).spawn().unwrap();
    bastion.event("authentication.ok", |_| true);
    let other = std::fs::read_to_string(bastion.path().join("keys/nobody-a.pub")).unwrap();
    let old = std::fs::read_to_string(bastion.path().join("keys/operator-b.pub")).unwrap();
    bastion.write_config(&edited(&bastion.config(), old.trim(), other.trim()));
    eventually("the end of the connection", || master.try_wait().unwrap());
    let said = master.wait_with_output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.contains("your key no longer proves who you are"),
        "{said}"
    );
    bastion.event("connection.closed", |event| {
        event["identity"] == "operator-b"
    });
}

/// A moment as configurations write it.
fn in_seconds(seconds: i64) -> String {
    let moment = now()
        .saturating_add(SignedDuration::from_secs(seconds))
        .unwrap();
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[allow(clippy::disallowed_methods)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn what_a_binding_gives_ends_when_the_binding_does() {
    let until = in_seconds(12);
    let bastion = Bastion::with(|documents| {
        edited(
            &documents,
            SRE_VIEWERS,
            &format!("{SRE_VIEWERS}  until: {until}\n"),
        )
    });
    // Opened under a binding that ends, and under one that gets an end meanwhile.
    let early = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    let late = Running::start(&bastion, "operator-b", "editor", "sleep 300");
    let handed_out = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!(handed_out.code, Some(0), "{handed_out:?}");
    let handed_out = bastion.event("lease.handed-out", |_| true)["session"].clone();
    let started = digest(&bastion);
    let platform = "subjects: [{group: platform}]\n  roles: [editor]\n";
    let documents = bastion.config();
    let shortened = format!("{platform}  until: {until}\n");
    bastion.write_config(&edited(&documents, platform, &shortened));
    reloaded(&bastion, &started);
    assert!(
        is_let_in(&bastion, "operator-a", "viewer"),
        "too slow a machine"
    );

    let end: Timestamp = until.parse().unwrap();
    for session in [early, late] {
        let id = session.id.clone();
        let ran = session.wait();
        assert!(now() >= end, "it ended early: {ran:?}");
        assert!(now() < end + SignedDuration::from_secs(4), "{ran:?}");
        assert_eq!(ran.code, Some(255), "{ran:?}");
        assert!(
            ran.stderr.contains(&format!("session {id} was ended:")),
            "{ran:?}"
        );
        let reason = bastion.cut_reason(&id);
        assert!(
            reason.contains("its time is over") || reason.contains("no longer"),
            "{reason}"
        );
        bastion.nothing_left(&id);
    }
    let released = bastion.event("lease.released", |event| event["session"] == handed_out);
    assert_eq!(released["validUntil"], Value::Null, "{released}");
    let at: Timestamp = released["time"].as_str().unwrap().parse().unwrap();
    assert!(at < end + SignedDuration::from_secs(4), "{released}");
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let sentence = format!("yours by the binding sre-viewers until {until}, which is over");
    assert!(ran.stderr.contains(&sentence), "{ran:?}");
}

#[test]
fn a_credential_whose_binding_went_while_the_daemon_was_down_is_taken_back_at_its_start() {
    let mut bastion = Bastion::start();
    let ran = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let id = bastion.event("lease.handed-out", |_| true)["session"].clone();
    let id = id.as_str().unwrap();
    assert!(bastion.stop().success());
    assert_eq!(secrets_of(id).len(), 1, "it outlives the daemon");
    let unbound = edited(
        &bastion.config(),
        "subjects: [{group: platform}]\n  roles: [editor]",
        "subjects: [{group: platform}]\n  roles: [viewer]",
    );
    bastion.write_config(&unbound);
    bastion.run();
    let released = bastion.event("lease.released", |event| event["session"] == id);
    assert_eq!(released["validUntil"], Value::Null, "{released}");
    assert!(secrets_of(id).is_empty());
}

#[test]
fn a_credential_goes_with_the_key_that_it_was_handed_out_to() {
    let bastion = Bastion::start();
    let hand_out = |who: &str| {
        let before = bastion.events().len();
        let ran = bastion.run_ssh(who, "editor", "bastion credential");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let events = bastion.events().split_off(before);
        let mut handed_out = events
            .iter()
            .filter(|event| event["event"] == "lease.handed-out");
        handed_out.next().unwrap()["session"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (of_a, of_b) = (hand_out("operator-a"), hand_out("operator-b"));
    // Somebody may have it: the identity gets another one, and keeps its role.
    let line = |who: &str| {
        let path = bastion.path().join("keys").join(format!("{who}.pub"));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    let documents = edited(&bastion.config(), &line("operator-a"), &line("nobody-a"));
    bastion.write_config(&documents);
    let released = bastion.event("lease.released", |event| event["session"] == of_a.as_str());
    assert_eq!(released["validUntil"], Value::Null, "{released}");
    assert!(secrets_of(&of_a).is_empty());
    assert_eq!(
        secrets_of(&of_b).len(),
        1,
        "nothing of this one has changed"
    );
}

#[test]
fn what_is_being_opened_while_its_binding_goes_is_not_opened() {
    let plane = ControlPlane::shared();
    for (login, command) in [("viewer", "echo it runs"), ("editor", "bastion credential")] {
        let network = Network::to(plane.port());
        let bastion = Bastion::behind(&network);
        // The token is waited for while the configuration changes.
        network.freeze();
        let mut ssh = bastion.ssh("operator-a", login);
        ssh.arg(command).stdin(Stdio::null());
        let opening = ssh
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let granted = bastion.event("policy.granted", |_| true);
        let id = granted["session"].as_str().unwrap();
        let unbound = edited(
            &bastion.config(),
            SRE_VIEWERS,
            "subjects: [{group: audit}]\n  roles: [viewer, editor]\n",
        );
        bastion.write_config(&unbound.replace("  defaultRole: viewer\n", ""));
        bastion.signal("HUP");
        bastion.event("config.reloaded", |_| true);
        network.mend();
        let ran = Ran::from(opening.wait_with_output().unwrap());
        assert_eq!(ran.stdout, "", "{command}: {ran:?}");
        let sentence = format!("No binding gives you the role {login} on prod any more.");
        assert!(ran.stderr.contains(&sentence), "{command}: {ran:?}");
        let released = bastion.event("lease.released", |event| event["session"] == id);
        assert_eq!(released["validUntil"], Value::Null, "{released}");
        bastion.nothing_left(id);
    }
}
