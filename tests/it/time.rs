//! A session ends when its time is over, and says so before.

use std::time::{Duration, Instant};

use crate::harness::bastion::Bastion;
use crate::harness::running::Running;
use crate::harness::terminal::Terminal;

/// One binding that gives the viewer for a little more than a minute, one that gives the editor for some seconds.
fn short(documents: String) -> String {
    let until = |seconds: i64| {
        let now = jiff::Timestamp::now();
        let until = now + jiff::SignedDuration::from_secs(seconds);
        until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let one = "  roles: [viewer, editor]\n  reason: on call\n";
    let two = format!(
        "  roles: [viewer]\n  until: {}\n  reason: on call\n---\n\
         apiVersion: bastion-audit.dev/v1alpha1\nkind: Binding\nmetadata: {{name: incident}}\n\
         spec:\n  subjects: [{{identity: operator-a}}]\n  roles: [editor]\n  until: {}\n",
        until(80),
        until(15),
    );
    assert!(documents.contains(one));
    documents.replace(one, &two)
}

#[test]
fn a_session_is_told_that_its_time_runs_out_and_ends_with_it() {
    let began = Instant::now();
    let bastion = Bastion::with(short);
    let exec = Running::start(&bastion, "operator-a", "editor", "sleep 1000");
    let mut ssh = bastion.ssh("operator-a", "viewer");
    ssh.arg("-tt");
    let mut shell = Terminal::start(ssh, 80, 24);
    shell.expect("~$ ");

    let id = exec.id.clone();
    let ran = exec.wait();
    assert!(began.elapsed() > Duration::from_secs(13), "{ran:?}");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert_eq!(
        ran.stderr.trim_end(),
        format!("bastion-audit: session {id} was ended: its time is over")
    );
    assert_eq!(bastion.cut_reason(&id), "its time is over");
    bastion.nothing_left(&id);
    let ran = bastion.run_ssh("operator-a", "editor", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert!(
        ran.stderr
            .contains("The role editor was yours by the binding incident until"),
        "{ran:?}"
    );

    // The other one goes on, and is warned.
    shell.expect("\r\nbastion-audit: this session ends in 1 minute\r\n");
    shell.send("kubectl auth whoami\r");
    shell.expect("bastion-viewer:viewer");
    assert!(began.elapsed() < Duration::from_secs(60));
}
