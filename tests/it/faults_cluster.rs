//! Clusters that fail: the operator gets one sentence and a session id within 10 s, the audit log the reason, and
//! whoever works on another cluster notices nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::cluster::{ControlPlane, write_private};
use crate::harness::network::Network;
use crate::harness::running::{Running, secrets_of};
use crate::harness::tls::{self, Behaviour, Validity};

const PROMISED: Duration = Duration::from_secs(10);
/// What a client waits at its session's end for a cluster that does not answer.
const FAREWELL: Duration = Duration::from_secs(6);

/// A cluster NAME and a role NAME on it, for operator-a.
fn broken(name: &str, kubeconfig: &Path) -> String {
    format!(
        r#"---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: {name}}}
spec: {{kubeconfig: "{}"}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: on-{name}}}
spec:
  kubernetes:
    clusters: [{name}]
    serviceAccount: {{namespace: bastion-viewer, name: viewer}}
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: on-{name}}}
spec:
  subjects: [{{identity: operator-a}}]
  roles: [on-{name}]
"#,
        kubeconfig.display()
    )
}

/// Refused under `login` within the promised time, in one sentence with an id; and the id finds the reason.
fn refused(bastion: &Bastion, login: &str, sentence: &str, reason: &[&str]) {
    let began = Instant::now();
    let ran = bastion.run_ssh("operator-a", login, "echo it runs");
    let took = began.elapsed();
    assert!(took < PROMISED, "{login}: {took:?}");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let [said, id] = lines[..] else {
        panic!("not one sentence and an id: {ran:?}");
    };
    assert_eq!(said, format!("bastion-audit: {sentence}"));
    let id = id
        .strip_prefix("(session ")
        .and_then(|id| id.strip_suffix(')'))
        .unwrap_or_else(|| panic!("{ran:?}"));
    let failed = bastion.event("session.failed", |event| event["session"] == id);
    assert_eq!(failed["step"], "mint", "{failed}");
    for part in reason {
        let told = failed["reason"].as_str().unwrap();
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    // The refused session is on record as what it is.
    assert_eq!(bastion.cut_reason(id), sentence);
    bastion.event("session.closed", |event| event["session"] == id);
    // `bastion credential` tells it on stderr, too, and nothing on stdout.
    let ran = bastion.run_ssh("operator-a", login, "bastion credential");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.contains(sentence), "{ran:?}");
}

/// The decision needs no cluster; what RBAC there grants is not guessed.
fn explained_in_part(bastion: &Bastion, login: &str, sentence: &str) {
    let ran = bastion.run_ssh("operator-a", login, "bastion explain");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("  shell       yes: "), "{ran:?}");
    assert!(!ran.stdout.contains("what Kubernetes grants"), "{ran:?}");
    let said = format!("bastion-audit: what Kubernetes grants is not known: {sentence} (session ");
    assert!(ran.stderr.starts_with(&said), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_cluster_is_told_and_other_clusters_serve_on() {
    let files = tempfile::tempdir().unwrap();
    let dir = |name: &str| {
        let dir = files.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        dir
    };
    let slow = tls::kubeconfig(&dir("slow"), Validity::Valid, Behaviour::Hang).await;
    let expired = tls::kubeconfig(&dir("expired"), Validity::Expired, Behaviour::Hang).await;
    let down = files.path().join("down.kubeconfig");
    write_private(
        &down,
        &tls::plain_kubeconfig(closed_port(), &files.path().join("slow/ca.crt")),
    );
    let missing = files.path().join("missing.kubeconfig");
    // The real API server, and a namespace that never gave the bastion any right.
    let forbids = ControlPlane::shared().bastion_kubeconfig();
    let documents = [
        broken("slow", &slow),
        broken("expired", &expired),
        broken("down", &down),
        broken("missing", &missing),
        broken("forbids", forbids).replace(
            "{namespace: bastion-viewer, name: viewer}",
            "{namespace: default, name: default}",
        ),
    ];
    let bastion = Bastion::with(|standard| standard + &documents.concat());
    let mut working = Running::start(&bastion, "operator-a", "viewer", "cat");

    let missing = missing.to_str().unwrap();
    let cases: [(&str, &str, &[&str]); 5] = [
        (
            "on-slow",
            "cluster slow did not answer in time; try again, or tell your administrator",
            &["no answer within"],
        ),
        (
            "on-expired",
            "cluster expired cannot be trusted: its certificate has expired; tell your administrator",
            &["certificate has expired"],
        ),
        (
            "on-down",
            "cluster down cannot be reached; try again, or tell your administrator",
            &["cannot be reached", "refused"],
        ),
        (
            "on-missing",
            "the bastion has no valid credential for cluster missing; tell your administrator",
            &[missing, "No such file"],
        ),
        (
            "on-forbids",
            "the bastion may not issue this role's credential on cluster forbids; tell your administrator",
            &["403", "system:serviceaccount:bastion-audit:bastion"],
        ),
    ];
    std::thread::scope(|scope| {
        for (login, sentence, reason) in cases {
            let bastion = &bastion;
            scope.spawn(move || refused(bastion, login, sentence, reason));
        }
        // Meanwhile, on the cluster that works.
        let ran = bastion.run_ssh("operator-a", "viewer", "kubectl auth whoami -o name");
        assert_eq!(ran.code, Some(0), "{ran:?}");
    });
    for (login, sentence, _) in &cases[2..] {
        explained_in_part(&bastion, login, sentence);
    }
    working.send("still here\n");
    working.close_stdin();
    let ran = working.wait();
    assert_eq!((ran.stdout.as_str(), ran.code), ("still here\n", Some(0)));
}

#[test]
fn a_missing_kubeconfig_works_as_soon_as_it_is_there() {
    let bastion = Bastion::prepare(|standard| standard);
    let path = bastion.path().join("test.kubeconfig");
    let kept = bastion.path().join("kept");
    std::fs::rename(&path, &kept).unwrap();
    let mut bastion = bastion;
    bastion.run();
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    std::fs::rename(&kept, &path).unwrap();
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// A session outlives its API server, says at its end what is still valid, and is tidied up after once that is back.
fn outlives(fail: impl Fn(&Network)) {
    let network = Network::to(ControlPlane::shared().port());
    let bastion = Bastion::behind(&network);
    let mut session = Running::start(&bastion, "operator-a", "viewer", "cat");
    let id = session.id.clone();
    assert_eq!(secrets_of(&id).len(), 1, "one Secret for each open session");

    fail(&network);
    session.send("the cluster is away\n");
    session.close_stdin();
    let began = Instant::now();
    let ran = session.wait();
    let waited = began.elapsed();
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("the cluster is away\n", Some(0)),
        "{ran:?}"
    );
    assert!(waited < FAREWELL, "{waited:?}");
    let released = bastion.event("lease.released", |event| event["session"] == id.as_str());
    assert!(released["validUntil"].is_string(), "{released}");
    assert_eq!(secrets_of(&id).len(), 1, "nobody could delete it");

    network.mend();
    bastion.nothing_left(&id);
    let ran = bastion.run_ssh("operator-a", "viewer", "kubectl auth whoami -o name");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_session_outlives_an_api_server_that_closes() {
    outlives(Network::cut);
}

#[test]
fn a_session_outlives_an_api_server_that_falls_silent() {
    outlives(Network::freeze);
}

#[test]
fn a_secret_that_a_dead_cluster_kept_is_deleted_after_a_restart_too() {
    let network = Network::to(ControlPlane::shared().port());
    let mut bastion = Bastion::behind(&network);
    let session = Running::start(&bastion, "operator-a", "viewer", "cat");
    let id = session.id.clone();
    network.cut();
    let status = bastion.stop();
    assert!(status.success(), "{status}");
    drop(session);
    // Still away when the daemon comes back: it serves all the same.
    bastion.run();
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert_eq!(secrets_of(&id).len(), 1, "nobody could delete it");
    network.mend();
    eventually("the end of the Secret", || {
        secrets_of(&id).is_empty().then_some(())
    });
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
