//! Ends that nobody planned: of the daemon, of a client, of the network between them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastion_audit::clock::{Clock as _, ManualClock, SystemClock};
use bastion_audit::config;
use bastion_audit::daemon::Daemon;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::cluster::ControlPlane;
use crate::harness::network::Network;
use crate::harness::running::{Running, processes_of, secrets_of, with_argument};
use crate::harness::ssh_client::SshClient;

/// The API server caches a token's acceptance for 10 s.
const REFUSED_WITHIN: Duration = Duration::from_secs(11);

/// The standard documents with other limits.
fn limits(documents: &str, limits: &str) -> String {
    let changed = documents.replace("limits: {drain: 5s}", &format!("limits: {{{limits}}}"));
    assert_ne!(documents, changed);
    changed
}

#[test]
fn sigterm_waits_for_what_ends_by_itself_and_cuts_the_rest_with_a_sentence() {
    let mut bastion = Bastion::with(|documents| limits(&documents, "drain: 3s"));
    let short = "sleep 1.5; echo done; exit 7";
    let short = Running::start(&bastion, "operator-a", "viewer", short);
    let long = Running::start(&bastion, "operator-a", "viewer", "trap '' HUP; sleep 300");
    let ids = [short.id.clone(), long.id.clone()];

    bastion.signal("TERM");
    let began = Instant::now();
    eventually("a closed port", || {
        let nobody = std::net::TcpStream::connect(("127.0.0.1", bastion.port())).is_err();
        nobody.then_some(())
    });
    let ran = short.wait();
    assert_eq!((ran.stdout.as_str(), ran.code), ("done\n", Some(7)));
    let ran = long.wait();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let sentence = format!("session {} was ended: the bastion is stopping", ids[1]);
    assert!(ran.stderr.contains(&sentence), "{ran:?}");
    let status = bastion.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}");

    let manifest = bastion.manifest(&ids[0]).unwrap();
    assert_eq!(manifest["ending"]["exit"], 7, "{manifest}");
    assert_eq!(bastion.cut_reason(&ids[1]), "the bastion is stopping");
    for id in &ids {
        bastion.nothing_left(id);
    }
    let mut events = bastion.events();
    events.retain(|event| event["event"] != "audit.head");
    assert_eq!(events.last().unwrap()["event"], "daemon.stopped");
    assert!(!bastion.state_dir().join("admin.sock").exists());
}

#[test]
fn a_second_sigterm_ends_what_is_open_at_once() {
    let mut bastion = Bastion::with(|documents| limits(&documents, "drain: 1h"));
    let running = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    let id = running.id.clone();
    bastion.signal("TERM");
    eventually("the daemon to stop", || {
        bastion.log().contains("stopping:").then_some(())
    });
    assert!(!processes_of(&id).is_empty(), "the first one waits");
    bastion.signal("TERM");
    let began = Instant::now();
    let ran = running.wait();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert!(ran.stderr.contains("the bastion is stopping"), "{ran:?}");
    let status = bastion.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(began.elapsed() < Duration::from_secs(6));
    assert_eq!(bastion.cut_reason(&id), "the bastion is stopping");
    bastion.nothing_left(&id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_ends_its_channel_does_not_hold_up_the_end() {
    let mut bastion = Bastion::with(|documents| limits(&documents, "drain: 1h"));
    let client = SshClient::login(&bastion, "operator-a", "viewer").await;
    let client = client.unwrap();
    let _channel = client.idle_channel().await;
    tokio::task::spawn_blocking(move || {
        bastion.signal("TERM");
        let began = Instant::now();
        let status = bastion.wait();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(began.elapsed() < Duration::from_secs(8));
    })
    .await
    .unwrap();
}

#[test]
fn a_session_that_is_being_opened_at_sigterm_is_ended_too() {
    let network = Network::to(ControlPlane::shared().port());
    let mut bastion = Bastion::behind(&network);
    // It knows its cluster; only then does the cluster fall silent.
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    network.freeze();
    let mut ssh = bastion.ssh("operator-a", "viewer");
    ssh.arg("echo it runs; exec sleep 300")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let client = ssh.spawn().unwrap();
    let granted = bastion.event("policy.granted", |event| {
        event["grant"]["kind"] == "exec" && !has_ended(&bastion, event)
    });
    let id = granted["session"].as_str().unwrap().to_owned();
    bastion.signal("TERM");
    eventually("the daemon to stop", || {
        bastion.log().contains("stopping:").then_some(())
    });
    network.mend();
    let ran = Ran::from(client.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert!(ran.stderr.contains("the bastion is stopping"), "{ran:?}");
    let status = bastion.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(bastion.cut_reason(&id), "the bastion is stopping");
    bastion.nothing_left(&id);
}

fn has_ended(bastion: &Bastion, granted: &Value) -> bool {
    let mut events = bastion.events().into_iter();
    events.any(|event| event["event"] == "session.closed" && event["session"] == granted["session"])
}

#[test]
fn sigkill_leaves_recordings_to_the_last_event_and_a_restart_leaves_nothing_else() {
    let mut bastion = Bastion::start();
    let other = Bastion::with(|documents| {
        documents.replace("metadata: {name: test}", "metadata: {name: other}")
    });
    let not_ours = Running::start(&other, "operator-a", "viewer", "cat");
    let ticking = "trap '' HUP; while sleep 0.05; do echo tick; done";
    let ticking = Running::start(&bastion, "operator-a", "viewer", ticking);
    let flooding = "while :; do head -c 3000 /dev/urandom | base64; done";
    let flooding = Running::start(&bastion, "operator-a", "viewer", flooding);
    let (token, handed_out) = credential(&bastion);
    let ids = [ticking.id.clone(), flooding.id.clone()];
    eventually("some ticks", || {
        (bastion.cast(&ids[0]).matches("tick").count() > 5).then_some(())
    });

    bastion.signal("KILL");
    bastion.wait();
    for id in &ids {
        eventually("the end of its processes", || {
            processes_of(id).is_empty().then_some(())
        });
        assert_eq!(secrets_of(id).len(), 1, "nobody was there to delete it");
        assert!(bastion.manifest(id).is_none());
    }
    assert_ne!(ticking.wait().code, Some(0));
    assert_ne!(flooding.wait().code, Some(0));
    // What a power cut would leave: the beginning of an event.
    let torn = bastion.recording(&ids[0]).unwrap().join("session.cast");
    append(&torn, r#"[0.05, "o", "ti"#);

    bastion.run();
    for id in &ids {
        bastion.event("recording.interrupted", |event| {
            event["session"] == id.as_str()
        });
        let manifest = bastion.manifest(id).unwrap();
        assert_eq!(manifest["state"], "interrupted", "{manifest}");
        let cast = bastion.cast(id);
        assert!(cast.ends_with('\n'));
        for line in cast.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
        assert_eq!(manifest["cast"]["bytes"], cast.len());
        bastion.nothing_left(id);
    }
    assert!(bastion.cast(&ids[0]).matches("tick").count() > 5);
    let ran = bastion.run_ssh("auditor-a", "auditor", "bastion sessions");
    assert_eq!(ran.stdout.matches("interrupted").count(), 2, "{ran:?}");
    let left = names_in(&bastion.state_dir().join("run"));
    assert_eq!(left, ["init"]);
    assert_eq!(
        secrets_of(&not_ours.id).len(),
        1,
        "it is another instance's"
    );

    // What was handed out is not a leftover: it lives, and can be taken back still.
    assert_eq!(secrets_of(&handed_out).len(), 1);
    assert!(is_accepted(&token));
    let revoked = bastion.cli(&["revoke", &handed_out]);
    assert!(revoked.status.success(), "{revoked:?}");
    let said = String::from_utf8_lossy(&revoked.stdout).into_owned();
    assert_eq!(said, format!("{handed_out}: revoked\n"));
    let began = Instant::now();
    while is_accepted(&token) {
        assert!(began.elapsed() < REFUSED_WITHIN, "{:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(secrets_of(&handed_out).is_empty());
}

/// What `bastion credential` gives operator-b: the token, and the session's id.
fn credential(bastion: &Bastion) -> (String, String) {
    let ran = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let token = document["status"]["token"].as_str().unwrap().to_owned();
    let event = bastion.event("lease.handed-out", |_| true);
    (token, event["session"].as_str().unwrap().to_owned())
}

fn is_accepted(token: &str) -> bool {
    let plane = ControlPlane::shared();
    let kubeconfig = plane.token_kubeconfig("faults-process", token);
    let asked = plane.kubectl_as(&kubeconfig, &["auth", "whoami", "-o", "name"], "");
    asked.status.success()
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_client_that_is_killed_leaves_a_sealed_recording_and_nothing_else() {
    let bastion = Bastion::start();
    // It ignores what it can, reads nothing, writes nothing, and leaves a child behind.
    let stubborn = "trap '' HUP TERM PIPE; sleep 300 & setsid sleep 300";
    let mut running = Running::start(&bastion, "operator-a", "viewer", stubborn);
    running.kill();
    assert_eq!(bastion.cut_reason(&running.id), "the client went away");
    bastion.nothing_left(&running.id);
    let released = bastion.event("lease.released", |event| {
        event["session"] == running.id.as_str()
    });
    assert_eq!(released["validUntil"], Value::Null, "{released}");
}

#[test]
fn a_client_behind_a_route_that_is_lost_is_noticed_by_keepalives() {
    let bastion = Bastion::with(|documents| limits(&documents, "drain: 5s, keepalive: 1s"));
    let network = Network::to(bastion.port());
    let mut far = bastion.ssh("operator-a", "viewer");
    far.args([
        "-o",
        &format!("HostKeyAlias=[127.0.0.1]:{}", bastion.port()),
    ]);
    let far = with_argument(
        &far,
        &bastion.port().to_string(),
        &network.port().to_string(),
    );
    let running = Running::by(far, "sleep 300");
    let near = Running::start(&bastion, "operator-a", "viewer", "sleep 300");
    network.freeze();
    let began = Instant::now();
    let reason = bastion.cut_reason(&running.id);
    assert_eq!(reason, "the client does not answer any more");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    bastion.nothing_left(&running.id);
    // Who is silent and answers is not cut.
    assert!(!processes_of(&near.id).is_empty());
}

/// MiB of memory that the daemon holds.
fn resident(bastion: &Bastion) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bastion.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib >> 10
}

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Waits until the recording does not grow any more: all that may be under way is.
fn settled(bastion: &Bastion, id: &str) -> u64 {
    let cast = bastion.recording(id).unwrap().join("session.cast");
    let size = || std::fs::metadata(&cast).unwrap().len();
    let mut last = 0;
    eventually("backpressure", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = size();
        (now > 1 << 20 && std::mem::replace(&mut last, now) == now).then_some(now)
    })
}

/// Ended by an administrator within 3 s, whatever its client does.
fn is_killed(bastion: &Bastion, id: &str) {
    let began = Instant::now();
    let killed = bastion.cli(&["kill", id]);
    assert!(killed.status.success(), "{killed:?}");
    assert_eq!(bastion.cut_reason(id), "an administrator ended it");
    eventually("the end of its processes", || {
        processes_of(id).is_empty().then_some(())
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    bastion.nothing_left(id);
}

#[test]
fn a_client_that_stops_reading_costs_little_and_can_be_killed() {
    let bastion = Bastion::start();
    let before = {
        let ran = bastion.run_ssh("operator-a", "viewer", "yes | head -c 50000000");
        assert_eq!(ran.stdout.len(), 50_000_000);
        resident(&bastion)
    };
    let running = Running::start(&bastion, "operator-a", "viewer", "yes");
    kill("STOP", running.pid());
    settled(&bastion, &running.id);
    let after = resident(&bastion);
    assert!(after < before + 24, "{before} MiB became {after} MiB");
    is_killed(&bastion, &running.id);
    kill("CONT", running.pid());
    assert_ne!(running.wait().code, Some(0));
}

#[test]
fn a_command_that_does_not_read_pushes_back_on_its_client() {
    let bastion = Bastion::start();
    let before = resident(&bastion);
    let mut ssh = bastion.ssh("operator-a", "viewer");
    ssh.arg("exec sleep 300");
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let mut client = ssh.stdin(zeros).stdout(Stdio::null()).spawn().unwrap();
    let opened = bastion.event("session.opened", |_| true);
    let id = opened["session"].as_str().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let cast = bastion.recording(id).unwrap().join("session.cast");
    let size = std::fs::metadata(&cast).unwrap().len();
    assert!(size < 4 << 20, "{size} bytes recorded of what nobody read");
    let after = resident(&bastion);
    assert!(after < before + 24, "{before} MiB became {after} MiB");
    is_killed(&bastion, id);
    assert!(!client.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_goes_back_harms_nothing() {
    let hour = jiff::SignedDuration::from_hours(1);
    let mut bastion = Bastion::prepare(|documents| documents);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let config = Arc::new(config::load(&bastion.config_path()).unwrap());
    let (_watch, reloads) = config::watch::follow(&bastion.config_path(), config);
    let program = Path::new(env!("CARGO_BIN_EXE_bastion-audit"));
    let daemon = Daemon::start(reloads, program, false, clock.clone())
        .await
        .unwrap();
    bastion.served_at(daemon.local_addr().port());
    let (stop, now) = (CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(daemon.serve(stop.clone(), now.clone()));

    let bastion = tokio::task::spawn_blocking(move || {
        let mut running = Running::start(&bastion, "operator-a", "viewer", "cat");
        let before = credential(&bastion).1;
        running.send("before\n");
        eventually("an echo", || {
            bastion.cast(&running.id).contains("before").then_some(())
        });
        clock.advance(-hour);
        running.send("after\n");
        let later = bastion.run_ssh("operator-a", "viewer", "echo $BASTION_SESSION");
        assert_eq!(later.code, Some(0), "{later:?}");
        running.close_stdin();
        let id = running.id.clone();
        let ran = running.wait();
        assert_eq!(
            (ran.stdout.as_str(), ran.code),
            ("before\nafter\n", Some(0))
        );
        for id in [id.as_str(), later.stdout.trim()] {
            intervals_are_not_negative(&bastion.cast(id));
            let manifest = bastion.manifest(id).unwrap();
            let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>();
            let opened = moment(&manifest["session"]["opened"]).unwrap();
            let closed = moment(&manifest["closed"]).unwrap();
            assert!(closed >= opened, "{manifest}");
            bastion.nothing_left(id);
        }
        // A credential is not taken for expired, or for eternal: it is where it was.
        let sessions = bastion.cli(&["revoke", &before]);
        assert!(sessions.status.success(), "{sessions:?}");
        // Far ahead, every token that the cluster issues has expired already: said, not served.
        clock.advance(hour + hour);
        let ran = bastion.run_ssh("operator-a", "viewer", "true");
        assert_eq!(ran.code, Some(255), "{ran:?}");
        let failed = bastion.event("session.failed", |_| true);
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("clocks"), "{reason}");
        bastion
    })
    .await
    .unwrap();
    stop.cancel();
    now.cancel();
    serving.await.unwrap().unwrap();
    drop(bastion);
}

fn intervals_are_not_negative(cast: &str) {
    for line in cast.lines().skip(1) {
        let event: Value = serde_json::from_str(line).unwrap();
        let interval = event[0].as_f64().unwrap();
        assert!((0.0..600.0).contains(&interval), "{line}");
    }
}
