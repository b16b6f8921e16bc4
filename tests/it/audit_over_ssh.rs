//! Auditors over plain ssh: they read what their scope allows and nothing else, and each reading is on record.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::terminal::Terminal;

/// A recorded command; its id.
fn record(bastion: &Bastion, who: &str, login: &str, command: &str) -> String {
    let ran = bastion.run_ssh(who, login, &format!("echo $BASTION_SESSION; {command}"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.lines().next().unwrap().to_owned()
}

fn audit(bastion: &Bastion, words: &str) -> Ran {
    bastion.run_ssh("auditor-a", "auditor-a", &format!("bastion {words}"))
}

fn listed(bastion: &Bastion, filters: &str) -> Vec<String> {
    let ran = audit(bastion, &format!("sessions --json {filters}"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines = ran.stdout.lines();
    let sessions = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    sessions
        .map(|one| {
            let session = one["session"]["session"].as_str();
            session.or(one["session"].as_str()).unwrap().to_owned()
        })
        .collect()
}

fn readings(bastion: &Bastion) -> Vec<Value> {
    let events = bastion.events().into_iter();
    events
        .filter(|event| event["event"] == "recording.read")
        .collect()
}

#[test]
fn what_is_out_of_scope_does_not_exist() {
    let bastion = Bastion::start();
    let seen = record(&bastion, "operator-a", "viewer", "echo alpha");
    let hidden = record(&bastion, "operator-b", "editor", "echo beta");
    let handed_out = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!(handed_out.code, Some(0), "{handed_out:?}");

    assert_eq!(listed(&bastion, ""), [seen.as_str()]);
    assert_eq!(listed(&bastion, "--identity operator-a"), [seen.as_str()]);
    let jti = &bastion.manifest(&hidden).unwrap()["leases"][0]["jti"];
    for filters in [
        "--identity operator-b".to_owned(),
        "--live".to_owned(),
        "--role editor".to_owned(),
        "--command beta".to_owned(),
        format!("--jti {}", jti.as_str().unwrap()),
    ] {
        assert_eq!(
            listed(&bastion, &filters),
            Vec::<String>::new(),
            "{filters}"
        );
    }
    let table = audit(&bastion, "sessions");
    assert!(table.stdout.contains(&seen[..10]), "{table:?}");
    for secret in [hidden.as_str(), "operator-b", "beta", "editor"] {
        assert!(!table.stdout.contains(secret), "{secret}: {table:?}");
    }

    // By its id it looks like one that never was, whichever word asks.
    let never = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for word in ["show", "replay", "fetch"] {
        let of_hidden = audit(&bastion, &format!("{word} {hidden}"));
        let of_never = audit(&bastion, &format!("{word} {never}"));
        assert_eq!(of_hidden.code, Some(1), "{of_hidden:?}");
        assert_eq!(of_hidden.stdout, "");
        assert_eq!(of_hidden.stderr.replace(&hidden, never), of_never.stderr);
        assert!(
            of_hidden.stderr.contains(&seen),
            "the way on: {of_hidden:?}"
        );
        let latest = audit(&bastion, &format!("{word} latest"));
        assert_eq!(latest.code, Some(0), "{latest:?}");
        assert!(latest.stdout.contains(&seen), "{latest:?}");
    }
    let prefix = seen[..seen.len() - 1].to_lowercase();
    let page = audit(&bastion, &format!("show {prefix}"));
    for part in [&seen, "operator-a", "sre-viewers", "on call", "echo alpha"] {
        assert!(page.stdout.contains(part), "{part}: {page:?}");
    }

    // Each, and what came of it.
    let readings = readings(&bastion);
    let of = |asked: &str| -> Vec<&Value> {
        let of = readings.iter().filter(|event| event["asked"] == asked);
        of.collect()
    };
    assert_eq!(of(&hidden).len(), 3);
    for event in of(&hidden).into_iter().chain(of(never)) {
        assert_eq!(event["allowed"], false, "{event}");
        assert_eq!(event["session"], Value::Null, "{event}");
    }
    assert_eq!(of("latest").len(), 3);
    for event in of("latest").into_iter().chain(of(&prefix)) {
        assert_eq!(event["allowed"], true, "{event}");
        assert_eq!(event["session"], seen.as_str(), "{event}");
        assert_eq!(event["identity"], "auditor-a", "{event}");
        assert!(
            event["peer"]["client"]
                .as_str()
                .unwrap()
                .contains("OpenSSH")
        );
    }
    let lists = readings.iter().filter(|event| event["word"] == "sessions");
    assert_eq!(lists.count(), 8);
}

#[test]
fn an_operator_is_no_auditor() {
    let bastion = Bastion::start();
    let own = record(&bastion, "operator-a", "viewer", "true");
    let words = [
        ("sessions", "sessions".to_owned()),
        ("show", format!("show {own}")),
        ("replay", "replay latest".to_owned()),
        ("fetch", format!("fetch {own}")),
    ];
    for (word, line) in &words {
        let ran = bastion.run_ssh("operator-a", "operator-a", &format!("bastion {line}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(
            ran.stderr.contains("none of your roles reads recordings"),
            "{ran:?}"
        );
        let refused = bastion.event("recording.read", |event| event["word"] == *word);
        assert_eq!(refused["allowed"], false, "{refused}");
        assert_eq!(refused["identity"], "operator-a");
    }
    // And an auditor is no operator.
    let ran = bastion.run_ssh("auditor-a", "auditor", "kubectl get pods");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
    assert!(ran.stderr.contains("is an audit role"), "{ran:?}");
}

#[test]
fn a_scope_that_is_taken_away_is_gone_at_once() {
    let bastion = Bastion::start();
    record(&bastion, "operator-a", "viewer", "true");
    assert_eq!(listed(&bastion, "").len(), 1);
    let narrowed = bastion
        .config()
        .replace("identities: [operator-a]", "identities: [operator-b]");
    bastion.write_config(&narrowed);
    bastion.event("config.reloaded", |_| true);
    assert_eq!(listed(&bastion, "").len(), 0);
}

#[test]
fn fetch_gives_the_recording_as_it_is_stored() {
    let bastion = Bastion::shared();
    let command = "head -c 300000 /dev/urandom; printf 'caf\\303\\251\\033[31m'; echo err >&2";
    let ran = bastion
        .ssh("operator-a", "viewer")
        .arg(format!("echo $BASTION_SESSION >&2; {command}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let id = String::from_utf8(ran.stderr).unwrap();
    let id = id.lines().next().unwrap();
    let fetched = audit(bastion, &format!("fetch {id}"));
    assert_eq!((fetched.code, fetched.stderr.as_str()), (Some(0), ""));
    assert!(fetched.stdout == bastion.cast(id));
    // Whoever has seen enough may go.
    let cut = Command::new("sh")
        .args(["-c", "\"$@\" | head -c 100", "sh"])
        .arg("ssh")
        .args(bastion.ssh("auditor-a", "auditor-a").get_args())
        .arg(format!("bastion fetch {id}"))
        .output()
        .unwrap();
    assert_eq!(cut.stdout, &bastion.cast(id).as_bytes()[..100]);
}

#[test]
fn a_replay_shows_what_was_seen_and_leaves_the_terminal_sane() {
    let bastion = Bastion::shared();
    // A full screen, a hidden cursor, a mouse that is listened to, a clipboard that is not the operator's.
    let script = "echo in $BASTION_SESSION; printf '\\033[?1049h\\033[?25l\\033[?1000h\\033[?2004h\
                  \\033]52;c;b3duZWQ=\\007\\033]0;owned\\007\\033[31mred line\\033[5n'; \
                  sleep 1; printf '\\r\\nsecond line'; sleep 20; echo; echo last line";
    let mut ssh = bastion.ssh("operator-a", "viewer");
    ssh.arg("-tt").arg(script);
    let mut session = Terminal::start(ssh, 80, 24);
    session.expect("in ");
    let id = session.expect("\r\n");
    session.expect("second line");
    session.send("\x03");
    session.wait();

    let mut ssh = bastion.ssh("auditor-a", "auditor-a");
    ssh.arg("-tt").arg(format!("bastion replay {id}"));
    let mut replay = Terminal::start(ssh, 80, 24);
    replay.expect("red line");
    assert!(!replay.is_sane(), "keys come one by one");
    replay.expect("second line");
    // It would go on for twenty seconds.
    replay.send("q");
    let began = std::time::Instant::now();
    assert_eq!(replay.wait(), Some(0), "{}", replay.shown());
    assert!(began.elapsed().as_secs() < 10);
    assert!(replay.is_sane());
    let shown = replay.shown();
    for harm in ["\x1b]52", "\x1b]0;", "\x1b[5n", "?1000h", "?2004h"] {
        assert!(!shown.contains(harm), "{harm:?} in {shown:?}");
    }
    let last = |sequence: &str| shown.rfind(sequence);
    assert!(last("\x1b[?1049h").is_some(), "{shown:?}");
    assert!(last("\x1b[?1049h") < last("\x1b[?1049l"), "{shown:?}");
    assert!(last("\x1b[?25l") < last("\x1b[?25h"), "{shown:?}");
    assert!(last("\x1b[31m") < last("\x1b[0m"), "{shown:?}");

    // Without a terminal, its text.
    let text = audit(bastion, &format!("replay {id}"));
    assert!(text.stdout.contains(&format!("in {id}\n")), "{text:?}");
    assert!(!text.stdout.contains('\x1b'), "{text:?}");
}
