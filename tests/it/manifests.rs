//! What `manifests` writes is what a cluster needs: applied once, `kubectl diff` is quiet, and a daemon works with just that.

use std::process::Command;

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::cluster::ControlPlane;

#[test]
fn what_is_written_is_all_that_a_daemon_needs_and_a_second_look_finds_no_difference() {
    let plane = ControlPlane::shared();
    let bastion = Bastion::with(|documents| {
        documents
            .replace(
                "namespace: bastion-viewer, name: viewer",
                "namespace: made-viewer, name: viewer",
            )
            .replace(
                "namespace: bastion-editor, name: editor",
                "namespace: made-editor, name: \"{identity}\"",
            )
    });
    let written = Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(["manifests", "--config"])
        .arg(bastion.config_path())
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    let text = String::from_utf8(written.stdout).unwrap();
    plane.apply(&text);
    let again = plane.kubectl_as(plane.kubeconfig(), &["diff", "-f", "-"], &text);
    assert_eq!(
        (again.status.code(), again.stdout.len()),
        (Some(0), 0),
        "{again:?}"
    );

    let who = |who: &str, login: &str| {
        eventually(&format!("{login} as {who}"), || {
            // RBAC is in force some tenths of a second after it was applied.
            let ran = bastion.run_ssh(
                who,
                login,
                "kubectl auth whoami -o jsonpath={.status.userInfo.username}",
            );
            (ran.code == Some(0)).then_some(ran.stdout)
        })
    };
    assert_eq!(
        who("operator-a", "viewer"),
        "system:serviceaccount:made-viewer:viewer"
    );
    assert_eq!(
        who("operator-a", "editor"),
        "system:serviceaccount:made-editor:operator-a"
    );
    assert_eq!(
        who("operator-b", "editor"),
        "system:serviceaccount:made-editor:operator-b"
    );
    // RBAC as it is, asked by an administrator: who has a role without any can do what everybody can.
    let test = |can: &str| {
        let file = bastion.path().join("expected.yml");
        let head =
            "apiVersion: bastion-audit.dev/v1alpha1\nkind: Expectations\nspec:\n  expect:\n    - ";
        std::fs::write(&file, format!("{head}{can}\n")).unwrap();
        let kubeconfig = plane.kubeconfig().to_str().unwrap();
        let ran = bastion.cli(&["test", "--kubeconfig", kubeconfig, file.to_str().unwrap()]);
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap())
    };
    let review = "{verb: create, resource: selfsubjectreviews, apiGroup: authentication.k8s.io}";
    let held = test(&format!("{{role: viewer, can: {review}}}"));
    assert_eq!(held, (Some(0), "1 held, 0 failed\n".to_owned()));
    let secrets = "{verb: get, resource: secrets, namespace: kube-system}";
    let held = test(&format!(
        "{{role: editor, identity: operator-a, cannot: {secrets}}}"
    ));
    assert_eq!(held, (Some(0), "1 held, 0 failed\n".to_owned()));
    let (code, said) = test(&format!(
        "{{role: editor, identity: operator-a, can: {secrets}}}"
    ));
    assert_eq!(code, Some(1));
    let says = "expected.yml:5:7: editor on prod (system:serviceaccount:made-editor:operator-a) cannot get secrets in kube-system\n";
    assert!(said.contains(says), "{said}");
    let explained = |args: &[&str]| {
        let kubeconfig = plane.kubeconfig().to_str().unwrap();
        let all = [
            &["explain", "operator-a"],
            args,
            &["--kubeconfig", kubeconfig],
        ]
        .concat();
        String::from_utf8(bastion.cli(&all).stdout).unwrap()
    };
    let before = explained(&["editor", "--namespace", "made-editor"]);
    let says = "what RBAC on prod grants system:serviceaccount:made-editor:operator-a, in made-editor:\n  may not     get pods, ";
    assert!(
        before.contains(says) && !before.contains("MIND"),
        "{before}"
    );
    let bound = [
        "create",
        "rolebinding",
        "explained",
        "-n",
        "made-editor",
        "--clusterrole=edit",
        "--serviceaccount=made-editor:operator-a",
    ];
    plane.admin(&bound);
    let after = eventually("the binding", || {
        let after = explained(&["editor", "--namespace", "made-editor"]);
        after.contains("MIND").then_some(after)
    });
    assert!(
        after.contains("may         get pods") && after.contains("create serviceaccounts/token"),
        "{after}"
    );
    assert!(
        explained(&["editor"]).contains("may not     get pods"),
        "everywhere is another matter"
    );
    // Over ssh they are told the same of themselves, and of nobody else.
    let told = |who: &str| {
        let ran = bastion.run_ssh(who, "editor", "bastion explain -n made-editor");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    };
    let (theirs, others) = (told("operator-a"), told("operator-b"));
    let mind = theirs.lines().find(|line| line.contains("MIND")).unwrap();
    assert!(mind.contains("create serviceaccounts/token"), "{theirs}");
    assert!(!others.contains("MIND"), "{others}");
    plane.admin(&["delete", "rolebinding", "explained", "-n", "made-editor"]);

    // Bound once for all whom the role is given, and each is there under a name of their own.
    let all = [
        "create",
        "rolebinding",
        "made-editors",
        "-n",
        "made-editor",
        "--clusterrole=view",
        "--group=system:serviceaccounts:made-editor",
    ];
    plane.admin(&all);
    for who in ["operator-a", "operator-b"] {
        let line = "kubectl get configmaps -n made-editor -o name && echo $BASTION_SESSION";
        let ran = eventually("the binding", || {
            let ran = bastion.run_ssh(who, "editor", line);
            (ran.code == Some(0)).then_some(ran)
        });
        let agent = format!("session={})", ran.stdout.lines().last().unwrap());
        let lines = plane.audit_lines();
        let mut seen = lines.iter().filter(|event| {
            let said = event["userAgent"].as_str().unwrap_or_default();
            said.contains(&agent) && event["objectRef"]["resource"] == "configmaps"
        });
        let name = format!("system:serviceaccount:made-editor:{who}");
        assert_eq!(seen.next().unwrap()["user"]["username"], name.as_str());
    }
    plane.admin(&["delete", "rolebinding", "made-editors", "-n", "made-editor"]);
    // Not a right more, and nothing missing.
    let checked = bastion.cli(&["check", "--cluster"]);
    let report = String::from_utf8_lossy(&checked.stdout);
    for fine in [
        "made-editor: no rule beyond what is needed",
        "made-editor: may create tokens of operator-b",
        "made-editor: tokens are fenced by policy",
        "made-viewer: Secrets are fenced by policy",
    ] {
        assert!(report.contains(fine), "{fine} is not in\n{report}");
    }
    assert!(!report.contains("more than is needed"), "{report}");
}
