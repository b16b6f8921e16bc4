//! A daemon with a bucket behind it: what it records arrives there, whatever happens to either of them.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::cluster::write_private;
use crate::harness::running::Running;

#[path = "../../src/store/s3/testing.rs"]
#[allow(dead_code, unreachable_pub)]
mod testing;

use testing::{ACCESS_KEY, BUCKET, Fault, SECRET_KEY, Server};

/// Where servers run: tests are threads of their own.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    })
}

fn with_bucket(server: &Server, more: &str) -> Bastion {
    let endpoint = server.endpoint();
    let bastion = Bastion::prepare(|documents| {
        let recordings = format!(
            "recordings: {{store: {{s3: {{bucket: {BUCKET}, endpoint: '{endpoint}', \
             credentialsFile: s3.credentials{more}}}}}}}"
        );
        documents.replacen(
            "  limits: {drain: 5s}\n",
            &format!("  limits: {{drain: 5s}}\n  {recordings}\n"),
            1,
        )
    });
    let keys = format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    write_private(&bastion.path().join("s3.credentials"), &keys);
    bastion
}

fn record(bastion: &Bastion, command: &str) -> String {
    let ran = bastion.run_ssh(
        "operator-a",
        "viewer",
        &format!("echo $BASTION_SESSION; {command}"),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.lines().next().unwrap().to_owned()
}

fn sessions(bastion: &Bastion) -> Vec<Value> {
    let ran = Ran::from(bastion.cli(&["sessions", "--local", "--json"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn shipped(bastion: &Bastion, id: &str) -> bool {
    let found = sessions(bastion).into_iter();
    let mut these = found.filter(|it| it["session"]["session"] == id);
    these.next().is_some_and(|it| it["shipped"] == true)
}

/// Waits for longer than [`eventually`]: what was recorded is packed first.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The files of a recording there are those that are here.
fn is_whole(bastion: &Bastion, server: &Server, id: &str) {
    let keys = server.keys().into_iter();
    let mut there: Vec<String> = keys.filter(|key| key.contains(id)).collect();
    there.sort();
    let prefix = there[0].rsplit_once('/').unwrap().0.to_owned();
    let directory = bastion
        .state_dir()
        .join(prefix.strip_prefix("test/").unwrap());
    let mut here: Vec<String> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    here.sort();
    let names: Vec<&str> = there
        .iter()
        .map(|key| key.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, here);
    for (key, name) in there.iter().zip(&here) {
        let same = same(&server.object(key), &directory.join(name));
        assert!(same, "{key}");
    }
}

fn same(one: &Path, other: &Path) -> bool {
    std::fs::read(one).unwrap() == std::fs::read(other).unwrap()
}

#[test]
fn a_daemon_that_is_killed_in_the_midst_of_an_upload_goes_on_with_it() {
    let server = runtime().block_on(Server::start());
    let mut bastion = with_bucket(&server, "");
    // The second part is on its way for ever.
    server.fail(Fault::Hang, 1, |it| it.query.starts_with("partNumber=2"));
    bastion.run();
    let id = record(&bastion, "head -c 20000000 /dev/urandom | base64");
    until("the second part never came", || {
        !server.is_waiting_to_fail()
    });
    assert!(!shipped(&bastion, &id));
    bastion.signal("KILL");
    bastion.wait();
    server.forget_seen();
    bastion.run();
    until("it was not shipped", || shipped(&bastion, &id));
    is_whole(&bastion, &server, &id);
    assert_eq!(server.left_over(), [""; 0]);
    let seen = server.seen();
    let again = seen
        .iter()
        .filter(|it| it.query.starts_with("partNumber=1&"));
    assert_eq!(again.count(), 0, "the first part was there already");
}

#[test]
fn without_the_server_sessions_go_on_and_what_waits_is_seen() {
    let server = runtime().block_on(Server::start());
    let mut bastion = with_bucket(&server, "");
    server.set_down(true);
    bastion.run();
    let id = record(&bastion, "echo before");
    let reason = eventually("what waits", || {
        let waiting = sessions(&bastion).into_iter();
        let mut these = waiting.filter(|it| it["notShipped"]["session"] == id.as_str());
        these.next()?["notShipped"]["reason"]
            .as_str()
            .map(str::to_owned)
    });
    assert!(
        reason.contains("the object store cannot be used"),
        "{reason}"
    );
    // What lies here can be looked at, and what is not known is not made up.
    let table = Ran::from(bastion.cli(&["sessions", "--local"]));
    assert!(
        table.stdout.contains("waiting") && table.stdout.contains("not shipped yet"),
        "{table:?}"
    );
    let list = Ran::from(bastion.cli(&["sessions"]));
    assert_ne!(list.code, Some(0), "{list:?}");
    assert!(list.stderr.contains("object store"), "{list:?}");
    record(&bastion, "echo after");
    server.set_down(false);
    until("it was not shipped", || shipped(&bastion, &id));
    is_whole(&bastion, &server, &id);
}

#[test]
fn what_only_the_bucket_has_is_read_from_there_held_and_deleted_with_who_and_why() {
    let server = runtime().block_on(Server::start());
    let mut bastion = with_bucket(&server, ", keepLocal: 1s");
    bastion.run();
    let id = record(&bastion, "echo only there");
    let local = || bastion.state_dir().join("recordings");
    until("the local copy stays", || {
        let found = std::process::Command::new("find")
            .arg(local())
            .args(["-name", &id])
            .output();
        found.unwrap().stdout.is_empty()
    });
    let page = Ran::from(bastion.cli(&["show", &id]));
    assert!(page.stdout.contains("in the object store"), "{page:?}");
    let text = Ran::from(bastion.cli(&["replay", &id]));
    assert!(text.stdout.contains("only there"), "{text:?}");
    // Its files are proven wherever they lie.
    let proven = Ran::from(bastion.cli(&["verify", &id]));
    assert_eq!(proven.code, Some(0), "{proven:?}");
    assert!(proven.stdout.contains("complete"), "{proven:?}");
    // So is a copy of the bucket, by who has the public keys and the log.
    let keys = bastion.path().join("public.keys");
    let known = std::process::Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(["log", "key", "--state-dir"])
        .arg(bastion.state_dir())
        .output()
        .unwrap();
    std::fs::write(&keys, known.stdout).unwrap();
    let copy = server.object("test");
    let log = bastion.state_dir().join("log");
    let [keys, copy, log] = [&keys, &copy, &log].map(|path| path.to_str().unwrap());
    let elsewhere = ["--state-dir", copy, "--public-key", keys, "--log", log];
    let proven = Ran::from(bastion.cli(&[&["verify", "--all"][..], &elsewhere].concat()));
    assert_eq!(proven.code, Some(0), "{proven:?}");
    let over_ssh = bastion.run_ssh("auditor-a", "auditor-a", &format!("bastion show {id}"));
    assert!(
        over_ssh.stdout.contains("in the object store"),
        "{over_ssh:?}"
    );

    let said = |args: &[&str]| Ran::from(bastion.cli(args));
    assert_eq!(
        said(&["hold", &id, "--reason", "case 12"]).stdout,
        format!("{id}: held\n")
    );
    let held = said(&["delete", &id, "--reason", "tidy"]);
    assert_eq!(held.code, Some(1), "{held:?}");
    assert!(held.stderr.contains("case 12"), "{held:?}");
    assert!(said(&["sessions"]).stdout.contains("held"));
    assert!(said(&["show", &id]).stdout.contains("case 12"));
    assert_eq!(said(&["release", &id]).stdout, format!("{id}: released\n"));
    assert_eq!(
        said(&["release", &id]).stdout,
        format!("{id}: was not held\n")
    );
    let deleted = said(&["delete", &id, "--reason", "asked for"]);
    assert_eq!(deleted.stdout, format!("{id}: deleted\n"), "{deleted:?}");
    assert_eq!(server.keys(), [""; 0]);
    assert_ne!(said(&["show", &id]).code, Some(0));
    let all = said(&["verify", "--all"]);
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(
        all.stdout.contains(&format!("{id} deleted")) && all.stdout.contains("asked for"),
        "{all:?}"
    );
    let event = bastion.event("recording.deleted", |_| true);
    assert_eq!(
        (&event["session"], &event["reason"]),
        (&id.as_str().into(), &"asked for".into())
    );
    let uid = format!("uid {}", rustix::process::geteuid().as_raw());
    assert_eq!(event["who"], uid.as_str());
}

#[test]
fn what_a_killed_daemon_leaves_is_shipped_and_proven() {
    let server = runtime().block_on(Server::start());
    let mut bastion = with_bucket(&server, ", keepLocal: 5s");
    bastion.run();
    let script = "n=0; while :; do n=$((n+1)); echo line $n of many; done";
    let session = Running::start(&bastion, "operator-a", "viewer", script);
    let id = session.id.clone();
    std::thread::sleep(Duration::from_secs(2));
    bastion.signal("KILL");
    bastion.wait();
    session.wait();
    bastion.run();
    until("it was not shipped", || shipped(&bastion, &id));
    is_whole(&bastion, &server, &id);
    let proven = Ran::from(bastion.cli(&["verify", &id]));
    assert_eq!(proven.code, Some(3), "{proven:?}");
    assert!(proven.stdout.contains("interrupted"), "{proven:?}");

    // And a byte that somebody changes in the bucket is named.
    until("the local copy stays", || {
        sessions(&bastion)
            .iter()
            .all(|it| it["session"]["session"] != id.as_str())
    });
    let keys = server.keys();
    let cast = keys
        .iter()
        .find(|key| key.ends_with("session.cast"))
        .unwrap();
    let path = server.object(cast);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(path.with_file_name("extra"), "x").unwrap();
    let proven = Ran::from(bastion.cli(&["verify", "--all"]));
    assert_eq!(proven.code, Some(1), "{proven:?}");
    assert!(
        proven.stdout.contains("session.cast: bytes") && proven.stdout.contains("extra"),
        "{proven:?}"
    );
}

#[test]
fn what_is_over_by_its_role_goes_and_the_log_says_so() {
    let mut bastion = Bastion::start();
    let (over, stays) = (
        record(&bastion, "echo over"),
        bastion.run_ssh("operator-a", "editor", "echo $BASTION_SESSION"),
    );
    assert_eq!(stays.code, Some(0), "{stays:?}");
    let stays = stays.stdout.trim().to_owned();
    for id in [&over, &stays] {
        bastion.packed(id);
    }
    bastion.stop();
    let config = bastion.config();
    let rules = "  recordings: {retention: {default: 365d, roles: {viewer: 1s}}}\n";
    let anchor = "  limits: {drain: 5s}\n";
    assert!(config.contains(anchor));
    bastion.write_config(&config.replacen(anchor, &format!("{anchor}{rules}"), 1));
    // Ages are looked at at the start, and then once an hour.
    std::thread::sleep(Duration::from_millis(1100));
    bastion.run();
    let event = bastion.event("recording.deleted", |_| true);
    assert_eq!(
        (&event["session"], &event["who"]),
        (&over.as_str().into(), &"retention".into())
    );
    eventually("it is gone", || {
        let all = Ran::from(bastion.cli(&["verify", "--all"]));
        assert_eq!(all.code, Some(0), "{all:?}");
        let gone = all.stdout.contains(&format!("{over} deleted"))
            && !all.stdout.contains("not all of it is gone");
        gone.then_some(())
    });
    let left = sessions(&bastion);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["session"]["session"], stays.as_str());
}

#[test]
fn a_daemon_whose_bucket_cannot_be_opened_does_not_start() {
    let server = runtime().block_on(Server::start());
    let bastion = with_bucket(&server, "");
    std::fs::remove_file(bastion.path().join("s3.credentials")).unwrap();
    let mut child = bastion.spawn();
    let status = child.wait().unwrap();
    assert!(!status.success());
    assert!(
        bastion.log().contains("s3.credentials"),
        "{}",
        bastion.log()
    );
}
