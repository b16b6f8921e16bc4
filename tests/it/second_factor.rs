//! One-time codes: no way to a role that requires one without one, each good once, none of them anywhere to be read.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use bastion_audit::clock::{Clock as _, ManualClock, SystemClock};
use bastion_audit::config::{self, Name};
use bastion_audit::daemon::Daemon;
use bastion_audit::messages::{
    Answer, Ask, Command as Run, Envelope, MonitorLink, Offer, Open, Peer, link,
};
use bastion_audit::totp::{self, Hidden};
use jiff::SignedDuration;
use serde_json::Value;
use tokio::sync::oneshot;
use totp_rs::{Builder, Secret};

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::running::{Running, with_argument};
use crate::harness::token::Holder;
use crate::harness::tunnel::{Forwarding, kubeconfig, with_tunnels};

/// The roles editor and auditor require a code.
fn requiring(documents: String) -> String {
    let changed = with_tunnels(documents)
        .replace(
            "sessions: [shell, exec, credential, tunnel]",
            "sessions: [shell, exec, credential, tunnel]\n  require: [key, totp]",
        )
        .replace(
            "  audit: {clusters",
            "  require: [totp]\n  audit: {clusters",
        );
    assert_eq!(changed.matches("require:").count(), 2);
    changed
}

fn totp(bastion: &Bastion, word: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bastion-audit"));
    command.args(["totp", word, "--config"]);
    command.arg(bastion.config_path()).args(args);
    command
}

fn run(mut command: Command) -> Ran {
    Ran::from(command.stdin(Stdio::null()).output().unwrap())
}

/// What somebody's authenticator and paper have.
struct Enrolled {
    secret: String,
    recovery: Vec<String>,
}

impl Enrolled {
    /// By the command line, with a wrong code first.
    fn by_cli(bastion: &Bastion, identity: &str) -> Self {
        let mut child = totp(bastion, "enroll", &[identity])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        stdout.read_line(&mut url).unwrap();
        assert!(
            url.starts_with(&format!("otpauth://totp/test:{identity}?secret=")),
            "{url}"
        );
        let secret = url.split(['=', '&']).nth(1).unwrap().to_owned();
        let mut enrolled = Self {
            secret,
            recovery: Vec::new(),
        };
        let mut stdin = child.stdin.take().unwrap();
        // One of an hour ago; the next is the oldest that is good, so that newer ones are left.
        for steps in [-120, -1] {
            let code = enrolled.code(steps);
            stdin.write_all(format!("{code}\n").as_bytes()).unwrap();
        }
        drop(stdin);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        let mut told = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut told).unwrap();
        assert!(child.wait().unwrap().success(), "{told}");
        assert!(told.contains("that code is wrong"), "{told}");
        assert!(rest.contains('█') && rest.contains("enrolled."), "{rest}");
        let codes = rest.lines().filter(|line| line.starts_with("    "));
        let codes = codes.map(|line| line.trim().to_owned());
        enrolled.recovery = codes.filter(|code| code.len() == 19).collect();
        assert_eq!(enrolled.recovery.len(), 10, "{rest}");
        enrolled
    }

    /// The code of so many steps from now.
    fn code(&self, steps: i64) -> String {
        code(&self.secret, SystemClock.now().as_second() + steps * 30)
    }
}

/// The code of then.
pub(crate) fn code(secret: &str, seconds: i64) -> String {
    Builder::new()
        .with_secret(Secret::try_from_base32(secret).unwrap())
        .build()
        .unwrap()
        .generate(seconds.try_into().unwrap())
        .to_string()
}

/// A stock ssh at which somebody types `code` when they are asked, once.
fn typing(bastion: &Bastion, who: &str, login: &str, code: &str, command: &str) -> Ran {
    let askpass = bastion.path().join("askpass");
    if !askpass.exists() {
        std::fs::write(&askpass, "#!/bin/sh\necho \"$CODE\"\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&askpass, mode).unwrap();
    }
    let ssh = with_argument(&bastion.ssh(who, login), "BatchMode=yes", "BatchMode=no");
    let output = Command::new("timeout")
        .args(["60", "ssh", "-o", "NumberOfPasswordPrompts=1"])
        .args(ssh.get_args())
        .arg(command)
        .env("SSH_ASKPASS", askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("CODE", code)
        .stdin(Stdio::null())
        .output();
    Ran::from(output.unwrap())
}

fn refused(bastion: &Bastion, reason: &str) -> Value {
    bastion.event("code.refused", |event| {
        event["reason"].as_str().unwrap().contains(reason)
    })
}

/// Everything below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[test]
fn a_role_that_requires_a_code_is_had_with_one_and_in_no_other_way() {
    let mut bastion = Bastion::prepare(requiring);
    bastion.log_everything();
    bastion.run();
    // Who has no code is not asked for one, and told what is missing, whatever they ask for.
    let sentence =
        "The role editor requires a one-time code, and you, operator-b, are not enrolled";
    for command in [
        "true",
        "bastion credential",
        "bastion kubeconfig --local-port 6443",
    ] {
        let ran = bastion.run_ssh("operator-b", "operator-b", command);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains(sentence), "{command}: {ran:?}");
        assert_eq!(ran.stdout, "");
    }
    let ran = bastion.run_ssh("auditor-a", "auditor-a", "bastion sessions");
    assert!(ran.stderr.contains("The role auditor requires"), "{ran:?}");
    let ran = bastion.run_ssh("operator-a", "viewer", "bastion roles");
    assert!(ran.stdout.contains("requires key and totp"), "{ran:?}");

    assert_eq!(ran_list(&bastion), "nobody is enrolled\n");
    let enrolled = Enrolled::by_cli(&bastion, "operator-a");
    assert!(ran_list(&bastion).contains("operator-a: since "));
    let again = run(totp(&bastion, "enroll", &["operator-a"]));
    assert!(again.stderr.contains("is enrolled already"), "{again:?}");
    bastion.event("totp.enrolled", |event| event["identity"] == "operator-a");

    // A program that cannot type, and somebody who types something else.
    let ran_batch = bastion.run_ssh("operator-a", "editor", "true");
    assert_eq!(ran_batch.code, Some(255), "{ran_batch:?}");
    refused(&bastion, "no code was typed");
    for wrong in ["", "sesame-9137", &enrolled.code(-120)] {
        let ran = typing(&bastion, "operator-a", "editor", wrong, "true");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
    }
    refused(&bastion, "the code is wrong");
    // By another login name nothing is asked, and no other way leads there.
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let get = |login: &str| {
        let forwarding = Forwarding::dynamic(&bastion, "operator-a", login);
        let how = format!("--socks-port {}", forwarding.port);
        let config = kubeconfig(&bastion, "operator-a", login, &how);
        let output = Command::new(crate::harness::cluster::ControlPlane::shared().kubectl_path())
            .arg("--kubeconfig")
            .arg(&config)
            .args(["--context", "editor@prod", "get", "--raw", "/version"])
            .output()
            .unwrap();
        Ran::from(output)
    };
    let through = get("viewer");
    assert_ne!(through.code, Some(0), "{through:?}");
    assert!(
        through.stderr.contains("requires a one-time code"),
        "{through:?}"
    );
    let denied = bastion.event("policy.denied", |event| event["kind"] == "tunnel");
    assert_eq!(denied["denial"]["why"], "unproven", "{denied}");

    // With the code.
    let code = enrolled.code(0);
    let ran = typing(&bastion, "operator-a", "editor", &code, "bastion whoami");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("which counts until"), "{ran:?}");
    let proven = bastion.event("authentication.ok", |event| event["principal"] == "editor");
    assert_eq!(proven["factors"], serde_json::json!(["key", "totp"]));
    let accepted = bastion.event("code.accepted", |_| true);
    assert_eq!(accepted["recoveryLeft"], Value::Null, "{accepted}");
    // For a while nobody types it again: not for a command, a credential or a tunnel.
    for command in ["true", "bastion credential"] {
        let ran = bastion.run_ssh("operator-a", "editor", command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let through = get("viewer");
    assert_eq!(through.code, Some(0), "{through:?}");

    // A lock forgets that, and the code was used.
    let lock = ["lock", "source", "127.0.0.1", "--reason", "a drill"];
    assert!(bastion.cli(&lock).status.success());
    let unlock = ["unlock", "source", "127.0.0.1"];
    assert!(bastion.cli(&unlock).status.success());
    let ran = typing(&bastion, "operator-a", "editor", &code, "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    refused(&bastion, "was used already");
    // A restart forgets what is remembered, and not what was used.
    bastion.stop();
    bastion.run();
    let ran = typing(&bastion, "operator-a", "editor", &code, "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let recovery = &enrolled.recovery[3];
    let ran = typing(&bastion, "operator-a", "editor", recovery, "true");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let accepted = bastion.event("code.accepted", |event| event["recoveryLeft"] == 9);
    assert_eq!(accepted["identity"], "operator-a");

    // What is removed ends what it opened.
    let open = Running::start(&bastion, "operator-a", "editor", "sleep 300");
    let mut stays = Running::start(&bastion, "operator-a", "viewer", "cat");
    let credential = bastion.run_ssh("operator-a", "editor", "bastion credential");
    let credential: Value = serde_json::from_str(&credential.stdout).unwrap();
    let holder = Holder::of(credential["status"]["token"].as_str().unwrap());
    let removed = ran_removed(&bastion);
    let end = Instant::now();
    assert!(
        removed.stdout.contains("1 open session ended"),
        "{removed:?}"
    );
    let ended = open.wait();
    assert!(
        ended.stderr.contains("requires a one-time code"),
        "{ended:?}"
    );
    holder.is_refused_after(end);
    let ran = bastion.run_ssh("operator-a", "editor", "true");
    assert!(ran.stderr.contains("are not enrolled"), "{ran:?}");
    stays.send("still here\n");
    stays.close_stdin();
    assert_eq!(stays.wait().stdout, "still here\n");
    let again = ran_removed(&bastion);
    assert!(again.stderr.contains("is not enrolled"), "{again:?}");

    // Another enrolment is another; and half a file is no file.
    let anew = Enrolled::by_cli(&bastion, "operator-a");
    let ran = typing(
        &bastion,
        "operator-a",
        "editor",
        &recovery.to_uppercase(),
        "true",
    );
    assert_eq!(ran.code, Some(255), "{ran:?}");
    bastion.stop();
    let down = ran_list_of(&bastion);
    assert!(
        down.stderr.contains("only a running daemon enrolls"),
        "{down:?}"
    );
    let path = bastion.state_dir().join("totp.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(!bastion.spawn().wait().unwrap().success());
    assert!(bastion.log().contains("totp.json are not whole"));

    // Whatever is kept or was logged, at the most that is ever logged, has no code and nothing that codes are made from.
    let mut hidden = vec![
        enrolled.secret.clone(),
        anew.secret.clone(),
        "sesame-9137".to_owned(),
    ];
    for code in enrolled.recovery.iter().chain(&anew.recovery) {
        hidden.push(code.clone());
        hidden.push(code.replace('-', ""));
        hidden.push(code.replace('-', "").to_uppercase());
    }
    let events: Vec<Value> = bastion.events();
    let about_codes = events.iter().filter(|event| {
        let name = event["event"].as_str().unwrap();
        name.starts_with("code.") || name.starts_with("totp.")
    });
    let about_codes: String = about_codes.map(ToString::to_string).collect();
    assert!(!about_codes.contains(&code), "{about_codes}");
    let mut searched = files(&bastion.state_dir());
    searched.retain(|file| *file != path);
    searched.push(bastion.path().join("daemon.log"));
    assert!(searched.len() > 10, "{searched:?}");
    for file in searched {
        let bytes = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for one in &hidden {
            assert!(
                !text.contains(one.as_str()),
                "{one} is in {}",
                file.display()
            );
        }
    }
}

fn ran_list_of(bastion: &Bastion) -> Ran {
    run(totp(bastion, "list", &[]))
}

fn ran_list(bastion: &Bastion) -> String {
    ran_list_of(bastion).stdout
}

fn ran_removed(bastion: &Bastion) -> Ran {
    run(totp(bastion, "remove", &["operator-a"]))
}

#[test]
fn a_requirement_that_is_added_ends_what_did_not_prove_it() {
    let bastion = Bastion::with(with_tunnels);
    let open = Running::start(&bastion, "operator-b", "editor", "sleep 300");
    let mut stays = Running::start(&bastion, "operator-a", "viewer", "cat");
    let credential = bastion.run_ssh("operator-b", "editor", "bastion credential");
    let credential: Value = serde_json::from_str(&credential.stdout).unwrap();
    let holder = Holder::of(credential["status"]["token"].as_str().unwrap());
    let documents = bastion.config();
    bastion.write_config(&documents.replace(
        "sessions: [shell, exec, credential, tunnel]",
        "sessions: [shell, exec, credential, tunnel]\n  require: [totp]",
    ));
    let ended = open.wait();
    let end = Instant::now();
    assert!(
        ended.stderr.contains("requires a one-time code"),
        "{ended:?}"
    );
    holder.is_refused_after(end);
    stays.send("still here\n");
    stays.close_stdin();
    assert_eq!(stays.wait().stdout, "still here\n");
}

/// The side that speaks SSH, which says what it likes.
struct Front {
    link: MonitorLink,
    key: String,
}

impl Front {
    fn from(daemon: &Daemon, bastion: &Bastion, address: &str) -> Self {
        let key = bastion.path().join("keys/operator-a.pub");
        let peer = Peer {
            address: address.parse().unwrap(),
            client: String::new(),
        };
        Self {
            link: daemon.monitor().converse(peer),
            key: std::fs::read_to_string(key).unwrap(),
        }
    }

    async fn ask(&self, ask: Ask) -> Answer {
        let (reply, answer) = oneshot::channel();
        let (_client, session) = link();
        let envelope = Envelope {
            ask: Box::new(ask),
            link: Some(session),
            reply,
        };
        self.link.asks.send(envelope).await.unwrap();
        answer.await.unwrap()
    }

    async fn signed(&self, login: &str) -> Answer {
        let offer = Offer {
            principal: login.to_owned(),
            public_key: self.key.trim().to_owned(),
            certificate: None,
            algorithm: "ssh-ed25519".to_owned(),
        };
        self.ask(Ask::Authenticate(offer)).await
    }

    async fn typed(&self, code: &str) -> Answer {
        self.ask(Ask::Code(Hidden::new(code))).await
    }

    async fn opens(&self) -> Answer {
        let open = Open {
            command: Run::Exec("bastion whoami".into()),
            terminal: None,
        };
        self.ask(Ask::Open(open)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_the_signature_and_the_code_nothing_opens_whatever_the_front_says() {
    let bastion = Bastion::prepare(requiring);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let config = Arc::new(config::load(&bastion.config_path()).unwrap());
    let (_watch, reloads) = config::watch::follow(&bastion.config_path(), config);
    let program = Path::new(env!("CARGO_BIN_EXE_bastion-audit"));
    let daemon = Daemon::start(reloads, program, false, clock.clone())
        .await
        .unwrap();
    let secret = totp::Secret::random().unwrap();
    let base32 = secret.base32().expose().to_owned();
    let step = |steps: i64| code(&base32, clock.now().as_second() + steps * 30);
    let codes = &daemon.monitor().codes;
    let (name, first) = (Name::new("operator-a").unwrap(), Hidden::new(step(-1)));
    let enrolling = codes.enroll(name, secret, &first, "uid 0".to_owned(), clock.now());
    enrolling.await.unwrap();

    let front = Front::from(&daemon, &bastion, "192.0.2.7:1");
    assert_eq!(front.typed(&step(0)).await, Answer::No, "nobody has signed");
    assert_eq!(front.signed("editor").await, Answer::Code);
    assert_eq!(front.opens().await, Answer::No);
    // As somebody who needs none, on the same connection.
    assert_eq!(front.signed("viewer").await, Answer::No);
    assert_eq!(front.opens().await, Answer::No);
    for _ in 0..3 {
        assert_eq!(front.typed(&step(50)).await, Answer::No);
    }
    assert_eq!(front.typed(&step(0)).await, Answer::No, "three were enough");
    assert_eq!(front.opens().await, Answer::No);

    let login = async |address: &str| {
        let front = Front::from(&daemon, &bastion, address);
        let answer = front.signed("editor").await;
        (front, answer)
    };
    let (front, answer) = login("192.0.2.7:2").await;
    assert_eq!(answer, Answer::Code);
    assert_eq!(front.typed(&step(0)).await, Answer::Yes);
    assert_eq!(front.opens().await, Answer::Yes);
    // From there none is asked for, for a while. From elsewhere one is, and after five wrong ones none is looked at.
    assert_eq!(login("192.0.2.7:3").await.1, Answer::Yes);
    let (elsewhere, answer) = login("192.0.2.8:1").await;
    assert_eq!(answer, Answer::Code);
    assert_eq!(elsewhere.typed(&step(50)).await, Answer::No);
    assert_eq!(elsewhere.typed(&step(50)).await, Answer::No);
    assert_eq!(elsewhere.typed(&step(50)).await, Answer::No);
    let (elsewhere, _) = login("192.0.2.8:2").await;
    assert_eq!(elsewhere.typed(&step(50)).await, Answer::No);
    assert_eq!(elsewhere.typed(&step(50)).await, Answer::No);
    let Answer::NoBecause(why) = elsewhere.typed(&step(1)).await else {
        panic!("a code was looked at");
    };
    assert!(why.contains("too many wrong codes"), "{why}");
    // Nor does it count for longer than it should.
    clock.advance(SignedDuration::from_hours(8));
    assert_eq!(login("192.0.2.7:4").await.1, Answer::Code);
}
