//! The gateway as a session's own kubectl meets it: everything works as before, and ends when the session does.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::cluster::ControlPlane;
use crate::harness::running::Running;

/// From the word that ends a session to the end of everything that it had open at the API server.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A pod of the test's own that writes a line now and again.
fn pod(name: &str) {
    let plane = ControlPlane::shared();
    plane.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, \
         containers: [{{name: main, image: none, \
         command: [sh, -c, 'while :; do echo tick; sleep 0.2; done']}}]}}}}"
    ));
    let ready = format!("pod/{name}");
    plane.admin(&["wait", "--for=condition=Ready", &ready, "--timeout=30s"]);
}

/// What the API server has put on record of the requests of a session, `(Audit-ID, stage, verb)`.
fn audited(session: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = ControlPlane::shared().audit_lines().into_iter();
    lines
        .filter(|line| {
            let agent = line["userAgent"].as_str().unwrap_or_default();
            let user = line["user"]["username"].as_str().unwrap_or_default();
            agent.contains(session) && user != "system:serviceaccount:bastion-audit:bastion"
        })
        .map(|line| {
            let (id, stage) = (text(&line["auditID"]), text(&line["stage"]));
            (id, stage, text(&line["verb"]))
        })
        .collect()
}

/// Waits until the API server has a watch of the session's.
fn watch_of(session: &str) -> String {
    eventually("a watch", || {
        let watch = |(_, stage, verb): &(String, String, String)| {
            stage == "ResponseStarted" && verb == "watch"
        };
        let (id, ..) = audited(session).into_iter().find(watch)?;
        Some(id)
    })
}

/// Waits until the API server says that it is over.
fn over(session: &str, audit_id: &str) {
    eventually("the end of the watch at the API server", || {
        let end = |(id, stage, _): &(String, String, String)| {
            id == audit_id && stage == "ResponseComplete"
        };
        audited(session).iter().any(end).then_some(())
    });
}

#[test]
fn kubectl_works_as_it_does_anywhere() {
    let bastion = Bastion::shared();
    let plane = ControlPlane::shared();
    plane.admin(&["create", "namespace", "inside"]);
    let edits = [
        "--clusterrole=edit",
        "--serviceaccount=bastion-editor:editor",
    ];
    plane.admin(
        &[
            &["create", "rolebinding", "edits", "-n", "inside"],
            &edits[..],
        ]
        .concat(),
    );
    let script = "set -e; export NS='-n inside'; \
        kubectl create configmap one $NS --from-literal=a=b; \
        kubectl get configmap one $NS -o jsonpath={.data.a}; echo; \
        echo '{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"two\"}, \"data\": {\"c\": \"d\"}}' \
            | kubectl apply $NS -f -; \
        kubectl patch configmap two $NS -p '{\"data\": {\"c\": \"e\"}}'; \
        kubectl get configmaps $NS -o name; \
        kubectl delete configmap one two $NS; \
        kubectl auth can-i create configmaps $NS; \
        kubectl api-resources --api-group=apps -o name; \
        kubectl version -o json | grep -c gitVersion";
    let ran = bastion.run_ssh("operator-a", "editor", script);
    let expected = "configmap/one created\nb\nconfigmap/two created\nconfigmap/two patched\n\
        configmap/kube-root-ca.crt\nconfigmap/one\nconfigmap/two\n\
        configmap \"one\" deleted from inside namespace\nconfigmap \"two\" deleted from inside namespace\n\
        yes\ncontrollerrevisions.apps\ndaemonsets.apps\ndeployments.apps\nreplicasets.apps\nstatefulsets.apps\n2\n";
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        (expected, Some(0)),
        "{ran:?}"
    );
    // What Kubernetes says reaches kubectl as it was said.
    let ran = bastion.run_ssh("operator-a", "viewer", "kubectl get secrets -n inside");
    let refusal = "Error from server (Forbidden): secrets is forbidden: \
        User \"system:serviceaccount:bastion-viewer:viewer\" cannot list resource \"secrets\" \
        in API group \"\" in the namespace \"inside\"\n";
    assert_eq!(
        (ran.stderr.as_str(), ran.code),
        (refusal, Some(1)),
        "{ran:?}"
    );
    // No question to whoever has no credential of their own.
    let ran = bastion.run_ssh(
        "operator-a",
        "viewer",
        "kubectl get ns inside -o name < /dev/null",
    );
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("namespace/inside\n", "")
    );
}

#[test]
fn logs_are_followed_while_they_are_written() {
    let bastion = Bastion::shared();
    pod("inside-logs");
    let follow = "timeout 20 kubectl logs -f inside-logs | head -n 5";
    let ran = bastion.run_ssh("operator-a", "viewer", follow);
    assert_eq!(ran.stdout, "tick\n".repeat(5), "{ran:?}");
}

/// Ends a session while `kubectl get -w` runs in it, and says what its operator was told.
fn cut_while_watching(bastion: &Bastion, end: impl FnOnce(&Bastion, &str)) -> Ran {
    let watching = Running::start(bastion, "operator-a", "viewer", "kubectl get ns -w -o name");
    let id = watching.id.clone();
    let watch = watch_of(&id);
    let began = Instant::now();
    end(bastion, &id);
    over(&id, &watch);
    let ran = watching.wait();
    let took = began.elapsed();
    // A reload is looked for once a second.
    assert!(took < AT_ONCE + Duration::from_secs(2), "{took:?}");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    ran
}

#[test]
fn a_watch_ends_when_its_session_is_killed_or_revoked() {
    let bastion = Bastion::start();
    for word in ["kill", "revoke"] {
        let ran = cut_while_watching(&bastion, |bastion, id| {
            assert!(bastion.cli(&[word, id]).status.success());
        });
        assert!(ran.stdout.contains("namespace/kube-system"), "{ran:?}");
        assert!(ran.stderr.contains("was ended"), "{word}: {ran:?}");
    }
}

#[test]
fn a_watch_ends_when_its_session_loses_its_role() {
    let bastion = Bastion::start();
    let ran = cut_while_watching(&bastion, |bastion, _| {
        let config = bastion
            .config()
            .replace("roles: [viewer, editor]", "roles: [editor]")
            .replacen("defaultRole: viewer", "defaultRole: editor", 1);
        bastion.write_config(&config);
    });
    assert!(ran.stderr.contains("it is no longer allowed"), "{ran:?}");
}

/// Whatever the command does with its signals: what it has open is cut from outside.
#[test]
fn a_watch_ends_with_its_command_and_at_once_when_its_client_vanishes() {
    let bastion = Bastion::shared();
    let stubborn = "trap '' HUP TERM; kubectl get ns -w -o name > /dev/null & sleep 1000";
    let mut watching = Running::start(bastion, "operator-a", "viewer", stubborn);
    let id = watching.id.clone();
    let watch = watch_of(&id);
    let began = Instant::now();
    watching.kill();
    over(&id, &watch);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());

    let leaves = "kubectl get ns -w -o name > /dev/null 2>&1 & sleep 3";
    let leaving = Running::start(bastion, "operator-a", "viewer", leaves);
    let id = leaving.id.clone();
    let watch = watch_of(&id);
    assert_eq!(leaving.wait().code, Some(0));
    over(&id, &watch);
}

/// More connections than a session may have are kept waiting, and the session's own end ends them all.
#[test]
fn connections_are_bounded_and_wait_their_turn() {
    let bastion = Bastion::shared();
    let flood = "perl -MIO::Socket::INET -e ' \
        for (1..300) { push @open, IO::Socket::INET->new(PeerAddr => q(127.0.0.1:6443)) or die $! } \
        print scalar(@open), qq(\\n); $| = 1; system(q(timeout 3 kubectl get ns inside-none > /dev/null 2>&1)); \
        print $? >> 8, qq(\\n); undef $_ for @open[0..99]; sleep 1; \
        exec(q(kubectl auth whoami -o name))'";
    let ran = bastion.run_ssh("operator-a", "viewer", flood);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.get(..2), Some(&["300", "124"][..]), "{ran:?}");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
