//! Bounds on time and number, each with a reason for whoever meets it.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::harness::api::Behind;
use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::cluster::ControlPlane;
use crate::harness::running::{Running, processes_of, secrets_of, with_argument};
use crate::harness::terminal::Terminal;

fn with_limits(limits: &str) -> Bastion {
    Bastion::with(|documents| {
        let changed = documents.replace("limits: {drain: 5s}", &format!("limits: {{{limits}}}"));
        assert_ne!(documents, changed);
        changed
    })
}

#[test]
fn a_connection_on_which_nothing_moves_ends_with_a_sentence() {
    let bastion = with_limits("idleTimeout: 2s");
    let silent = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    let began = Instant::now();
    let moving = "for i in $(seq 12); do echo tick; sleep 0.5; done";
    let moving = Running::start(&bastion, "operator-a", "viewer", moving);
    let id = silent.id.clone();
    let ran = silent.wait();
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1500), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert!(
        ran.stderr.contains("no input and no output for too long"),
        "{ran:?}"
    );
    let reason = bastion.cut_reason(&id);
    assert_eq!(reason, "no input and no output for too long");
    bastion.nothing_left(&id);
    let ran = moving.wait();
    assert_eq!(
        (ran.stdout.matches("tick").count(), ran.code),
        (12, Some(0))
    );
}

#[test]
fn who_proves_nothing_in_time_is_sent_away() {
    let bastion = with_limits("loginGrace: 1s");
    for greeting in ["", "SSH-2.0-silent\r\n"] {
        let mut stream = TcpStream::connect(("127.0.0.1", bastion.port())).unwrap();
        std::io::Write::write_all(&mut stream, greeting.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        // Closed or reset, but not open.
        drop(stream.read_to_end(&mut rest));
        let took = began.elapsed();
        assert!(took > Duration::from_millis(700), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    let ran = bastion.run_ssh("operator-a", "viewer", "sleep 1.5; echo longer than that");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn one_connection_too_many_is_closed_and_leaves_room_when_another_ends() {
    let bastion = with_limits("maxConnections: 2");
    let mut first = Running::start(&bastion, "operator-a", "viewer", "cat");
    let mut second = Running::start(&bastion, "operator-a", "viewer", "cat");
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    first.send("still here\n");
    first.close_stdin();
    assert_eq!(first.wait().stdout, "still here\n");
    eventually("room", || {
        let ran = bastion.run_ssh("operator-a", "viewer", "true");
        (ran.code == Some(0)).then_some(())
    });
    second.close_stdin();
    assert_eq!(second.wait().code, Some(0));
}

#[test]
fn one_session_too_many_on_a_connection_is_refused_and_harms_no_other() {
    let bastion = with_limits("maxSessionsPerConnection: 2");
    let path = format!("ControlPath={}", bastion.path().join("control").display());
    let mut master = bastion.ssh("operator-a", "viewer");
    master.args(["-o", "ControlMaster=yes", "-o", &path]);
    let master = with_argument(&master, "LogLevel=ERROR", "LogLevel=INFO");
    let mut first = Running::by(master, "cat");
    let share = || {
        let mut ssh = bastion.ssh("operator-a", "viewer");
        // Without the master there is no way.
        ssh.args([
            "-o",
            "ControlMaster=no",
            "-o",
            &path,
            "-o",
            "ProxyCommand=false",
        ]);
        ssh
    };
    let mut second = Running::by(share(), "cat");
    let refused = || {
        let third = share().arg("true").stdin(Stdio::null()).output();
        Ran::from(third.unwrap())
    };
    let ran = refused();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    for session in [&mut first, &mut second] {
        session.send("still here\n");
    }
    second.close_stdin();
    assert_eq!(second.wait().stdout, "still here\n");
    // Room again.
    let ran = refused();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    first.close_stdin();
    let ran = first.wait();
    assert_eq!(ran.stdout, "still here\n");
    assert!(
        ran.stderr.contains("too many sessions on one connection"),
        "{ran:?}"
    );
    let refused = bastion.event("request.refused", |_| true);
    assert_eq!(refused["identity"], "operator-a", "{refused}");
}

#[test]
fn a_shell_is_told_a_minute_before_its_end_and_a_command_is_not() {
    let until = Timestamp::now() + SignedDuration::from_secs(70);
    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let bastion = Bastion::with(|documents| {
        let roles = "roles: [viewer, editor]\n";
        documents.replacen(roles, &format!("{roles}  until: {until}\n"), 1)
    });
    let mut command = Running::start(&bastion, "operator-a", "viewer", "cat");
    let mut ssh = bastion.ssh("operator-a", "viewer");
    ssh.arg("-tt");
    let mut shell = Terminal::start(ssh, 80, 24);
    shell.expect("bastion-audit: this session ends in 1 minute");
    let opened = bastion.event("session.opened", |event| event["kind"] == "shell");
    let id = opened["session"].as_str().unwrap();
    let cast = bastion.cast(id);
    assert!(cast.contains("this session ends in 1 minute"), "{cast}");
    command.close_stdin();
    let ran = command.wait();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

/// The session's credential changes under a watch and under one request after another, and none of them notices.
#[test]
fn a_session_outlives_its_token_by_renewal() {
    let Behind {
        bastion, tokens, ..
    } = &Behind::start();
    tokens.live_for(12);
    // Open from the first token's time to the last one's; and one request after the other.
    let watching = "kubectl get configmaps -n default -w -o name & watch=$!; \
        jti() { kubectl auth whoami -o json | grep -o 'JTI=[0-9a-f-]*'; }; \
        first=$(jti) || exit 8; last=$first; \
        while [ $first = $last ]; do last=$(jti) || exit 9; done; \
        echo $first; echo $last; read go; sleep 1; \
        kill -0 $watch || exit 7; kill $watch; wait $watch; exit 0";
    let mut running = Running::start(bastion, "operator-a", "viewer", watching);
    let id = running.id.clone();
    let renewed = bastion.event("lease.renewed", |_| true)["jti"].clone();
    let issued = bastion.event("lease.issued", |_| true)["jti"].clone();
    assert_ne!(issued, renewed);
    let name = format!("renewed-{}", id.to_lowercase());
    let plane = ControlPlane::shared();
    std::thread::sleep(Duration::from_secs(2));
    plane.admin(&["create", "configmap", &name, "-n", "default"]);
    running.send("go\n");
    let ran = running.wait();
    plane.admin(&["delete", "configmap", &name, "-n", "default"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stdout.contains(&format!("configmap/{name}")), "{ran:?}");
    let used: Vec<&str> = ran
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("JTI="))
        .collect();
    assert_eq!(used, [issued.as_str().unwrap(), renewed.as_str().unwrap()]);

    let manifest = eventually("a sealed recording", || bastion.manifest(&id));
    let leases = manifest["leases"].as_array().unwrap();
    let jtis: Vec<&Value> = leases.iter().map(|lease| &lease["jti"]).collect();
    assert_eq!(jtis[..2], [&issued, &renewed]);
    // One deletion ends them all.
    bastion.nothing_left(&id);
    let released = bastion.event("lease.released", |_| true);
    assert_eq!(
        (&released["jti"], &released["validUntil"]),
        (*jtis.last().unwrap(), &Value::Null)
    );
}

#[test]
fn a_session_whose_token_cannot_be_renewed_ends_with_the_token() {
    let Behind {
        bastion, tokens, ..
    } = &Behind::start();
    tokens.live_for(12);
    let running = Running::start(bastion, "operator-a", "viewer", "sleep 300");
    let id = running.id.clone();
    tokens.are_refused();
    assert_eq!(secrets_of(&id).len(), 1);
    let began = Instant::now();
    let ran = running.wait();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let sentence =
        "its credential could not be renewed: the bastion may not issue this role's credential";
    assert!(ran.stderr.contains(sentence), "{ran:?}");
    assert!(
        began.elapsed() > Duration::from_secs(7),
        "it had a valid token still"
    );
    assert!(
        bastion.log().contains("trying again"),
        "once is not for good"
    );
    let reason = bastion.cut_reason(&id);
    assert!(reason.contains("could not be renewed"), "{reason}");
    bastion.nothing_left(&id);
    assert!(processes_of(&id).is_empty());
}
