//! Operators under the names that a cluster's RBAC has for them: the daemon asks in their name, and may name exactly those.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::cluster::{ControlPlane, crate_root, write_private};
use crate::harness::running::Running;
use crate::harness::token::Holder;
use crate::harness::trusting::part;

const BASTION: &str = "system:serviceaccount:named-bastion:bastion";
const EXTRA: &str = "bastion-audit.dev/session-id";

/// A bastion that has nothing but an address, an authority and a token, and the right that `manifests` writes.
fn named() -> &'static Bastion {
    static SHARED: OnceLock<Bastion> = OnceLock::new();
    SHARED.get_or_init(|| {
        let plane = ControlPlane::shared();
        let mut bastion = prepared();
        let written = Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
            .args([
                "manifests",
                "--cluster",
                "named",
                "--bastion",
                BASTION,
                "--config",
            ])
            .arg(bastion.config_path())
            .output()
            .unwrap();
        assert!(written.status.success(), "{written:?}");
        let text = String::from_utf8(written.stdout).unwrap();
        plane.apply(&text);
        let again = plane.kubectl_as(plane.kubeconfig(), &["diff", "-f", "-"], &text);
        let quiet = (again.status.code(), again.stdout.len());
        assert_eq!(quiet, (Some(0), 0), "{again:?}");
        plane.apply(RBAC);
        let policy = crate_root().join("examples/admission/only-recorded.yaml");
        plane.admin(&["apply", "-f", policy.to_str().unwrap()]);
        write_private(&token_file(&bastion), &token());
        bastion.run();
        bastion.outlive_nobody();
        eventually("RBAC in force", || {
            let ran = bastion.run_ssh(
                "operator-a",
                "names+named",
                "kubectl get configmaps -n named",
            );
            (ran.code == Some(0)).then_some(())
        });
        bastion
    })
}

fn prepared() -> Bastion {
    let plane = ControlPlane::shared();
    Bastion::prepare(|documents| {
        let server = format!(
            "{{url: '{}', certificateAuthority: '{}', tokenFile: token, renewToken: true}}",
            plane.server(),
            plane.ca().display()
        );
        documents + &DOCUMENTS.replace("SERVER", &server)
    })
}

fn token_file(bastion: &Bastion) -> PathBuf {
    bastion.path().join("token")
}

/// As an administrator makes it: with a line's end.
fn token() -> String {
    let create = [
        "create",
        "token",
        "bastion",
        "-n",
        "named-bastion",
        "--duration",
        "1h",
    ];
    ControlPlane::shared().admin(&create)
}

const DOCUMENTS: &str = "---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {name: named}
spec:
  server: SERVER
  mint: impersonation
  impersonation: {username: '{identity}@corp.example', groupPrefix: 'corp:'}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: names}
spec:
  kubernetes:
    clusters: [named, prod]
    groups: [readers]
    serviceAccount: {namespace: bastion-viewer, name: viewer}
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: enters}
spec:
  kubernetes: {clusters: [named], groups: [readers, enterers]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: admin}
spec:
  kubernetes: {clusters: [named], groups: [admins]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: names}
spec: {subjects: [{group: sre}, {group: platform}], roles: [names]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: enterers}
spec: {subjects: [{identity: operator-b}], roles: [enters]}
";

/// RBAC of people and groups, as it was before there was a bastion. No binding of ours gives `corp:admins` to anybody.
const RBAC: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: named, labels: {bastion-audit.dev/only-recorded: 'true'}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: named-read}
rules: [{apiGroups: [''], resources: [configmaps, pods], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: named-own}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: named-enter}
rules: [{apiGroups: [''], resources: [pods/exec], verbs: [get, create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: named}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'corp:readers'}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: named-read}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: one, namespace: named}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: operator-b@corp.example}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: named-own}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: enterers, namespace: named}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'corp:enterers'}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: named-enter}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: named-admins}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'corp:admins'}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: cluster-admin}
";

/// What the API server has on record of a session.
fn audited(session: &str) -> impl Iterator<Item = Value> {
    let ours = json!([session]);
    let lines = ControlPlane::shared().audit_lines().into_iter();
    lines.filter(move |event| event["impersonatedUser"]["extra"][EXTRA] == ours)
}

#[test]
fn explain_over_ssh_asks_in_the_operators_name() {
    let ran = named().run_ssh("operator-b", "names+named", "bastion explain -n named");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let granted = "what Kubernetes grants on named to operator-b@corp.example in corp:readers:\n  in named:\n    \
        get, list, watch, create configmaps\n    \
        get, list, watch         pods\n";
    assert!(ran.stdout.ends_with(granted), "{ran:?}");
    let asked = named().event("rights.asked", |event| event["grant"]["role"] == "names");
    let session = asked["session"].as_str().unwrap();
    assert!(
        audited(session).any(|event| event["objectRef"]["resource"] == "selfsubjectrulesreviews")
    );
}

#[test]
fn an_operator_is_whom_rbac_knows_and_may_do_what_it_says() {
    let bastion = named();
    let script = "echo $BASTION_SESSION >&2; kubectl auth whoami -o json";
    let ran = bastion.run_ssh("operator-a", "names+named", script);
    let review: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let (user, session) = (&review["status"]["userInfo"], ran.stderr.trim());
    assert_eq!(user["username"], "operator-a@corp.example");
    let groups: BTreeSet<&str> = user["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g.as_str().unwrap())
        .collect();
    assert_eq!(
        groups,
        BTreeSet::from(["corp:readers", "system:authenticated"])
    );
    assert_eq!(user["extra"], json!({EXTRA: [session]}));

    // All records tell of the same person and session.
    let seen = audited(session)
        .next()
        .expect("the API server has it on record");
    assert_eq!(seen["user"]["username"], BASTION);
    assert_eq!(
        seen["impersonatedUser"]["username"],
        "operator-a@corp.example"
    );
    let constraint = &seen["authenticationMetadata"]["impersonationConstraint"];
    assert_eq!(constraint, "impersonate:user-info");
    let issued = bastion.event("lease.issued", |event| event["session"] == session);
    assert_eq!(issued["subject"], "operator-a@corp.example");
    assert_eq!(issued["jti"], session);
    let granted = bastion.event("policy.granted", |event| event["session"] == session);
    let subject = json!({"impersonated": "operator-a@corp.example", "groups": ["corp:readers"]});
    assert_eq!(granted["grant"]["subject"], subject);
    let released = bastion.event("lease.released", |event| event["session"] == session);
    assert!(released["validUntil"].is_null(), "{released}");
    let manifest = eventually("the seal", || bastion.manifest(session));
    assert_eq!(manifest["session"]["subject"], "operator-a@corp.example");

    let make = "kubectl create configmap -n named made-by-$BASTION_IDENTITY";
    let refused = bastion.run_ssh("operator-a", "names+named", make);
    let says = r#"User "operator-a@corp.example" cannot create"#;
    assert!(refused.stderr.contains(says), "{refused:?}");
    // By their own name, which RBAC knew before.
    let made = bastion.run_ssh("operator-b", "names+named", make);
    assert_eq!(made.code, Some(0), "{made:?}");
    // Whom a request is for is not the client's to say.
    let other = "kubectl get configmaps -n named --as system:admin --as-group system:masters";
    let other = bastion.run_ssh("operator-b", "names+named", other);
    assert_eq!(
        (other.code, other.stdout.as_str()),
        (Some(1), ""),
        "{other:?}"
    );
    assert!(other.stderr.contains("(Forbidden)"), "{other:?}");
}

#[test]
fn there_is_no_credential_to_be_handed_out() {
    let bastion = named();
    let refused = bastion.run_ssh("operator-a", "names+named", "bastion credential");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.stdout, "");
    let says = "There is no credential for names on named: the bastion asks there in your name.";
    assert!(refused.stderr.contains(says), "{refused:?}");
}

#[test]
fn a_session_that_is_ended_is_cut_at_once() {
    let bastion = named();
    let watch = "exec kubectl get configmaps -n named -w";
    let running = Running::start(bastion, "operator-a", "names+named", watch);
    let id = running.id.clone();
    eventually("the watch", || {
        bastion
            .requests(&id)
            .contains(r#""verb":"watch""#)
            .then_some(())
    });
    let began = Instant::now();
    let killed = bastion.cli(&["kill", &id]);
    assert!(killed.status.success(), "{killed:?}");
    assert_eq!(running.wait().code, Some(255));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    eventually("the watch's end on the API server's record", || {
        audited(&id).find(|event| event["verb"] == "watch" && event["stage"] == "ResponseComplete")
    });
}

#[test]
fn a_thief_of_the_daemons_credential_is_nobody_who_is_not_listed() {
    let bastion = named();
    let plane = ControlPlane::shared();
    let stolen = std::fs::read_to_string(token_file(bastion)).unwrap();
    let kubeconfig = plane.token_kubeconfig("named-thief", stolen.trim());
    let tries = |args: &[&str]| {
        let ran = plane.kubectl_as(&kubeconfig, args, "");
        let said = String::from_utf8_lossy(&[&ran.stdout[..], &ran.stderr].concat()).into_owned();
        (ran.status.success(), said)
    };
    let tries_as = |user: &str, groups: &[&str]| {
        let mut args = vec!["get", "configmaps", "-n", "named", "--as", user];
        groups
            .iter()
            .for_each(|group| args.extend(["--as-group", group]));
        tries(&args)
    };
    // The stated radius: each of them in each of the groups that bindings give, theirs or not.
    let other = [
        "--as",
        "operator-a@corp.example",
        "--as-group",
        "corp:enterers",
    ];
    let (yes, said) = tries(&[&["auth", "whoami"][..], &other].concat());
    assert!(yes && said.contains("corp:enterers"), "{said}");
    let (yes, said) = tries_as("operator-b@corp.example", &["corp:readers"]);
    assert!(yes, "{said}");
    let listed = "operator-a@corp.example";
    for (user, groups) in [
        (listed, &["system:masters"][..]),
        (listed, &["corp:readers", "system:masters"]),
        (listed, &["corp:admins"]),
        (listed, &["system:serviceaccounts"]),
        ("operator-c@corp.example", &["corp:readers"]),
        ("corp:readers", &["corp:readers"]),
        ("system:admin", &[]),
        ("system:node:node", &[]),
        ("system:serviceaccount:kube-system:default", &[]),
        ("system:kube-controller-manager", &[]),
    ] {
        let (yes, said) = tries_as(user, groups);
        let refused = !yes && said.contains("orbidden") && said.contains("impersonat");
        assert!(refused, "{user} {groups:?}: {said}");
    }
    for args in [
        &["get", "configmaps", "-n", "named"][..],
        &["get", "secrets", "-A"],
        &[
            "get",
            "configmaps",
            "-n",
            "named",
            "--as",
            listed,
            "--as-uid",
            "1",
        ],
        &["create", "token", "viewer", "-n", "bastion-viewer"],
        &[
            "create",
            "clusterrolebinding",
            "mine",
            "--clusterrole=cluster-admin",
            "--user=me",
        ],
    ] {
        let (yes, said) = tries(args);
        assert!(!yes && said.contains("orbidden"), "{args:?}: {said}");
    }
    // `check` sees the same, and says it before a thief does.
    let check = bastion.cli(&["check", "--cluster", "named"]);
    let report = String::from_utf8_lossy(&check.stdout);
    for fine in [
        "mint: impersonation",
        "may impersonate:user-info each user and group that bindings lead to",
        "may name nobody else",
        "asks in the name of operator-a@corp.example, with the session (constrained impersonation)",
        "possible there: tokenRequest; oidcIssuer, if whoever runs it can set --authentication-config; impersonation (constrained",
        "whoever takes the bastion over is anybody of operator-a@corp.example, operator-b@corp.example, in any of the groups corp:enterers, corp:readers",
    ] {
        assert!(report.contains(fine), "{fine} is not in\n{report}");
    }
    assert!(
        !report.contains("more than is needed") && !report.contains("FAIL"),
        "{report}"
    );
}

#[test]
fn pods_are_entered_in_a_session_only() {
    let bastion = named();
    let plane = ControlPlane::shared();
    plane.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: box, namespace: named}, \
         spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: none, command: [sleep, '3600']}]}}",
    );
    plane.admin(&[
        "wait",
        "--for=condition=Ready",
        "pod/box",
        "-n",
        "named",
        "--timeout=30s",
    ]);
    let enter = "kubectl exec -n named box -- echo inside";
    let recorded = bastion.run_ssh("operator-b", "enters", enter);
    assert_eq!(
        (recorded.code, recorded.stdout.trim()),
        (Some(0), "inside"),
        "{recorded:?}"
    );
    let past_it = eventually("the policy", || {
        let past = plane.kubectl(&["exec", "-n", "named", "box", "--", "echo", "inside"]);
        (!past.status.success()).then_some(past)
    });
    let said = String::from_utf8_lossy(&past_it.stderr);
    assert!(said.contains("entered through the bastion only"), "{said}");
}

/// A token as it is when most of its life is over: by the control plane's own key, since nobody waits for that long here.
fn aged(token: &str) -> String {
    let key = ControlPlane::shared().directory().join("pki/sa.key");
    let der = PrivateKeyDer::from_pem_file(key).unwrap();
    let key = RsaKeyPair::from_der(der.secret_der()).unwrap();
    let mut claims = part(token, 1);
    let now = claims["iat"].as_i64().unwrap();
    for (name, at) in [("iat", now - 500), ("nbf", now - 500), ("exp", now + 100)] {
        claims[name] = json!(at);
    }
    let (header, _) = token.split_once('.').unwrap();
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    let random = SystemRandom::new();
    key.sign(
        &RSA_PKCS1_SHA256,
        &random,
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn the_daemon_asks_for_its_next_token_where_nobody_else_does() {
    // Its right to, by name, is in what `manifests` writes.
    named();
    let mut bastion = prepared();
    let old = aged(token().trim());
    write_private(&token_file(&bastion), &old);
    bastion.run();
    let line = "kubectl get configmaps -n named -o name";
    let works = || {
        let ran = bastion.run_ssh("operator-a", "names+named", line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    works();
    let new = eventually("the next token", || {
        let text = std::fs::read_to_string(token_file(&bastion)).unwrap();
        (text != old).then_some(text)
    });
    let (was, is) = (part(&old, 1), part(&new, 1));
    assert_eq!(is["sub"], was["sub"]);
    let life = |claims: &Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life(&is), life(&was));
    assert!(is["iat"].as_i64() > was["iat"].as_i64(), "{is}");
    works();
    // Asked for by itself, for itself, and once.
    let asked = |event: &Value| {
        let what = &event["objectRef"];
        // Not what a thief of its credential tries beside this.
        let agent = event["userAgent"].as_str().unwrap_or_default();
        event["user"]["username"] == BASTION
            && what["subresource"] == "token"
            && agent.starts_with("bastion-audit/")
    };
    let lines = ControlPlane::shared().audit_lines();
    let asked: Vec<&Value> = lines.iter().filter(|event| asked(event)).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["objectRef"]["name"], "bastion");
    assert!(!bastion.log().contains(&new), "the log has it");
}

#[test]
fn the_daemons_own_token_changes_under_load_without_a_failed_request() {
    let bastion = named();
    let over = AtomicBool::new(false);
    let taken_up = || bastion.log().matches("was taken up anew").count();
    let jti = |text: &str| Holder::of(text.trim()).jti();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut done = 0;
            while !over.load(Ordering::SeqCst) {
                let script =
                    "for n in 1 2 3; do kubectl get configmaps -n named -o name || exit 9; done";
                let ran = bastion.run_ssh("operator-a", "names+named", script);
                assert_eq!(ran.code, Some(0), "{ran:?}");
                done += 3;
            }
            done
        });
        // One session that is there before and after.
        let script = "while read -r line; do kubectl get configmaps -n named -o name >/dev/null && echo done || echo failed; done";
        let mut open = Running::start(bastion, "operator-b", "names+named", script);
        for _ in 0..2 {
            let (before, next) = (taken_up(), token());
            let new = bastion.path().join("token.next");
            write_private(&new, &next);
            std::fs::rename(new, token_file(bastion)).unwrap();
            eventually("the next token", || (taken_up() > before).then_some(()));
            open.send("go\n");
            let id = format!("JTI={}", jti(&next));
            eventually("a request by the next token", || {
                audited(&open.id).find(|event| {
                    event["user"]["extra"]["authentication.kubernetes.io/credential-id"]
                        == json!([id])
                })
            });
        }
        over.store(true, Ordering::SeqCst);
        let done = load.join().unwrap();
        assert!(done > 5, "{done} requests are no load");
        open.close_stdin();
        let ended = open.wait();
        assert!(!ended.stdout.contains("failed"), "{ended:?}");
    });
}
