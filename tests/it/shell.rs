//! What a session finds in its sandbox: its role's tools, dotfiles, the system that is shown, and `bastion`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::bastion::Bastion;
use crate::harness::terminal::Terminal;

const BASTION_TOOLS: &str = "sandbox: {tools: [bin/kubectl]}";

fn script(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_role_has_its_own_tools_and_no_other_has_them() {
    let mut bastion = Bastion::prepare(|documents| {
        documents.replace(
            "  maxSession: 1h\n",
            "  maxSession: 1h\n  tools: [bin/greet]\n",
        )
    });
    script(&bastion.path().join("bin/greet"), "#!/bin/sh\necho hello\n");
    bastion.run();
    let ran = bastion.run_ssh("operator-a", "viewer", "greet; type -t kubectl");
    assert_eq!(ran.stdout, "hello\nfile\n", "{ran:?}");
    let ran = bastion.run_ssh("operator-a", "editor", "greet; type -t kubectl");
    assert_eq!(ran.stdout, "file\n", "{ran:?}");

    // One that is gone, or that others may not read, refuses the role's sessions and says why where administrators look.
    std::fs::set_permissions(
        bastion.path().join("bin/greet"),
        std::fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    if rustix::process::geteuid().is_root() {
        let ran = bastion.run_ssh("operator-a", "viewer", "true");
        assert_eq!(ran.code, Some(255), "{ran:?}");
        let failed = bastion.event("session.failed", |event| event["step"] == "launch");
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("chmod o+r"), "{reason}");
    }
    let ran = bastion.run_ssh("operator-a", "editor", "true");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_home_begins_with_what_the_skeleton_has_and_keeps_nothing() {
    let mut bastion = Bastion::prepare(|documents| {
        documents.replace(
            BASTION_TOOLS,
            "sandbox: {tools: [bin/kubectl], skeleton: skel}",
        )
    });
    let skeleton = bastion.path().join("skel");
    std::fs::create_dir_all(skeleton.join(".config/app")).unwrap();
    for dir in ["", ".config", ".config/app"] {
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(skeleton.join(dir), open).unwrap();
    }
    std::fs::write(skeleton.join(".bashrc"), "alias greet='echo hello'\n").unwrap();
    std::fs::write(skeleton.join(".config/app/conf"), "x\n").unwrap();
    bastion.run();
    let touch = "cat ~/.config/app/conf && echo more >> ~/.config/app/conf && stat -c %U ~/.bashrc";
    for _ in 0..2 {
        let ran = bastion.run_ssh("operator-a", "viewer", touch);
        assert_eq!(ran.stdout, "x\noperator-a\n", "{ran:?}");
    }
    let mut shell = Terminal::start(bastion.ssh("operator-a", "viewer"), 80, 24);
    shell.expect("]");
    shell.send("greet\r");
    shell.expect("hello\r\n");
    shell.send("exit\r");
    assert!(std::fs::read(skeleton.join(".config/app/conf")).unwrap() == b"x\n");
}

#[test]
fn the_system_that_is_shown_is_the_administrators_choice() {
    let mut bastion = Bastion::prepare(|documents| {
        documents.replace(
            BASTION_TOOLS,
            "sandbox: {tools: [bin/kubectl], systemPaths: [/usr, /bin, /lib, /lib64, /etc/ld.so.cache]}",
        )
    });
    bastion.run();
    let ran = bastion.run_ssh(
        "operator-a",
        "viewer",
        "ls -A / /etc; kubectl version --client=true | head -c6",
    );
    let shown: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert!(shown.contains(&"Client"), "{ran:?}");
    assert!(shown.contains(&"ld.so.cache"), "{ran:?}");
    for left_out in ["sbin", "nsswitch.conf", "os-release", "ssl"] {
        assert!(!shown.contains(&left_out), "{left_out}: {ran:?}");
    }
}

#[test]
fn bastion_inside_a_session_says_who_where_and_for_how_long() {
    let bastion = Bastion::shared();
    let run = |line: &str| bastion.run_ssh("operator-a", "viewer", line);
    let ran = run("bastion whoami");
    // Over ssh alone it is a word of the daemon's, which runs nothing.
    assert!(ran.stdout.contains("login name"), "{ran:?}");

    let ran = run("exec bastion whoami");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stdout.contains("operator-a"), "{ran:?}");
    let ran = run("echo $BASTION_SESSION; exec bastion session");
    let (id, session) = ran.stdout.split_once('\n').unwrap();
    for part in [
        id,
        "viewer",
        "prod",
        "system:serviceaccount:bastion-viewer:viewer",
        "0h 59m",
    ] {
        assert!(session.contains(part), "{part}: {ran:?}");
    }
    let ran = run("exec bastion roles");
    assert!(ran.stdout.contains("on call"), "{ran:?}");
    let ran = run("exec bastion explain editor");
    assert!(ran.stdout.contains("yes: role editor on prod"), "{ran:?}");
    assert!(ran.stdout.contains("kubectl auth can-i --list"), "{ran:?}");
    for help in ["exec bastion", "exec bastion help", "exec bastion --help"] {
        let ran = run(help);
        assert!(ran.stdout.contains("Usage: bastion"), "{help}: {ran:?}");
    }
    bastion.event("word.answered", |event| event["word"] == "session");
}

/// What a command in a session gets by asking is about its own session, and no credential.
#[test]
fn nothing_secret_is_answered_inside_and_garbage_hurts_nobody() {
    let bastion = Bastion::shared();
    for refused in ["credential", "kubeconfig", "sessions", "show latest"] {
        // operator-b's role hands out credentials: over ssh, not here.
        let line = format!("exec bastion {refused}");
        let ran = bastion.run_ssh("operator-b", "editor", &line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    }
    let ran = bastion.run_ssh(
        "operator-a",
        "viewer",
        "head -c 100000 /dev/urandom > /dev/tcp/127.0.0.1/6442; \
         printf 'explain %5000s\\n' x > /dev/tcp/127.0.0.1/6442; \
         (: < /dev/tcp/127.0.0.1/6442) & exec 3<>/dev/tcp/127.0.0.1/6442; \
         bastion whoami | head -1; exit 4",
    );
    // The one that is open and says nothing kept it waiting, not for long.
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stdout.starts_with("identity"), "{ran:?}");

    // Outside of a session it says what it is for.
    let link = tempfile::TempDir::new().unwrap();
    let program = link.path().join("bastion");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bastion-audit"), &program).unwrap();
    let outside = std::process::Command::new(program).output().unwrap();
    let said = String::from_utf8(outside.stderr).unwrap();
    assert!(said.contains("inside a session"), "{said}");
    assert!(!outside.status.success());
}
