//! A session ends when its time is over, and says so before.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bastion::{Bastion, eventually};
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

/// The editor is given for some seconds, and then for longer: what was opened before is not, unless its operator asks.
#[test]
fn an_operator_asks_for_more_time_and_gets_what_the_role_gives() {
    let documents = |documents: String| {
        let account = "namespace: bastion-editor, name: editor}\n";
        let (before, after) = documents.split_once(account).unwrap();
        short(format!("{before}{account}  maxExtension: 2m\n{after}"))
    };
    let bastion = Bastion::with(documents);
    let began = Instant::now();
    let mut ssh = bastion.ssh("operator-a", "editor");
    ssh.arg("-tt");
    let mut shell = Terminal::start(ssh, 80, 24);
    shell.expect("~$ ");
    let granted = bastion.event("policy.granted", |_| true);
    let session = granted["session"].as_str().unwrap().to_owned();
    let first = &granted["grant"]["ends"];

    // As long as its binding, and no longer.
    shell.send("bastion extend\r");
    shell.expect("may not last longer");
    let denied = bastion.event("session.extension-denied", |event| {
        event["session"] == *session
    });
    assert_eq!(denied["denial"]["why"], "lastsNoLonger");
    let config = bastion.config();
    let lines: Vec<&str> = config
        .lines()
        .filter(|line| !line.contains("  until: "))
        .collect();
    bastion.write_config(&(lines.join("\n") + "\n"));
    bastion.event("config.reloaded", |_| true);

    shell.send("bastion extend nonsense; bastion extend 0s; bastion session\r");
    shell.expect("is not a duration");
    shell.expect("no time at all");
    shell.expect("(bastion extend)");
    shell.send("bastion extend 30s; bastion extend 5h; bastion extend\r");
    shell.expect("this session ends by");
    shell.expect("(1m30s more, which is all there is)");
    shell.expect("may not last longer");
    let extended: Vec<Value> = bastion
        .events()
        .into_iter()
        .filter(|event| event["event"] == "session.extended")
        .collect();
    let (once, twice) = match extended.as_slice() {
        [once, twice] => (once, twice),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (&once["session"], &once["previously"]),
        (&granted["session"], first)
    );
    assert_eq!(once["ends"], twice["previously"]);
    let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let two_minutes = jiff::SignedDuration::from_mins(2);
    assert_eq!(moment(&twice["ends"]), moment(first) + two_minutes);

    // Beyond its first end it runs, and what looks at open sessions lets it.
    std::thread::sleep(Duration::from_secs(17).saturating_sub(began.elapsed()));
    let now = bastion.config() + "# as before\n";
    bastion.write_config(&now);
    eventually("the second reload", || {
        let events = bastion.events();
        let reloads = events
            .iter()
            .filter(|event| event["event"] == "config.reloaded");
        (reloads.count() == 2).then_some(())
    });
    shell.send("kubectl auth whoami\r");
    shell.expect("bastion-editor:editor");
    shell.send("exit\r");
    let replay = bastion.run_ssh(
        "auditor-a",
        "auditor-a",
        &format!("bastion fetch {session}"),
    );
    assert!(
        replay
            .stdout
            .contains("\"m\", \"bastion-audit: this session ends by"),
        "{replay:?}"
    );
}
