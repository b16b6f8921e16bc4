//! With the daemon's own Kubernetes credential in hand: what the API server refuses.

use serde_json::{Value, json};

use crate::harness::cluster::ControlPlane;

/// POSTs an object as the bastion.
fn post(path: &str, object: &Value) -> Result<String, String> {
    let plane = ControlPlane::shared();
    let args = ["create", "--raw", path, "-f", "-"];
    answer(plane.kubectl_as(plane.bastion_kubeconfig(), &args, &object.to_string()))
}

/// kubectl as the bastion.
fn thief(args: &[&str]) -> Result<String, String> {
    let plane = ControlPlane::shared();
    answer(plane.kubectl_as(plane.bastion_kubeconfig(), args, ""))
}

fn answer(output: std::process::Output) -> Result<String, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// Refused by RBAC, which says "cannot", or by one of our policies, which says its name.
#[track_caller]
fn refused(result: Result<String, String>, by: &str) {
    let error = result.expect_err("it was allowed");
    let refusal = error.contains("forbidden") || error.contains("denied request");
    assert!(
        refusal && error.contains(by),
        "refused by something else: {error}"
    );
}

const BY_RBAC: &str = "cannot";
const BY_TOKEN_POLICY: &str = "'bastion-audit-tokens'";
const BY_SECRET_POLICY: &str = "'bastion-audit-secrets'";

fn token_path(role: &str) -> String {
    format!("/api/v1/namespaces/bastion-{role}/serviceaccounts/{role}/token")
}

fn token_request(spec: Value) -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
}

fn secret(name: &str, kind: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "immutable": true,
        "metadata": {"name": name, "annotations": annotations},
    })
}

fn bound_to(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "name": name})
}

#[test]
fn the_thief_can_do_what_the_daemon_can() {
    ControlPlane::shared().role("honest");
    let secrets = "/api/v1/namespaces/bastion-honest/secrets";
    post(secrets, &secret("session-thief", "Opaque", json!({}))).unwrap();
    let spec = json!({"expirationSeconds": 3600, "boundObjectRef": bound_to("session-thief")});
    let issued = post(&token_path("honest"), &token_request(spec)).unwrap();
    assert!(issued.contains("\"token\""));
    thief(&["delete", "secret", "session-thief", "-n", "bastion-honest"]).unwrap();
}

#[test]
fn no_token_of_another_service_account() {
    ControlPlane::shared().role("mine");
    let plane = ControlPlane::shared();
    plane.admin(&["create", "serviceaccount", "another", "-n", "bastion-mine"]);
    let spec = json!({"expirationSeconds": 600, "boundObjectRef": bound_to("session-x")});
    for path in [
        "/api/v1/namespaces/bastion-mine/serviceaccounts/another/token",
        "/api/v1/namespaces/default/serviceaccounts/default/token",
        "/api/v1/namespaces/kube-system/serviceaccounts/clusterrole-aggregation-controller/token",
        "/api/v1/namespaces/bastion-audit/serviceaccounts/bastion/token",
    ] {
        refused(post(path, &token_request(spec.clone())), BY_RBAC);
    }
}

#[test]
fn no_longer_and_no_unbound_token() {
    ControlPlane::shared().role("fenced");
    let secrets = "/api/v1/namespaces/bastion-fenced/secrets";
    post(secrets, &secret("session-fenced", "Opaque", json!({}))).unwrap();
    for spec in [
        json!({"expirationSeconds": 3601, "boundObjectRef": bound_to("session-fenced")}),
        json!({"expirationSeconds": 600}),
        json!({"expirationSeconds": 600, "boundObjectRef": bound_to("other")}),
        json!({"expirationSeconds": 600, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "session-fenced"}}),
    ] {
        refused(
            post(&token_path("fenced"), &token_request(spec)),
            BY_TOKEN_POLICY,
        );
    }
    thief(&["delete", "secret", "session-fenced", "-n", "bastion-fenced"]).unwrap();
}

#[test]
fn no_token_that_never_expires() {
    ControlPlane::shared().role("eternal");
    let secrets = "/api/v1/namespaces/bastion-eternal/secrets";
    let kind = "kubernetes.io/service-account-token";
    let of = json!({"kubernetes.io/service-account.name": "eternal"});
    refused(
        post(secrets, &secret("session-eternal", kind, of.clone())),
        BY_SECRET_POLICY,
    );
    refused(
        post(
            "/api/v1/namespaces/default/secrets",
            &secret("session-eternal", kind, of),
        ),
        BY_RBAC,
    );
    let finalized = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
        "metadata": {"name": "session-eternal", "finalizers": ["example.com/never"]},
    });
    refused(post(secrets, &finalized), BY_SECRET_POLICY);
}

#[test]
fn no_sight_of_secrets() {
    ControlPlane::shared().role("blind");
    let secrets = "/api/v1/namespaces/bastion-blind/secrets";
    post(secrets, &secret("session-blind", "Opaque", json!({}))).unwrap();
    refused(
        thief(&["get", "secret", "session-blind", "-n", "bastion-blind"]),
        BY_RBAC,
    );
    refused(thief(&["get", "secrets", "-n", "bastion-blind"]), BY_RBAC);
    refused(thief(&["get", "secrets", "-A"]), BY_RBAC);
    refused(
        thief(&["delete", "secrets", "--all", "-n", "bastion-blind"]),
        BY_RBAC,
    );
    thief(&["delete", "secret", "session-blind", "-n", "bastion-blind"]).unwrap();
}

#[test]
fn no_way_to_more_rights() {
    ControlPlane::shared().role("greedy");
    let rolebinding = [
        "create",
        "rolebinding",
        "more",
        "--clusterrole=cluster-admin",
        "--serviceaccount=bastion-audit:bastion",
    ];
    refused(
        thief(&[&rolebinding[..], &["-n", "bastion-greedy"]].concat()),
        BY_RBAC,
    );
    let binding = [
        "create",
        "clusterrolebinding",
        "more",
        "--clusterrole=view",
        "--serviceaccount=bastion-audit:bastion",
    ];
    refused(thief(&binding), BY_RBAC);
    let unlabel = [
        "label",
        "namespace",
        "bastion-greedy",
        "bastion-audit.dev/role-namespace-",
    ];
    refused(thief(&unlabel), BY_RBAC);
    refused(
        thief(&[
            "delete",
            "validatingadmissionpolicybinding",
            "bastion-audit-tokens",
        ]),
        BY_RBAC,
    );
    for args in [
        &[
            "get",
            "nodes",
            "--as=system:serviceaccount:bastion-greedy:greedy",
        ][..],
        &["get", "nodes", "--as=admin", "--as-group=system:masters"][..],
    ] {
        refused(thief(args), BY_RBAC);
    }
}

#[test]
fn no_pods() {
    ControlPlane::shared().role("idle");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "thief"},
        "spec": {
            "serviceAccountName": "idle",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "thief", "image": "thief",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let path = "/api/v1/namespaces/bastion-idle/pods";
    refused(post(path, &pod), BY_RBAC);
    let plane = ControlPlane::shared();
    let as_admin = plane.kubectl_as(
        plane.kubeconfig(),
        &["create", "--raw", path, "-f", "-"],
        &pod.to_string(),
    );
    refused(answer(as_admin), "'bastion-audit-pods'");
}

#[test]
fn not_even_an_administrator_mints_here() {
    let plane = ControlPlane::shared();
    plane.role("closed");
    let token = plane.kubectl(&["create", "token", "closed", "-n", "bastion-closed"]);
    refused(answer(token), BY_TOKEN_POLICY);
    let secret = plane.kubectl(&[
        "create",
        "secret",
        "generic",
        "session-x",
        "-n",
        "bastion-closed",
    ]);
    refused(answer(secret), BY_SECRET_POLICY);
}

/// The example roles themselves: neither leads to the bastion or to another role.
#[test]
fn no_role_becomes_the_bastion() {
    let plane = ControlPlane::shared();
    plane.bastion_kubeconfig();
    for role in ["viewer", "editor"] {
        let who = format!("--as=system:serviceaccount:bastion-{role}:{role}");
        let can = |args: &[&str]| {
            let output = plane.kubectl(&[&["auth", "can-i"], args, &[who.as_str()]].concat());
            String::from_utf8(output.stdout).unwrap().trim() == "yes"
        };
        assert!(
            can(&["list", "pods", "-n", "kube-system"]),
            "{role} may look"
        );
        assert_eq!(
            can(&["create", "deployments", "-n", "default"]),
            role == "editor"
        );
        for namespace in [
            "bastion-audit",
            "bastion-viewer",
            "bastion-editor",
            "kube-system",
        ] {
            for right in [
                ["create", "serviceaccounts/token"],
                ["impersonate", "serviceaccounts"],
                ["create", "pods"],
                ["create", "secrets"],
                ["get", "secrets"],
                ["delete", "secrets"],
            ] {
                assert!(
                    !can(&[&right[..], &["-n", namespace]].concat()),
                    "{role}: {right:?} in {namespace}"
                );
            }
        }
        assert!(!can(&["impersonate", "users"]) && !can(&["patch", "namespaces"]));
    }
}
