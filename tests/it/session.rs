//! What an operator gets: a shell and commands with a working kubectl, and nothing that Kubernetes does not give.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::cluster::ControlPlane;
use crate::harness::ssh_client::SshClient;
use crate::harness::terminal::Terminal;

/// A pod of the test's own.
fn pod(name: &str) {
    ControlPlane::shared().apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, \
         spec: {{containers: [{{name: main, image: none}}]}}}}"
    ));
}

fn pod_is_there(name: &str) -> bool {
    let get = ["get", "pod", name];
    ControlPlane::shared().kubectl(&get).status.success()
}

/// One command with something on its standard input.
fn run_with_input(bastion: &Bastion, command: &[&str], input: &[u8]) -> Ran {
    let mut ssh = bastion.ssh("operator-a", "viewer");
    let mut child = ssh
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn what_a_role_may_do_is_said_by_kubernetes() {
    let bastion = Bastion::shared();
    pod("session-rbac");
    let list = bastion.run_ssh("operator-a", "viewer", "kubectl get pods -A");
    assert_eq!(list.code, Some(0), "{list:?}");
    assert!(list.stdout.contains("session-rbac"), "{list:?}");

    let delete = "kubectl delete pod session-rbac --wait=false";
    let refused = bastion.run_ssh("operator-a", "viewer", delete);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains(
            "Error from server (Forbidden): pods \"session-rbac\" is forbidden: \
             User \"system:serviceaccount:bastion-viewer:viewer\" cannot delete resource"
        ),
        "{refused:?}"
    );
    assert!(pod_is_there("session-rbac"));

    let whoami = bastion.run_ssh("operator-a", "operator-a", "kubectl auth whoami -o json");
    let whoami: serde_json::Value = serde_json::from_str(&whoami.stdout).unwrap();
    let user = &whoami["status"]["userInfo"]["username"];
    assert_eq!(user, "system:serviceaccount:bastion-viewer:viewer");

    let deleted = bastion.run_ssh("operator-a", "editor+prod", delete);
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
}

#[test]
fn a_command_keeps_its_streams_and_its_exit_status() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "viewer", "echo out; echo err >&2; exit 42");
    assert_eq!(ran.stdout, "out\n");
    assert_eq!(ran.stderr, "err\n");
    assert_eq!(ran.code, Some(42));
}
