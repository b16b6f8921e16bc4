//! Places that take what they are given, and places that do not.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::ManualClock;
use crate::log::{Leaf, LogReader};
use crate::session::SessionId;
use crate::signing::{Digest, Signing};
use crate::store::room::Room;
use jiff::Timestamp;

const TOKEN: &str = "not-a-secret-of-anybody";

/// A log, an audit log, and what follows the one into places.
struct Bench {
    dir: TempDir,
    signing: Signing,
    log: EvidenceLog,
    audit: Audit,
    clock: Arc<dyn Clock>,
    witnesses: Witnesses,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signing = crate::signing::testing::signing();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let room = Room::default();
        let log = EvidenceLog::open(
            &dir.path().join("log"),
            signing.clone(),
            &*clock,
            room.clone(),
        );
        let audit = Audit::open(
            &dir.path().join("audit.jsonl"),
            dir.path(),
            "main",
            signing.clone(),
            Arc::clone(&clock),
            room,
        );
        Self {
            signing,
            log: log.unwrap(),
            audit: audit.unwrap(),
            clock,
            witnesses: Witnesses::default(),
            dir,
        }
    }

    fn follow(&self, witness: Witness) -> JoinHandle<()> {
        tokio::spawn(witness.follow(
            self.log.clone(),
            self.audit.clone(),
            Arc::clone(&self.clock),
            self.witnesses.clone(),
        ))
    }

    async fn append(&self, leaves: u64) {
        for _ in 0..leaves {
            let at = Timestamp::UNIX_EPOCH;
            let leaf = Leaf::Opened {
                session: SessionId::new(at),
                at,
                parent: None,
                note: Digest::of(b""),
            };
            self.log.append(leaf).await.unwrap();
        }
    }

    /// How many leaves a note covers that fits the log.
    fn leaves(&self, note: &str) -> u64 {
        let reader =
            LogReader::open(&self.dir.path().join("log"), self.signing.keys(), |_, _| {}).unwrap();
        reader.check_witness(note.as_bytes()).unwrap().size()
    }

    fn events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap();
        let lines = text.lines().map(|it| serde_json::from_str(it).unwrap());
        lines
            .filter(|it: &serde_json::Value| it["event"].as_str().unwrap().starts_with("witness."))
            .collect()
    }

    fn token(&self, token: &str) -> PathBuf {
        let path = self.dir.path().join("token");
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

async fn until(mut what: impl FnMut() -> bool) {
    let come = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // A busy machine, and the pauses between tries.
    tokio::time::timeout(Duration::from_secs(90), come)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_witness_file_gets_the_last_head_too() {
    let bench = Bench::new();
    let file = bench.dir.path().join("witness");
    let following = bench.follow(Witness {
        file: Some(file.clone()),
        every: Duration::from_secs(3600),
        ..Witness::default()
    });
    bench.append(5).await;
    bench.log.close().await;
    following.await.unwrap();
    let notes = witness_notes(&std::fs::read(&file).unwrap());
    assert_eq!(bench.leaves(notes.last().unwrap()), 5);
    assert_eq!(bench.witnesses.list()[0].kept, Some(5));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_of_once_and_tried_again() {
    let bench = Bench::new();
    let share = bench.dir.path().join("share");
    let following = bench.follow(Witness {
        file: Some(share.join("witness")),
        every: Duration::from_millis(10),
        ..Witness::default()
    });
    bench.append(1).await;
    until(|| bench.witnesses.list().iter().any(|it| it.failures > 1)).await;
    std::fs::create_dir(&share).unwrap();
    until(|| bench.witnesses.list()[0].failing.is_none()).await;
    until(|| bench.events().len() == 2).await;
    let events = bench.events();
    assert_eq!(events[0]["event"], "witness.failed");
    assert_eq!(events[0]["place"], "file");
    assert!(
        events[0]["reason"].as_str().unwrap().contains("opening"),
        "{events:?}"
    );
    assert_eq!(events[1]["event"], "witness.recovered");
    bench.log.close().await;
    following.await.unwrap();
}

#[tokio::test]
async fn a_syslog_daemon_gets_a_line_that_is_the_note() {
    let bench = Bench::new();
    let socket = bench.dir.path().join("dev-log");
    let daemon = tokio::net::UnixDatagram::bind(&socket).unwrap();
    let following = bench.follow(Witness {
        syslog: Some(socket),
        ..Witness::default()
    });
    let mut datagram = vec![0; 4096];
    let length = daemon.recv(&mut datagram).await.unwrap();
    let message = std::str::from_utf8(&datagram[..length]).unwrap();
    assert!(
        message.starts_with("<86>") && message.is_ascii(),
        "{message}"
    );
    let (_, note) = message.split_once(" bastion-audit-head: ").unwrap();
    let note: String = serde_json::from_str(note).unwrap();
    bench.leaves(&note);
    bench.log.close().await;
    following.await.unwrap();
}

/// What a server does with a request.
#[derive(Clone, Debug)]
enum Answer {
    /// These bytes, and the end.
    With(String),
    /// These bytes, and the last of them for ever.
    Endless(String),
    /// Nothing, ever.
    Nothing,
    /// Not even TLS.
    NoTls,
}

fn status(line: &str) -> Answer {
    Answer::With(format!(
        "HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    ))
}

/// Speaks HTTPS on loopback, and keeps what it is told.
struct Server {
    port: u16,
    ca: String,
    answer: Arc<Mutex<Answer>>,
    seen: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, seen) = (
            Arc::new(Mutex::new(answer)),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (does, keeps) = (Arc::clone(&answer), Arc::clone(&seen));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, keeps) = (tls.clone(), Arc::clone(&keeps));
                let answer = does.lock().unwrap().clone();
                connections.spawn(async move {
                    if matches!(answer, Answer::NoTls) {
                        return hang(tcp).await;
                    }
                    let Ok(mut stream) = tls.accept(tcp).await else {
                        return;
                    };
                    let Some(request) = request(&mut stream).await else {
                        return;
                    };
                    keeps.lock().unwrap().push(request);
                    match answer {
                        Answer::With(bytes) => {
                            drop(stream.write_all(bytes.as_bytes()).await);
                            drop(stream.shutdown().await);
                        }
                        Answer::Endless(bytes) => {
                            let mut bytes = bytes.into_bytes();
                            while stream.write_all(&bytes).await.is_ok() {
                                bytes = vec![*bytes.last().unwrap(); 64 << 10];
                            }
                        }
                        Answer::Nothing | Answer::NoTls => hang(stream).await,
                    }
                });
            }
        });
        Self {
            port,
            ca: made.cert.pem(),
            answer,
            seen,
            serving,
        }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn webhook(&self, bench: &Bench) -> Webhook {
        let ca = bench.dir.path().join(format!("{}.pem", self.port));
        std::fs::write(&ca, &self.ca).unwrap();
        Webhook {
            url: format!("https://127.0.0.1:{}/heads/hidden?of=main", self.port)
                .parse()
                .unwrap(),
            ca_file: Some(ca),
            token_file: Some(bench.token(&format!("{TOKEN}\n"))),
        }
    }
}

async fn hang<T>(stream: T) {
    std::future::pending::<()>().await;
    drop(stream);
}

/// A request with its body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let length = lines
                .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map(|(_, value)| value.parse().unwrap())
                .next()
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_webhook_gets_the_newest_head_with_the_token_of_now_and_an_outage_is_told_of_once() {
    let (bench, server) = (Bench::new(), Server::start(status("204 No Content")).await);
    let following = bench.follow(Witness {
        webhook: Some(server.webhook(&bench)),
        every: Duration::from_millis(10),
        ..Witness::default()
    });
    bench.append(3).await;
    until(|| bench.witnesses.list().iter().any(|it| it.kept == Some(3))).await;
    let first = server.seen().remove(0);
    assert!(
        first.starts_with("POST /heads/hidden?of=main HTTP/1.1\r\n"),
        "{first}"
    );
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    assert!(first.contains(&bearer(TOKEN)), "{first}");

    server.set(status("500 Internal Server Error"));
    bench.append(1).await;
    until(|| bench.witnesses.list()[0].failing.is_some()).await;
    // Of what comes meanwhile only the newest matters.
    bench.append(20).await;
    bench.token("another-token");
    let before = server.seen().len();
    server.set(status("200 OK"));
    until(|| bench.witnesses.list()[0].kept == Some(24)).await;
    let seen = server.seen();
    assert!(seen.len() <= before + 2, "{} after {before}", seen.len());
    let last = seen.last().unwrap();
    assert!(last.contains(&bearer("another-token")), "{last}");
    assert_eq!(bench.leaves(body(last)), 24);
    until(|| bench.events().len() == 2).await;
    let events = bench.events();
    let kinds: Vec<_> = events.iter().map(|it| it["event"].clone()).collect();
    assert_eq!(kinds, ["witness.failed", "witness.recovered"]);
    let told = format!("{events:?} {:?}", bench.witnesses.list());
    assert!(told.contains("500 Internal Server Error"), "{told}");
    assert!(!told.contains("hidden") && !told.contains(TOKEN), "{told}");

    bench.append(2).await;
    bench.log.close().await;
    following.await.unwrap();
    assert_eq!(bench.leaves(body(server.seen().last().unwrap())), 26);
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_no_leaf_and_no_other_place() {
    let (bench, server) = (Bench::new(), Server::start(Answer::Nothing).await);
    let file = bench.dir.path().join("witness");
    let following = bench.follow(Witness {
        file: Some(file.clone()),
        webhook: Some(server.webhook(&bench)),
        every: Duration::from_millis(10),
        ..Witness::default()
    });
    until(|| !server.seen().is_empty()).await;
    let leaves = tokio::time::timeout(Duration::from_secs(10), bench.append(40));
    leaves.await.unwrap();
    until(|| bench.witnesses.list().iter().any(|it| it.kept == Some(40))).await;
    assert_eq!(server.seen().len(), 1, "one at a time, and none behind it");
    // Its last chance is a new one.
    server.set(status("200 OK"));
    bench.log.close().await;
    tokio::time::timeout(Duration::from_secs(10), following)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bench.leaves(body(server.seen().last().unwrap())), 40);
}

#[tokio::test]
async fn hostile_servers_take_no_checkpoint_no_token_and_no_time() {
    let bench = Bench::new();
    let (elsewhere, stranger) = (
        Server::start(status("200 OK")).await,
        Server::start(status("200 OK")).await,
    );
    let post = async |webhook: Webhook| {
        let caller = Caller::new(webhook).with_patience(Duration::from_secs(2));
        let posted = tokio::time::timeout(Duration::from_secs(10), caller.post("a note\n"));
        posted.await.unwrap()
    };
    let redirect = format!(
        "307 Temporary Redirect\r\nlocation: https://127.0.0.1:{}/",
        elsewhere.port
    );
    let endless_head = "HTTP/1.1 200 OK\r\nx: y".to_owned();
    for (answer, expected) in [
        (Answer::NoTls, "has not answered within 2 s"),
        (Answer::Nothing, "has not answered within 2 s"),
        (Answer::Endless(endless_head), "client error"),
        (status("500 Internal Server Error"), "500 Internal"),
        (status("401 Unauthorized"), "401 Unauthorized"),
        (status(&redirect), "is not followed elsewhere"),
        (Answer::With(String::new()), "client error"),
        (Answer::With("SSH-2.0-x\r\n".to_owned()), "client error"),
    ] {
        let server = Server::start(answer.clone()).await;
        let error = post(server.webhook(&bench)).await.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains(expected), "{answer:?}: {said}");
        assert!(!said.contains(TOKEN) && !said.contains("hidden"), "{said}");
    }
    assert_eq!(elsewhere.seen(), [""; 0], "a redirect was followed");

    // One that says yes and then talks for ever has said yes.
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx".to_owned();
    let server = Server::start(Answer::Endless(endless)).await;
    post(server.webhook(&bench)).await.unwrap();

    // Somebody else's certificate: nothing is said to it.
    let mut webhook = stranger.webhook(&bench);
    webhook.ca_file = server.webhook(&bench).ca_file;
    let error = post(webhook).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(stranger.seen(), [""; 0]);
    let mut webhook = stranger.webhook(&bench);
    webhook.ca_file = None;
    assert!(post(webhook).await.is_err());
    assert_eq!(stranger.seen(), [""; 0]);
    let mut webhook = stranger.webhook(&bench);
    webhook.url = "http://192.0.2.1/".parse().unwrap();
    let error = post(webhook).await.unwrap_err();
    assert!(matches!(error, WitnessError::Plain { .. }), "{error}");

    // A token that is none, or that others can read.
    let webhook = stranger.webhook(&bench);
    let path = bench.token("two\nlines");
    let error = post(webhook.clone()).await.unwrap_err();
    assert!(matches!(error, WitnessError::NoToken { .. }), "{error}");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let error = post(webhook.clone()).await.unwrap_err();
    assert!(matches!(error, WitnessError::Secret(_)), "{error}");
    std::fs::write(webhook.ca_file.as_ref().unwrap(), "").unwrap();
    bench.token(TOKEN);
    let error = post(webhook).await.unwrap_err();
    assert!(matches!(error, WitnessError::Trust(_)), "{error}");
    assert_eq!(stranger.seen(), [""; 0]);
}
