//! The process that speaks SSH: what it has, and what becomes of sessions when it dies.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::running::Running;

/// The network process of a daemon.
fn network_of(daemon: u32) -> u32 {
    eventually("a network process", || {
        let children = format!("/proc/{daemon}/task");
        let tasks = std::fs::read_dir(children).ok()?;
        let mut children = tasks.flatten().flat_map(|task| {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let pids = list.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<u32>>()
        });
        children.find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "bastion-network"
        })
    })
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

fn status_of(pid: u32) -> BTreeMap<String, String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

#[test]
fn the_process_that_speaks_ssh_has_nothing_of_the_daemons() {
    let bastion = Bastion::start();
    let session = Running::start(&bastion, "operator-a", "viewer", "cat");
    let pid = network_of(bastion.pid());
    let status = status_of(pid);
    for (name, value) in [
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapInh", "0000000000000000"),
    ] {
        assert_eq!(status[name], value, "{name}");
    }
    if rustix::process::geteuid().is_root() {
        let uids: Vec<&str> = status["Uid"].split_whitespace().collect();
        assert_eq!(uids, ["1900065535"; 4]);
        assert_eq!(status["Groups"], "");
        // No session is under the same one.
        let others = crate::harness::running::processes_of(&session.id);
        assert!(!others.is_empty());
        for other in others {
            let pid = other.split(' ').next().unwrap().parse().unwrap();
            assert_ne!(status_of(pid)["Uid"], status["Uid"], "{other}");
        }
    }
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let descriptor = descriptor.unwrap();
        let target = std::fs::read_link(descriptor.path()).unwrap();
        let target = target.to_str().unwrap();
        // Its log is not the daemon's.
        let is_log = descriptor.file_name() == "2" && target.starts_with("pipe:");
        assert!(
            target.starts_with("socket:")
                || target.starts_with("anon_inode:")
                || target == "/dev/null"
                || is_log,
            "{target}"
        );
    }
    // Keys stay out of swap.
    assert!(!bastion.log().contains("failed to lock"));
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    for variable in environment.split(|b| *b == 0).filter(|it| !it.is_empty()) {
        let variable = String::from_utf8_lossy(variable);
        let name = variable.split('=').next().unwrap();
        assert!(["RUST_LOG", "RUST_BACKTRACE"].contains(&name), "{name}");
    }
    drop(session);
}

#[test]
fn sessions_are_sealed_when_it_dies_and_another_serves() {
    let bastion = Bastion::start();
    let session = Running::start(&bastion, "operator-a", "viewer", "cat");
    let (first, id) = (network_of(bastion.pid()), session.id.clone());
    signal(first, Signal::KILL);
    assert_ne!(session.wait().code, Some(0));
    eventually("a sealed recording", || {
        bastion.manifest(&id).filter(|it| it["state"] == "complete")
    });
    let output = bastion.cli(&["verify", &id]);
    assert!(output.status.success(), "{output:?}");
    let died = bastion.event("task.died", |event| event["task"] == "network");
    assert!(
        died["reason"].as_str().unwrap().contains("signal: 9"),
        "{died}"
    );
    let ran = bastion.run_ssh("operator-a", "viewer", "echo it runs");
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("it runs\n", Some(0)),
        "{ran:?}"
    );
    assert_ne!(network_of(bastion.pid()), first);
}

#[test]
fn it_ends_with_its_daemon_whatever_it_does() {
    let mut bastion = Bastion::start();
    let network = network_of(bastion.pid());
    // It does nothing by itself any more.
    signal(network, Signal::STOP);
    bastion.signal("KILL");
    bastion.wait();
    let exists = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    eventually("its end", || (!exists(network)).then_some(()));
    // And the next daemon has its address.
    bastion.run();
}

#[test]
fn a_daemon_that_stops_refuses_at_once_and_lets_sessions_end() {
    let mut bastion = Bastion::start();
    let session = Running::start(&bastion, "operator-a", "viewer", "sleep 3; echo done");
    bastion.signal("TERM");
    eventually("a refusal", || {
        std::net::TcpStream::connect(("127.0.0.1", bastion.port()))
            .is_err()
            .then_some(())
    });
    assert!(!crate::harness::running::processes_of(&session.id).is_empty());
    let ran = session.wait();
    assert!(
        ran.stdout.ends_with("done\n") && ran.code == Some(0),
        "{ran:?}"
    );
    assert!(bastion.wait().success());
}

/// Linux ends what is to end with its parent when the thread ends that started it, and the runtime's threads come and go.
#[test]
fn what_the_daemon_starts_is_started_by_a_thread_that_stays() {
    let bastion = Bastion::start();
    let session = Running::start(&bastion, "operator-a", "viewer", "cat");
    let mut started = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", bastion.pid())).unwrap() {
        let read = |name: &str| std::fs::read_to_string(task.as_ref().unwrap().path().join(name));
        let children = read("children").unwrap().split_whitespace().count();
        if children > 0 {
            started.insert(read("comm").unwrap().trim().to_owned(), children);
        }
    }
    // The process that speaks SSH, and the sandbox.
    assert_eq!(started, BTreeMap::from([("spawning".to_owned(), 2)]));
    drop(session);
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let mut bastion = Bastion::prepare(|documents| documents);
    bastion.has_a_full_log();
    bastion.run();
    signal(network_of(bastion.pid()), Signal::KILL);
    bastion.event("task.died", |event| event["task"] == "network");
    let ran = bastion.run_ssh("operator-a", "viewer", "echo it runs");
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("it runs\n", Some(0)),
        "{ran:?}"
    );
    assert!(bastion.log().is_empty(), "it could be written");
}

#[test]
fn it_does_nothing_for_people() {
    let program = env!("CARGO_BIN_EXE_bastion-audit");
    let output = std::process::Command::new(program)
        .arg("network")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--connect (spec.network.socket)"), "{said}");
}

#[test]
fn it_comes_to_a_socket_as_a_service_of_its_own_and_nobody_else_may() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else can be had.
        return;
    }
    let mut bastion = Bastion::prepare(|documents| {
        documents.replace(
            "  stateDir: state\n",
            "  stateDir: state\n  network: {socket: network.sock, user: nobody}\n",
        )
    });
    bastion.run();
    // Where others may read it: a checkout may be somebody's own.
    let program = bastion.path().join("bastion-audit");
    std::fs::copy(env!("CARGO_BIN_EXE_bastion-audit"), &program).unwrap();
    let socket = bastion.path().join("network.sock");
    let stderr = |name: &str| std::fs::File::create(bastion.path().join(name)).unwrap();
    let come = |uid: u32, log: &str| {
        std::process::Command::new(&program)
            .args(["network", "--connect"])
            .arg(&socket)
            .uid(uid)
            .gid(uid)
            .stderr(stderr(log))
            .spawn()
            .unwrap()
    };
    // Not as root, and not as anybody else.
    for (uid, log) in [(0, "root.log"), (65_533, "other.log")] {
        let mut refused = come(uid, log);
        assert!(!refused.wait().unwrap().success());
    }
    let mut first = come(65_534, "first.log");
    let echo = || bastion.run_ssh("operator-a", "viewer", "echo it runs");
    let ran = echo();
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("it runs\n", Some(0)),
        "{ran:?}"
    );
    assert_eq!(status_of(first.id())["Seccomp"], "2");
    first.kill().unwrap();
    first.wait().unwrap();
    bastion.event("task.died", |event| event["task"] == "network");
    let mut second = come(65_534, "second.log");
    let ran = echo();
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("it runs\n", Some(0)),
        "{ran:?}"
    );
    // With the daemon it ends by itself.
    bastion.stop();
    second.wait().unwrap();
}
