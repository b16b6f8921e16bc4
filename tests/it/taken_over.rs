//! The process that speaks SSH in somebody else's hands: what it can say to the daemon, and what comes of it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
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
use crate::second_factor::code;

/// Where [`child_that_is_somebody_elses`] writes what came of what it tried.
const SAID: &str = "TAKEN_OVER";

/// What it does.
const DOES: &str = "TAKEN_OVER_DOES";
const CLAIMS: &str = "claims keys and addresses";
const STAYS: &str = "stays when it is told to go";
const CROSSES: &str = "holds both ends of what should have one";

/// A daemon that has this test's own program speak SSH, and where that says what came of it.
async fn served_by_another(bastion: &Bastion, does: &str) -> (Daemon, PathBuf) {
    bastion.has_a_program();
    let said = bastion.path().join("said");
    let program = bastion.path().join("program");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = network ] || exec {real} \"$@\"\n{SAID}={said} {DOES}='{does}' exec {own} --ignored --exact {test}\n",
        real = bastion.path().join("bin/bastion-audit").display(),
        said = said.display(),
        own = std::env::current_exe().unwrap().display(),
        test = "taken_over::child_that_is_somebody_elses",
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = Arc::new(config::load(&bastion.config_path()).unwrap());
    let (_watch, reloads) = config::watch::follow(&bastion.config_path(), config);
    let daemon = Daemon::start(reloads, &program, false, Arc::new(SystemClock)).await;
    (daemon.unwrap(), said)
}

/// What it tried, and what came of it.
async fn tried(said: PathBuf) -> BTreeMap<String, String> {
    let said = move || eventually("what it tried", || std::fs::read_to_string(&said).ok());
    let said = tokio::task::spawn_blocking(said).await.unwrap();
    serde_json::from_str(&said).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_other_hands_it_claims_keys_and_addresses_and_nothing_else() {
    let bastion = Bastion::prepare(|documents| {
        documents.replace(
            "sessions: [shell, exec, credential]",
            "sessions: [shell, exec, credential]\n  require: [totp]",
        )
    });
    let (daemon, said) = served_by_another(&bastion, CLAIMS).await;
    enroll(&daemon, "operator-a").await;
    let (stop, now) = (CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(daemon.serve(stop.clone(), now.clone()));
    let tried = tried(said).await;
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
    serving.await.unwrap().unwrap();
    // All of it is on record, with what it claimed; and what asks for a code was proven by nobody.
    let proven = bastion.event("authentication.ok", |_| true);
    assert_eq!(proven["principal"], "viewer");
    assert_eq!(proven["peer"]["address"], "203.0.113.9:9");
    assert_eq!(proven["identity"], "operator-a");
}

/// Nobody at the other end of a socket is an end; oneself at the other end is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_it_carried_ends_with_it_whoever_holds_the_other_ends() {
    // Its sandboxes are real ones.
    let bastion = Bastion::prepare(|documents| {
        documents.replace(
            "sandbox: {",
            "sandbox: {readOnlyPaths: [bin/bastion-audit], ",
        )
    });
    let (daemon, said) = served_by_another(&bastion, CROSSES).await;
    let (stop, now) = (CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(daemon.serve(stop.clone(), now.clone()));
    let tried = tried(said).await;
    assert_eq!(tried["one session"], "Yes");
    assert_eq!(tried["another at its other end"], "Yes");
    assert_eq!(tried["what has no end"], "ended");
    // It has ended since.
    let ended = tokio::task::spawn_blocking(move || {
        let ended = eventually("the ends of both sessions", || {
            let mut events = bastion.events();
            events.retain(|it| it["event"] == "session.closed");
            (events.len() == 2).then_some(events)
        });
        (bastion, ended)
    });
    let (_bastion, ended) = ended.await.unwrap();
    for event in ended {
        let reason = event["ended"]["cut"]["reason"].as_str();
        assert_eq!(reason, Some("the client went away"), "{event}");
    }
    stop.cancel();
    now.cancel();
    serving.await.unwrap().unwrap();
}

/// An order to go is for the client to hear, not for whoever passes it on to obey.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_locked_out_is_answered_nothing_more_whoever_keeps_the_connection() {
    let bastion = Bastion::prepare(|documents| documents);
    let (daemon, said) = served_by_another(&bastion, STAYS).await;
    let (stop, now) = (CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(daemon.serve(stop.clone(), now.clone()));
    let proven = tried(said.clone()).await;
    assert_eq!(proven["proven"], "Yes");
    let locking = tokio::task::spawn_blocking(move || {
        let lock = [
            "identity",
            "operator-a",
            "--for",
            "1h",
            "--reason",
            "a test",
        ];
        let output = bastion.cli(&[&["lock"], &lock[..]].concat());
        assert!(output.status.success(), "{output:?}");
        bastion
    });
    let _bastion = locking.await.unwrap();
    let after = tried(after(&said)).await;
    assert_eq!(after["told"], "an order");
    assert_eq!(after["after that"], "ended");
    stop.cancel();
    now.cancel();
    serving.await.unwrap().unwrap();
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
        (self.opens_at(command, there.as_fd()), here)
    }

    fn opens_at(&self, command: &'static str, channel: BorrowedFd<'_>) -> String {
        let open = Open {
            command: Command::Exec(command.as_bytes().into()),
            terminal: None,
        };
        say(&self.0, &Ask::Open(open), Some(channel));
        self.answer()
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
    if said.exists() {
        // Another of it has done what there was to do.
        drop((&control).read_to_end(&mut Vec::new()));
        return;
    }
    match std::env::var(DOES).unwrap().as_str() {
        CROSSES => return tell(&said, &crosses(&control, &keys)),
        STAYS => stays(&control, &keys, &said),
        _ => tell(&said, &claims(&control, &keys)),
    }
    // Until the daemon is gone.
    drop((&control).read_to_end(&mut Vec::new()));
    drop(io::stderr().flush());
}

fn tell(said: &Path, tried: &BTreeMap<&str, String>) {
    let whole = said.with_extension("part");
    std::fs::write(&whole, serde_json::to_string(tried).unwrap()).unwrap();
    std::fs::rename(whole, said).unwrap();
}

fn stays(control: &UnixStream, keys: &Path, said: &Path) {
    let claimed = Claimed::new(control);
    let proven = claimed.claims(&keys.join("operator-a.pub"), "viewer");
    tell(said, &BTreeMap::from([("proven", proven)]));
    let told = claimed.answer();
    let tried = BTreeMap::from([("told", told), ("after that", claimed.answer())]);
    tell(&after(said), &tried);
}

fn after(said: &Path) -> PathBuf {
    said.with_file_name("said-after-that")
}

fn crosses(control: &UnixStream, keys: &Path) -> BTreeMap<&'static str, String> {
    let mut tried = BTreeMap::new();
    let claimed = Claimed::new(control);
    claimed.claims(&keys.join("operator-a.pub"), "viewer");
    let (one, other) = UnixStream::pair().unwrap();
    let session = "sleep 1000";
    tried.insert("one session", claimed.opens_at(session, one.as_fd()));
    let another = claimed.opens_at(session, other.as_fd());
    tried.insert("another at its other end", another);
    let claimed = Claimed::new(control);
    claimed.claims(&keys.join("operator-a.pub"), "viewer");
    let (here, there) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::empty(),
        None,
    )
    .unwrap();
    let endless = claimed.opens_at(session, there.as_fd());
    tried.insert("what has no end", endless);
    drop(here);
    tried
}

fn claims(control: &UnixStream, keys: &Path) -> BTreeMap<&'static str, String> {
    let mut tried = BTreeMap::new();

    let claimed = Claimed::new(control);
    tried.insert("open before anything", claimed.opens("bastion whoami").0);
    let nobody = claimed.claims(&keys.join("host.pub"), "editor");
    tried.insert("a key of nobody", nobody);
    tried.insert("open after that", claimed.opens("bastion whoami").0);

    let claimed = Claimed::new(control);
    let operator = claimed.claims(&keys.join("operator-a.pub"), "viewer");
    tried.insert("the key of an operator, unsigned", operator);
    let other = claimed.claims(&keys.join("operator-b.pub"), "editor");
    tried.insert("another key on the same connection", other);
    let (_, channel) = claimed.opens("bastion whoami");
    tried.insert("whoami", output(&channel));

    let claimed = Claimed::new(control);
    let code = claimed.claims(&keys.join("operator-a.pub"), "editor");
    tried.insert("a role that requires a code", code);
    let without = claimed.opens("bastion credential").0;
    tried.insert("open without the code", without);
    say(&claimed.0, &Ask::Code(Hidden::new("000000")), None);
    let answer = claimed.answer();
    let word = answer.split('(').next().unwrap().replace("NoBecause", "No");
    tried.insert("a wrong code", word);

    let claimed = Claimed::new(control);
    send(&claimed.0, b"\xc1garbage", None);
    tried.insert("garbage", claimed.answer());
    let claimed = Claimed::new(control);
    let open = Ask::Open(Open {
        command: Command::Shell,
        terminal: None,
    });
    let file = std::fs::File::open("/dev/null").unwrap();
    say(&claimed.0, &open, Some(file.as_fd()));
    tried.insert("a file for a channel", claimed.answer());

    tried
}
