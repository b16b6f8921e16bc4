//! The daemon's own way to its clusters: what is replaced on disk is taken up while everything goes on, plugins are run, and a cluster
//! that is away keeps nobody from another.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::api::Behind;
use crate::harness::bastion::{Bastion, eventually};
use crate::harness::cluster::{ControlPlane, write_private};
use crate::harness::running::Running;

/// Whole, or as it was.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("next");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn the_clusters_authority_changes_under_load_without_a_failed_request() {
    let mut behind = Behind::prepare(|documents| documents);
    behind.bastion.run();
    let (bastion, authority) = (&behind.bastion, behind.authority());
    let over = AtomicBool::new(false);
    let taken_up = || bastion.log().matches("was taken up anew").count();
    // Whose the daemon knows is told to it before the certificate changes, and forgotten after it has.
    let told = |text: &str| {
        let before = taken_up();
        replace(&authority, text);
        eventually("the authority", || (taken_up() > before).then_some(()));
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut done = 0;
            while !over.load(Ordering::SeqCst) {
                let script = "for n in 1 2 3; do kubectl auth whoami >/dev/null || exit 9; done";
                let ran = bastion.run_ssh("operator-a", "viewer", script);
                assert_eq!(ran.code, Some(0), "{ran:?}");
                done += 3;
            }
            done
        });
        let ending = Ending(&over);
        let script = "while read -r line; do kubectl auth whoami >/dev/null && echo done || echo failed; done";
        let mut open = Running::start(bastion, "operator-b", "editor", script);
        let old = std::fs::read_to_string(&authority).unwrap();
        let next = behind.another_authority();
        let new = std::fs::read_to_string(&next).unwrap();
        told(&format!("{old}{new}"));
        behind.certified_by(&next);
        open.send("both\n");
        told(&new);
        open.send("next\n");
        std::thread::sleep(Duration::from_millis(500));
        drop(ending);
        let done = load.join().unwrap();
        assert!(done > 5, "{done} requests are no load");
        open.close_stdin();
        assert_eq!(open.wait().stdout, "done\ndone\n");
    });
    // It is the next one that counts: the old one's certificate is refused.
    behind.certified_by(&authority);
    let refused = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(refused.code, Some(255), "{refused:?}");
    assert!(refused.stderr.contains("cannot be trusted"), "{refused:?}");
}

/// Whoever fails in between must not leave the others running.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// As a kubelet has it: files at a fixed place, which only this one process sees, and two variables.
#[test]
fn in_a_pod_its_service_account_is_all_it_takes() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not tried: a mount of a process's own takes root");
    }
    let plane = ControlPlane::shared();
    let bastion = Bastion::prepare(|documents| {
        documents.replacen("{kubeconfig: test.kubeconfig}", "{inCluster: true}", 1)
    });
    let direct = std::fs::read_to_string(bastion.path().join("test.kubeconfig")).unwrap();
    let (_, rest) = direct.split_once("user: {token: \"").unwrap();
    let token = bastion.path().join("token");
    write_private(&token, rest.split_once('"').unwrap().0);
    let script = r#"set -e
        mount -t tmpfs tmpfs /run
        pod=/run/secrets/kubernetes.io/serviceaccount
        mkdir -p $pod
        cp "$1" $pod/token
        cp "$2" $pod/ca.crt
        printf bastion-audit > $pod/namespace
        shift 2
        exec "$@""#;
    let checked = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "pod"])
        .args([token.as_path(), plane.ca()])
        .args([env!("CARGO_BIN_EXE_bastion-audit"), "check", "--config"])
        .arg(bastion.config_path())
        .arg("--cluster")
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", plane.port().to_string())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&checked.stdout);
    for part in [
        ", as system:serviceaccount:bastion-audit:bastion)",
        "bastion-viewer: may create tokens of viewer",
    ] {
        assert!(report.contains(part), "{part}: {checked:?}");
    }
}

#[test]
fn a_plugin_says_who_the_daemon_is_and_a_cluster_that_is_away_keeps_nobody_from_another() {
    // It takes connections and never says a word.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung_at = hung.local_addr().unwrap();
    let mut bastion = Bastion::prepare(|documents| {
        let cluster = |name: &str, at: &str| {
            format!(
                "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\n\
                 spec: {{server: {{url: 'https://{at}', certificateAuthority: ca.crt, tokenFile: token}}}}\n"
            )
        };
        documents.replacen("clusters: [prod]", "clusters: [prod, hung, down]", 1)
            + &cluster("hung", &hung_at.to_string())
            + &cluster("down", "127.0.0.1:1")
    });
    let path = |name: &str| bastion.path().join(name);
    let direct = std::fs::read_to_string(path("test.kubeconfig")).unwrap();
    let (before, rest) = direct.split_once("user: {token: \"").unwrap();
    let (token, after) = rest.split_once('"').unwrap();
    let (_, authority) = direct.split_once("certificate-authority: \"").unwrap();
    std::fs::copy(authority.split_once('"').unwrap().0, path("ca.crt")).unwrap();
    write_private(&path("token"), token);
    // As those of EKS, GKE and AKS do: what it prints is good for less than a minute, so that it is run again.
    let plugin = format!(
        "#!/bin/sh\necho run >> {0}/runs\ncat <<END\n{{\"apiVersion\": \"client.authentication.k8s.io/v1\", \
         \"kind\": \"ExecCredential\", \"status\": {{\"token\": \"$(cat {0}/token)\", \
         \"expirationTimestamp\": \"$(date -u -d '+30 seconds' +%Y-%m-%dT%H:%M:%SZ)\"}}}}\nEND\n",
        bastion.path().display()
    );
    std::fs::write(path("plugin"), plugin).unwrap();
    std::fs::set_permissions(path("plugin"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let user = "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}";
    write_private(&path("test.kubeconfig"), &format!("{before}{user}{after}"));
    bastion.run();

    std::thread::scope(|scope| {
        let away: Vec<_> = ["viewer+hung", "viewer+down"]
            .map(|login| scope.spawn(|| bastion.run_ssh("operator-a", login, "true")))
            .into_iter()
            .collect();
        for _ in 0..3 {
            let began = Instant::now();
            let ran = bastion.run_ssh("operator-a", "viewer+prod", "kubectl auth whoami");
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{:?}",
                began.elapsed()
            );
        }
        for away in away {
            let ran = away.join().unwrap();
            assert_eq!(ran.code, Some(255), "{ran:?}");
            let said = ["did not answer in time", "cannot be reached"];
            assert!(said.iter().any(|said| ran.stderr.contains(said)), "{ran:?}");
        }
    });
    let runs = std::fs::read_to_string(bastion.path().join("runs")).unwrap();
    assert!(
        runs.lines().count() >= 3,
        "it was run {} times",
        runs.lines().count()
    );
    assert!(
        !bastion.log().contains(token),
        "the log holds what the plugin printed"
    );
}
