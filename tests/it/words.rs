//! `ssh HOST bastion WORD`: who was proven, which roles there are, why, and the files to paste.

use serde_json::Value;

use crate::harness::bastion::Bastion;
use crate::harness::cluster::ControlPlane;
use crate::harness::running::secrets_of;

#[test]
fn whoami_says_who_was_proven_and_by_what() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "editor", "bastion whoami");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let fingerprint = &bastion.fingerprint("operator-a");
    for part in ["operator-a", "sre", fingerprint, "editor", "127.0.0.1"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
}

#[test]
fn roles_are_listed_with_the_login_name_for_each() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "operator-a", "bastion roles");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = |role: &str| {
        let mut lines = ran.stdout.lines().filter(|line| line.starts_with(role));
        lines.next().unwrap().to_owned()
    };
    assert!(line("viewer").contains("(default)"), "{}", ran.stdout);
    assert!(line("viewer").contains("on call"), "{}", ran.stdout);
    assert!(line("editor").contains("credential"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("auditor"), "{}", ran.stdout);

    let ran = bastion.run_ssh("auditor-a", "auditor-a", "bastion roles");
    assert!(ran.stdout.contains("auditor"), "{ran:?}");
    let ran = bastion.run_ssh("operator-c", "operator-c", "bastion roles");
    assert!(ran.stdout.contains("You may take no role"), "{ran:?}");
}

#[test]
fn explain_says_why_and_why_not() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "operator-a", "bastion explain viewer");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let subject = "system:serviceaccount:bastion-viewer:viewer";
    for part in [
        &format!("yes: role viewer on prod, as {subject}"),
        "by the binding sre-viewers: on call",
        "rules:\n  the binding sre-viewers gives viewer on prod",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(
        ran.stdout
            .contains("no: The role viewer hands out no credentials"),
        "{}",
        ran.stdout
    );
    let ran = bastion.run_ssh("operator-a", "operator-a", "bastion explain viewer+nowhere");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stdout.contains("'nowhere'"), "{ran:?}");
    // It asks, it does not open: no session is left of it.
    assert!(!ran.stdout.contains("yes"), "{}", ran.stdout);
}

#[test]
fn explain_tells_what_kubernetes_grants_and_takes_back_what_it_asked_by() {
    let bastion = Bastion::shared();
    let line = "bastion explain viewer -n default -n kube-system";
    let ran = bastion.run_ssh("operator-a", "operator-a", line);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let subject = "system:serviceaccount:bastion-viewer:viewer";
    let heading = format!("what Kubernetes grants on prod to {subject}:\n  in default:\n");
    let (_, granted) = ran.stdout.split_once(&heading).unwrap();
    // As kubectl in the session is told.
    let list = "kubectl auth can-i --list --no-headers | grep -w pods";
    let inside = bastion.run_ssh("operator-a", "viewer", list);
    let line = granted.lines().find(|line| line.contains("pods")).unwrap();
    for verb in ["get", "list", "watch"] {
        assert!(inside.stdout.contains(verb), "{inside:?}");
        assert!(line.contains(verb), "{line}");
    }
    assert!(!granted.contains("MIND"), "{granted}");
    assert!(granted.contains("  in kube-system"), "{granted}");

    // By a credential that is on record like any other, and taken back.
    let asked = bastion.event("rights.asked", |event| {
        event["namespaces"] == serde_json::json!(["default", "kube-system"])
    });
    let session = asked["session"].as_str().unwrap();
    let issued = bastion.event("lease.issued", |event| event["session"] == session);
    assert_eq!(issued["subject"], subject);
    let released = bastion.event("lease.released", |event| event["session"] == session);
    assert_eq!(released["validUntil"], Value::Null, "{released}");
    assert_eq!(secrets_of(session), Vec::<String>::new());
    // And each question is in the API server's own log under the id that ours has.
    let lines = ControlPlane::shared().audit_lines();
    for id in asked["auditIds"].as_array().unwrap() {
        let line = lines.iter().find(|line| line["auditID"] == *id).unwrap();
        assert_eq!(line["user"]["username"], subject);
        assert_eq!(line["objectRef"]["resource"], "selfsubjectrulesreviews");
        let agent = line["userAgent"].as_str().unwrap();
        assert!(agent.contains("identity=operator-a"), "{agent}");
    }

    let ran = bastion.run_ssh("operator-a", "operator-a", "bastion explain -n ../x");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
}

#[test]
fn a_host_block_that_ssh_understands_comes_out_of_ssh_config() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "operator-a", "bastion ssh-config");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    std::fs::write(&config, &ran.stdout).unwrap();
    let parsed = |host: &str| {
        let ssh = std::process::Command::new("ssh")
            .arg("-F")
            .arg(&config)
            .args(["-G", host])
            .output()
            .unwrap();
        String::from_utf8(ssh.stdout).unwrap()
    };
    for (host, user) in [("test", "operator-a"), ("test-editor", "editor")] {
        let parsed = parsed(host);
        assert!(parsed.contains(&format!("user {user}\n")), "{parsed}");
        assert!(parsed.contains("hostname bastion.test\n"), "{parsed}");
        assert!(parsed.contains("port 22\n"), "{parsed}");
    }
}

#[test]
fn help_is_there_and_a_word_that_is_none_says_so() {
    let bastion = Bastion::shared();
    for line in ["bastion", "bastion help", "bastion --help"] {
        let ran = bastion.run_ssh("operator-c", "operator-c", line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for word in ["whoami", "roles", "explain", "credential", "sessions"] {
            assert!(ran.stdout.contains(word), "{line}: {}", ran.stdout);
        }
    }
    let ran = bastion.run_ssh("operator-c", "operator-c", "bastion whoam");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("whoami"), "{ran:?}");
    // At a terminal there are no bare line feeds.
    let mut ssh = bastion.ssh("operator-c", "operator-c");
    ssh.args(["-tt", "bastion", "whoami"]);
    let mut terminal = crate::harness::terminal::Terminal::start(ssh, 80, 24);
    assert_eq!(terminal.wait(), Some(0));
    terminal.expect("operator-c\r\n");
}

#[test]
fn words_run_no_process_and_leave_audit_events_not_casts() {
    let bastion = Bastion::start();
    for word in ["whoami", "roles", "ssh-config", "help"] {
        let ran = bastion.run_ssh("operator-a", "operator-a", &format!("bastion {word}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let answered = bastion.event("word.answered", |event| event["word"] == word);
        assert_eq!(answered["identity"], "operator-a");
    }
    let names: Vec<Value> = bastion
        .events()
        .into_iter()
        .map(|mut event| event["event"].take())
        .collect();
    for never in ["policy.granted", "lease.issued", "session.opened"] {
        assert!(!names.iter().any(|name| name == never), "{names:?}");
    }
    let recordings = bastion.state_dir().join("recordings");
    let casts = walk(&recordings);
    assert_eq!(casts, Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_could_mean_two_things_means_none() {
    let two_clusters = |documents: String| {
        let prod = "metadata: {name: prod, labels: {env: prod}}";
        let cluster = format!(
            "apiVersion: bastion-audit.dev/v1alpha1\nkind: Cluster\n{}\nspec: {{kubeconfig: test.kubeconfig}}\n---\n",
            prod.replace("prod", "staging")
        );
        cluster
            + &documents.replace("  defaultRole: viewer\n", "").replacen(
                "clusters: [prod]",
                "clusters: [prod, staging]",
                1,
            )
    };
    let bastion = Bastion::with(two_clusters);
    let ran = bastion.run_ssh("operator-a", "operator-a", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    for choice in ["viewer+prod", "viewer+staging", "editor"] {
        assert!(ran.stderr.contains(choice), "{choice}: {ran:?}");
    }
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert!(
        ran.stderr.contains("viewer+prod, viewer+staging"),
        "{ran:?}"
    );
    let ran = bastion.run_ssh("operator-a", "editor+staging", "true");
    assert!(
        ran.stderr
            .contains("You cannot take the role editor on 'staging'. You can on: prod"),
        "{ran:?}"
    );
    let ran = bastion.run_ssh("operator-a", "viewer+staging", "echo $BASTION_CLUSTER");
    assert_eq!(ran.stdout, "staging\n", "{ran:?}");
    // Only one is possible: operator-b's own name is enough without a default.
    let ran = bastion.run_ssh("operator-b", "operator-b", "echo $BASTION_ROLE");
    assert_eq!(ran.stdout, "editor\n", "{ran:?}");
    // A kubeconfig names each, in full.
    let ran = bastion.run_ssh("operator-a", "editor", "bastion roles");
    assert!(ran.stdout.contains("viewer+staging"), "{}", ran.stdout);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
