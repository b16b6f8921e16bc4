//! The process that speaks SSH: what it has, what becomes of sessions when it dies, and what it can say in somebody else's hands.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bastion_audit::clock::{Clock as _, SystemClock};
use bastion_audit::config::{self, Name};
use bastion_audit::daemon::Daemon;
use bastion_audit::messages::{Answer, Ask, Command, Offer, Open, Order, Peer, SessionEvent};
use bastion_audit::totp::{self, Hidden};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::running::Running;
use crate::second_factor::code;

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
        let target = std::fs::read_link(descriptor.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        let log = bastion.path().join("daemon.log");
        assert!(
            target.starts_with("socket:")
                || target.starts_with("anon_inode:")
                || target == "/dev/null"
                || Path::new(target) == log,
            "{target}"
        );
    }
    // Keys stay out of swap.
    assert!(!bastion.log().contains("failed to lock"));
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    for variable in environment.split(|b| *b == 0).filter(|it| !it.is_empty()) {
        let variable = String::from_utf8_lossy(variable);
        let name = variable.split('=').next().unwrap();
        assert!(
            ["RUST_LOG", "RUST_BACKTRACE", "NO_COLOR"].contains(&name),
            "{name}"
        );
    }
    drop(session);
}

#[test]
fn sessions_are_sealed_when_it_dies_and_another_serves() {
    let bastion = Bastion::start();
    let session = Running::start(&bastion, "operator-a", "viewer", "cat");
    let (first, id) = (network_of(bastion.pid()), session.id.clone());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(first.try_into().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
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
fn it_ends_with_its_daemon() {
    let mut bastion = Bastion::start();
    let network = network_of(bastion.pid());
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

/// Where [`child_that_is_somebody_elses`] writes what came of what it tried.
const SAID: &str = "TAKEN_OVER";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_other_hands_it_claims_keys_and_addresses_and_nothing_else() {
    let bastion = Bastion::prepare(|documents| {
        documents.replace(
            "sessions: [shell, exec, credential]",
            "sessions: [shell, exec, credential]\n  require: [totp]",
        )
    });
    let said = bastion.path().join("said");
    // What the daemon starts to speak SSH is this test's own program.
    let program = bastion.path().join("program");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = network ] || exec {real} \"$@\"\n{SAID}={said} exec {own} --ignored --exact {test}\n",
        real = env!("CARGO_BIN_EXE_bastion-audit"),
        said = said.display(),
        own = std::env::current_exe().unwrap().display(),
        test = "network_process::child_that_is_somebody_elses",
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = Arc::new(config::load(&bastion.config_path()).unwrap());
    let (_watch, reloads) = config::watch::follow(&bastion.config_path(), config);
    let daemon = Daemon::start(reloads, &program, false, Arc::new(SystemClock))
        .await
        .unwrap();
    enroll(&daemon, "operator-a").await;
    let (stop, now) = (CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(daemon.serve(stop.clone(), now.clone()));
    let tried = tokio::task::spawn_blocking({
        let said = said.clone();
        move || eventually("what it tried", || std::fs::read_to_string(&said).ok())
    });
    let tried: BTreeMap<String, String> = serde_json::from_str(&tried.await.unwrap()).unwrap();
    for (what, came_of_it) in [
        ("open before anything", "No"),
        ("a key of nobody", "No"),
        ("open after that", "No"),
        // It says whose signature was good, and is believed.
        ("the key of an operator, unsigned", "Yes"),
        ("another key on the same connection", "No"),
        ("a role that requires a code", "Code"),
        ("open without the code", "No"),
        ("a wrong code", "No"),
        ("garbage", "ended"),
        ("a file for a channel", "ended"),
    ] {
        assert_eq!(tried[what], came_of_it, "{what}");
    }
    assert!(tried["whoami"].contains("operator-a"), "{tried:?}");
    stop.cancel();
    now.cancel();
    serving.await.unwrap();
    // All of it is on record, with what it claimed; and what asks for a code was proven by nobody.
    let proven = bastion.event("authentication.ok", |_| true);
    assert_eq!(proven["principal"], "viewer");
    assert_eq!(proven["peer"]["address"], "203.0.113.9:9");
    assert_eq!(proven["identity"], "operator-a");
}

async fn enroll(daemon: &Daemon, identity: &str) {
    let secret = totp::Secret::random().unwrap();
    let now = SystemClock.now();
    let code = Hidden::new(code(secret.base32().expose(), now.as_second()));
    let name = Name::new(identity).unwrap();
    let codes = &daemon.monitor().codes;
    let enrolled = codes.enroll(name, secret, &code, "uid 0".to_owned(), now);
    enrolled.await.unwrap();
}

#[derive(Serialize)]
enum ToDaemon {
    Serving,
    Connected(Peer),
}

#[derive(Deserialize)]
enum ToConnection {
    Answer(Answer),
    Order(#[allow(dead_code)] Order),
}

fn send(socket: &UnixStream, body: &[u8], descriptor: Option<BorrowedFd<'_>>) {
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend([0, u8::from(descriptor.is_some())]);
    frame.extend(body);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptor) = &descriptor {
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(
                descriptor
            )))
        );
    }
    let sent = sendmsg(
        socket,
        &[IoSlice::new(&frame)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    );
    assert_eq!(sent.unwrap(), frame.len());
}

fn say(socket: &UnixStream, message: &impl Serialize, descriptor: Option<BorrowedFd<'_>>) {
    send(
        socket,
        &rmp_serde::to_vec_named(message).unwrap(),
        descriptor,
    );
}

/// The kind and the body of the next frame.
fn hear(mut socket: &UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 6];
    socket.read_exact(&mut header)?;
    let [a, b, c, d, kind, _with] = header;
    let mut body = vec![0; u32::from_le_bytes([a, b, c, d]).try_into().unwrap()];
    socket.read_exact(&mut body)?;
    Ok((kind, body))
}

/// A connection that nobody made.
struct Claimed(UnixStream);

impl Claimed {
    fn new(control: &UnixStream) -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        let peer = Peer {
            address: "203.0.113.9:9".parse().unwrap(),
            client: "SSH-2.0-anything".to_owned(),
        };
        say(control, &ToDaemon::Connected(peer), Some(there.as_fd()));
        here.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(here)
    }

    fn answer(&self) -> String {
        match hear(&self.0).map(|(_, body)| rmp_serde::from_slice(&body).unwrap()) {
            Ok(ToConnection::Answer(answer)) => format!("{answer:?}"),
            Ok(ToConnection::Order(_)) => "an order".to_owned(),
            Err(_) => "ended".to_owned(),
        }
    }

    fn claims(&self, key: &Path, principal: &str) -> String {
        let public_key = std::fs::read_to_string(key).unwrap();
        let words: Vec<&str> = public_key.split(' ').take(2).collect();
        let offer = Offer {
            principal: principal.to_owned(),
            public_key: words.join(" "),
            certificate: None,
            algorithm: "ssh-ed25519".to_owned(),
        };
        say(&self.0, &Ask::Authenticate(offer), None);
        self.answer()
    }

    fn opens(&self, command: &'static str) -> (String, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        let open = Open {
            command: Command::Exec(command.as_bytes().into()),
            terminal: None,
        };
        say(&self.0, &Ask::Open(open), Some(there.as_fd()));
        (self.answer(), here)
    }
}

/// What a session says until its end.
fn output(channel: &UnixStream) -> String {
    let mut output = Vec::new();
    while let Ok((kind, body)) = hear(channel) {
        if kind != 3 {
            output.extend(body);
        } else if let Ok(SessionEvent::Exit(_)) = rmp_serde::from_slice(&body) {
            break;
        }
    }
    String::from_utf8(output).unwrap()
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn child_that_is_somebody_elses() {
    let said = PathBuf::from(std::env::var_os(SAID).unwrap());
    let keys = said.with_file_name("keys");
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    control.set_nonblocking(false).unwrap();
    let (_kind, start) = hear(&control).unwrap();
    // It is who clients take for this host: that it has.
    assert!(String::from_utf8_lossy(&start).contains("BEGIN OPENSSH PRIVATE KEY"));
    say(&control, &ToDaemon::Serving, None);
    let mut tried = BTreeMap::new();

    let claimed = Claimed::new(&control);
    tried.insert("open before anything", claimed.opens("bastion whoami").0);
    let nobody = claimed.claims(&keys.join("host.pub"), "editor");
    tried.insert("a key of nobody", nobody);
    tried.insert("open after that", claimed.opens("bastion whoami").0);

    let claimed = Claimed::new(&control);
    let operator = claimed.claims(&keys.join("operator-a.pub"), "viewer");
    tried.insert("the key of an operator, unsigned", operator);
    let other = claimed.claims(&keys.join("operator-b.pub"), "editor");
    tried.insert("another key on the same connection", other);
    let (_, channel) = claimed.opens("bastion whoami");
    tried.insert("whoami", output(&channel));

    let claimed = Claimed::new(&control);
    let code = claimed.claims(&keys.join("operator-a.pub"), "editor");
    tried.insert("a role that requires a code", code);
    let without = claimed.opens("bastion credential").0;
    tried.insert("open without the code", without);
    say(&claimed.0, &Ask::Code(Hidden::new("000000")), None);
    let answer = claimed.answer();
    let word = answer.split('(').next().unwrap().replace("NoBecause", "No");
    tried.insert("a wrong code", word);

    let claimed = Claimed::new(&control);
    send(&claimed.0, b"\xc1garbage", None);
    tried.insert("garbage", claimed.answer());
    let claimed = Claimed::new(&control);
    let open = Ask::Open(Open {
        command: Command::Shell,
        terminal: None,
    });
    let file = std::fs::File::open("/dev/null").unwrap();
    say(&claimed.0, &open, Some(file.as_fd()));
    tried.insert("a file for a channel", claimed.answer());

    let whole = said.with_extension("part");
    std::fs::write(&whole, serde_json::to_string(&tried).unwrap()).unwrap();
    std::fs::rename(whole, said).unwrap();
    // Until the daemon is gone.
    let mut rest = Vec::new();
    drop((&control).read_to_end(&mut rest));
    drop(io::stderr().flush());
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
