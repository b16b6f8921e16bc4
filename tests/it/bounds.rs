//! What a binding bounds over stock ssh: from where, how many at once. Until when is with the sessions' own times.

use std::process::Stdio;

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::running::Running;

/// operator-a as a viewer, from here and once at a time, and as an editor from elsewhere.
const BOUND: &str = "  roles: [viewer]\n  from: [127.0.0.0/8, \"!127.0.0.2\"]\n  sessionsAtOnce: 1\n---\n\
    apiVersion: bastion-audit.dev/v1alpha1\nkind: Binding\nmetadata: {name: office}\n\
    spec: {subjects: [{group: sre}], roles: [editor], from: [192.0.2.0/24]}\n";

fn bound(documents: String) -> String {
    let changed = documents.replace("  roles: [viewer, editor]\n  reason: on call\n", BOUND);
    assert_ne!(changed, documents);
    changed
}

fn denied(bastion: &Bastion, ran: &Ran, why: &str, says: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
    assert!(ran.stderr.contains(says), "{ran:?}");
    let id = ran.stderr.trim_end().rsplit("(session ").next().unwrap();
    let id = id.trim_end_matches(')');
    let event = bastion.event("policy.denied", |event| event["session"] == id);
    assert_eq!(event["denial"]["why"], why, "{event}");
}

#[test]
fn who_comes_from_elsewhere_or_too_often_is_refused_and_what_was_given_ends_with_it() {
    let bastion = Bastion::with(bound);
    let run = |login: &str| bastion.run_ssh("operator-a", login, "echo it runs");
    let said = "The role editor is yours by the binding office, but not from where you are (127.0.0.1). Log in as one of: viewer.";
    denied(&bastion, &run("editor"), "notFromHere", said);
    // The other address of this machine is an excluded one.
    let mut other = bastion.ssh("operator-a", "viewer");
    let other = other.args(["-b", "127.0.0.2", "-o", "BindAddress=127.0.0.2", "true"]);
    let ran = Ran::from(other.stdin(Stdio::null()).output().unwrap());
    denied(
        &bastion,
        &ran,
        "notFromHere",
        "not from where you are (127.0.0.2)",
    );

    let running = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    let said = "You have as many sessions open as the binding sre-viewers allows at once (1). End one, and viewer on prod is yours again.";
    denied(&bastion, &run("viewer"), "tooManySessions", said);
    let explained = bastion.run_ssh("operator-a", "viewer", "bastion explain");
    assert!(
        explained
            .stdout
            .contains("shell       no: You have as many"),
        "{explained:?}"
    );

    // Its network is taken out: what it gave ends, and others may follow when it is put back.
    let documents = bastion.config();
    bastion.write_config(&documents.replace("from: [127.0.0.0/8", "from: [192.0.2.0/24"));
    let id = running.id.clone();
    let ran = running.wait();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let reason = bastion.cut_reason(&id);
    assert!(
        reason.contains("No binding gives you the role viewer on prod any more"),
        "{reason}"
    );
    bastion.write_config(&documents);
    bastion.event("config.reloaded", |event| {
        let first = bastion.event("daemon.started", |_| true);
        event["configDigest"] == first["configDigest"]
    });

    // Three that are opened at the same time see nothing of each other, and one of them is it.
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut ssh = bastion.ssh("operator-a", "viewer");
            ssh.arg("echo it runs; sleep 3")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let ran: Vec<Ran> = clients
        .into_iter()
        .map(|client| Ran::from(client.wait_with_output().unwrap()))
        .collect();
    let ran_on = ran.iter().filter(|ran| ran.code == Some(0)).count();
    assert_eq!(ran_on, 1, "{ran:?}");
    let refused = ran.iter().filter(|ran| ran.stderr.contains("at once (1)"));
    assert_eq!(refused.count(), 2, "{ran:?}");
    assert_eq!(
        run("viewer").stdout,
        "it runs\n",
        "when it has ended there is room"
    );
}
