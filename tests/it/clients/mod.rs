//! Other people's clients as they are, through the gateway: what they do works, and each of their requests is on our record
//! and on the API server's.

mod client_go;
mod helm;
mod hostile;
mod kubectl;
mod python;
mod ssh;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::bastion::{Bastion, PATIENCE};
use crate::harness::cluster::{ControlPlane, crate_root};
use crate::harness::joined::{Request, joined};
use crate::harness::tunnel::{Forwarding, kubeconfig, with_tunnels};

/// How long a whole script of a client's may take before the test fails rather than hangs.
const LONGEST_SCRIPT: &str = "240";

/// Where a client of somebody else's is. Built or fetched first if need be, which can take minutes.
pub(crate) fn client(name: &str) -> PathBuf {
    let build = Command::new(crate_root().join("tests/clients/build.sh"))
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(build.status.success(), "tests/clients/build.sh {name}");
    PathBuf::from(String::from_utf8(build.stdout).unwrap().trim())
}

/// A namespace in which the role `editor` may do what an operator of it does, debugging included, with the pod `box`.
fn namespace(name: &str) {
    let plane = ControlPlane::shared();
    plane.bastion_kubeconfig();
    plane.admin(&["create", "namespace", name]);
    plane.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: debugs, namespace: {name}}}, \
         rules: [{{apiGroups: [''], resources: [pods/ephemeralcontainers], verbs: [get, patch, update]}}]}}"
    ));
    let subject = "--serviceaccount=bastion-editor:editor";
    for role in ["--clusterrole=edit", "--role=debugs"] {
        let binding = role.rsplit('=').next().unwrap();
        plane.admin(&["create", "rolebinding", binding, "-n", name, role, subject]);
    }
    pod(
        name,
        "box",
        "stdin: true, command: [sh, -c, 'echo ready; while read -r line; do echo \"got $line\"; done; sleep 3600']",
    );
}

/// A pod with one container, once it runs.
fn pod(namespace: &str, name: &str, container: &str) {
    let plane = ControlPlane::shared();
    plane.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: main, image: none, {container}}}]}}}}"
    ));
    let (pod, timeout) = (
        format!("pod/{name}"),
        format!("--timeout={}s", PATIENCE.as_secs()),
    );
    plane.admin(&[
        "wait",
        "--for=condition=Ready",
        &pod,
        "-n",
        namespace,
        &timeout,
    ]);
}

/// A daemon, and a tunnel of operator-a's to the role `editor` with the kubeconfig for it.
struct Tunnel {
    bastion: Bastion,
    forwarding: Forwarding,
    kubeconfig: PathBuf,
}

impl Tunnel {
    /// By `ssh -D`: for clients that know SOCKS.
    fn dynamic() -> Self {
        let bastion = Bastion::with(with_tunnels);
        let forwarding = Forwarding::dynamic(&bastion, "operator-a", "editor");
        let how = format!("--socks-port {}", forwarding.port);
        let kubeconfig = kubeconfig(&bastion, "operator-a", "editor", &how);
        let switch = ["config", "use-context", "editor@prod"];
        said(&ControlPlane::shared().kubectl_as(&kubeconfig, &switch, ""));
        Self {
            bastion,
            forwarding,
            kubeconfig,
        }
    }

    /// By `ssh -L`: for all others.
    fn local() -> Self {
        let bastion = Bastion::with(with_tunnels);
        let forwarding = Forwarding::local(&bastion, "operator-a", "editor", "kubernetes:443");
        let how = format!("--local-port {}", forwarding.port);
        let kubeconfig = kubeconfig(&bastion, "operator-a", "editor", &how);
        Self {
            bastion,
            forwarding,
            kubeconfig,
        }
    }

    /// A program on this side, with a home and a place of its own.
    fn command(&self, program: &Path) -> Command {
        let home = self.bastion.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let mut command = Command::new("timeout");
        command
            .arg(LONGEST_SCRIPT)
            .arg(program)
            .current_dir(&home)
            .env("HOME", &home)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null());
        command
    }

    /// Ends it; its one session's requests, which are on both records.
    fn requests(self) -> (Bastion, Vec<Request>) {
        let Self {
            bastion,
            forwarding,
            ..
        } = self;
        drop(forwarding);
        let opened = bastion.event("session.opened", |event| event["kind"] == "tunnel");
        let requests = joined(&bastion, opened["session"].as_str().unwrap());
        (bastion, requests)
    }
}

/// What a client said that must have gone well. What it said on standard error is shown if the test fails.
fn said(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stderr}");
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How often it was asked for each thing.
fn count(requests: &[Request], what: &str) -> usize {
    requests
        .iter()
        .filter(|request| request.what() == what)
        .count()
}
