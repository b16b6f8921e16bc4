//! A stand-in for the deciding side: it knows one key, writes down all that it is asked, and runs toy commands.

use std::sync::Mutex;
use std::time::Duration;

use bastion_audit::messages::{
    Answer, Ask, ClientEvent, Command, Envelope, MonitorLink, Offer, Open, Order, Peer,
    SessionEvent, SessionLink, Terminal,
};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc};

/// The login name for which the known key is not enough,
pub(super) const WITH_CODE: &str = "with-code";
/// and what is missing.
pub(super) const GOOD_CODE: &str = "123456";

/// What the deciding side saw, in its order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Connected,
    Client(String),
    Probe(Offer),
    Authenticate(Offer),
    Refused(String),
    /// A code that was typed.
    Code(String),
    Open(Open),
    /// What happened in a toy session.
    Session(String),
    /// The conversation ended.
    Ended,
}

#[derive(Debug)]
pub(super) struct Monitor {
    key: String,
    inner: std::sync::Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: Mutex<Vec<Seen>>,
    changed: Notify,
    orders: Mutex<Vec<mpsc::Sender<Order>>>,
    peers: Mutex<Vec<std::net::SocketAddr>>,
}

impl Monitor {
    pub(super) fn new(known: &str) -> Self {
        Self {
            key: known.trim().to_owned(),
            inner: std::sync::Arc::default(),
        }
    }

    /// From where connections came, in their order.
    pub(super) fn peers(&self) -> Vec<std::net::SocketAddr> {
        self.inner.peers.lock().unwrap().clone()
    }

    pub(super) fn connect(&self, peer: Peer) -> Option<MonitorLink> {
        self.inner.peers.lock().unwrap().push(peer.address);
        let (asks, asked) = mpsc::channel(8);
        let (order, orders) = mpsc::channel(1);
        self.inner.orders.lock().unwrap().push(order);
        self.inner.see(Seen::Connected);
        let conversation = Conversation {
            key: self.key.clone(),
            inner: self.inner.clone(),
        };
        tokio::spawn(conversation.run(asked));
        Some(MonitorLink { asks, orders })
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub(super) fn count(&self, what: impl Fn(&Seen) -> bool) -> usize {
        self.seen().iter().filter(|seen| what(seen)).count()
    }

    pub(super) fn refused(&self) -> Vec<String> {
        let refused = |seen| match seen {
            Seen::Refused(what) => Some(what),
            _ => None,
        };
        self.seen().into_iter().filter_map(refused).collect()
    }

    /// Waits until something like this was seen.
    pub(super) async fn wait_for(&self, what: &str, like: impl Fn(&Seen) -> bool) {
        self.wait_for_many(1, what, like).await;
    }

    pub(super) async fn wait_for_many(
        &self,
        times: usize,
        what: &str,
        like: impl Fn(&Seen) -> bool,
    ) {
        let waiting = async {
            loop {
                let changed = self.inner.changed.notified();
                if self.count(&like) >= times {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(super::LONG, waiting).await.is_err() {
            panic!("{what} was not seen {times} times in {:#?}", self.seen());
        }
    }

    pub(super) async fn wait_for_session(&self, text: &str) {
        self.wait_for(
            text,
            |seen| matches!(seen, Seen::Session(said) if said == text),
        )
        .await;
    }

    pub(super) async fn wait_for_end(&self) {
        self.wait_for("the end", |seen| *seen == Seen::Ended).await;
    }

    /// Orders the nth connection to end.
    pub(super) async fn disconnect(&self, nth: usize, reason: &str) {
        let order = self.inner.orders.lock().unwrap()[nth].clone();
        let disconnect = Order::Disconnect {
            reason: reason.to_owned(),
        };
        order.send(disconnect).await.unwrap();
    }

    /// Drops the order ends, as a deciding side that is gone would.
    pub(super) fn vanish(&self) {
        self.inner.orders.lock().unwrap().clear();
    }
}

impl Inner {
    fn see(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
        self.changed.notify_waiters();
    }

    fn session(&self, text: impl Into<String>) {
        self.see(Seen::Session(text.into()));
    }
}

struct Conversation {
    key: String,
    inner: std::sync::Arc<Inner>,
}

impl Conversation {
    async fn run(self, mut asked: mpsc::Receiver<Envelope>) {
        while let Some(Envelope { ask, link, reply }) = asked.recv().await {
            let ask = *ask;
            let answer = match ask {
                Ask::Client(line) => {
                    self.inner.see(Seen::Client(line));
                    Answer::Yes
                }
                Ask::Probe(offer) => {
                    let answer = self.known(&offer);
                    self.inner.see(Seen::Probe(offer));
                    answer
                }
                Ask::Authenticate(offer) => {
                    let answer = match self.known(&offer) {
                        Answer::Yes if offer.principal == WITH_CODE => Answer::Code,
                        answer => answer,
                    };
                    self.inner.see(Seen::Authenticate(offer));
                    answer
                }
                Ask::Code(code) => {
                    let code = code.expose().to_owned();
                    let answer = match code.as_str() {
                        GOOD_CODE => Answer::Yes,
                        "000000" => Answer::NoBecause("wait a while".to_owned()),
                        _ => Answer::No,
                    };
                    self.inner.see(Seen::Code(code));
                    answer
                }
                // Nobody here is sent to a provider.
                Ask::Link | Ask::Device | Ask::Wait => Answer::No,
                Ask::Ending(_) => Answer::Yes,
                Ask::Refused { what } => {
                    self.inner.see(Seen::Refused(what));
                    Answer::Yes
                }
                Ask::Open(open) => {
                    let toy = Toy {
                        inner: self.inner.clone(),
                        link: link.expect("a session comes with a link"),
                        terminal: open.terminal.clone(),
                    };
                    let line = match &open.command {
                        Command::Shell => "shell".to_owned(),
                        Command::Exec(line) => String::from_utf8_lossy(line).into_owned(),
                        Command::Subsystem(name) => format!("subsystem {name}"),
                        Command::Tunnel(to) => format!("tunnel {to:?}"),
                    };
                    self.inner.see(Seen::Open(open));
                    if line == "no" {
                        Answer::No
                    } else {
                        if line == "slow-yes" {
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                        tokio::spawn(toy.run(line));
                        Answer::Yes
                    }
                }
            };
            // The front does not wait for the answer to what it only tells.
            drop(reply.send(answer));
        }
        self.inner.see(Seen::Ended);
    }

    fn known(&self, offer: &Offer) -> Answer {
        if offer.public_key.trim() == self.key && offer.certificate.is_none() {
            Answer::Yes
        } else {
            Answer::No
        }
    }
}

/// One toy session.
struct Toy {
    inner: std::sync::Arc<Inner>,
    link: SessionLink,
    terminal: Option<Terminal>,
}

impl Toy {
    async fn run(mut self, line: String) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["both"] => {
                self.out("out\n").await;
                self.err("err\n").await;
                self.end(SessionEvent::Exit(3)).await;
            }
            ["killed"] => {
                self.out("before\n").await;
                let killed = SessionEvent::Killed {
                    signal: "TERM".to_owned(),
                    core_dumped: false,
                };
                self.end(killed).await;
            }
            ["cat" | "slow-yes"] => self.cat().await,
            ["source", bytes] => {
                self.source(bytes.parse().unwrap()).await;
                self.end(SessionEvent::Exit(0)).await;
            }
            ["sink"] => self.sink().await,
            ["write-then-read", bytes] => {
                self.source(bytes.parse().unwrap()).await;
                self.sink().await;
            }
            ["drop-after", bytes] => {
                self.source(bytes.parse().unwrap()).await;
                self.inner.session("dropped");
            }
            ["deaf"] => self.deaf().await,
            ["no-input"] => {
                let (_closed, nobody) = mpsc::channel(1);
                self.link.from_client = nobody;
                self.out("ready\n").await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                self.end(SessionEvent::Exit(0)).await;
            }
            ["shell"] => self.shell().await,
            ["sleep"] => {
                self.inner.session("asleep");
                while self.link.from_client.recv().await.is_some() {}
                self.inner.session("woken");
            }
            ["sleep", millis] => {
                self.inner.session("asleep");
                tokio::time::sleep(Duration::from_millis(millis.parse().unwrap())).await;
                self.out("slept\n").await;
                self.end(SessionEvent::Exit(0)).await;
            }
            _ => {
                self.err(&format!("no toy: {line}\n")).await;
                self.end(SessionEvent::Exit(127)).await;
            }
        }
    }

    async fn out(&self, text: &str) {
        self.say(SessionEvent::Stdout(Bytes::copy_from_slice(
            text.as_bytes(),
        )))
        .await;
    }

    async fn err(&self, text: &str) {
        self.say(SessionEvent::Stderr(Bytes::copy_from_slice(
            text.as_bytes(),
        )))
        .await;
    }

    async fn say(&self, event: SessionEvent) {
        // A client that is gone is seen by `from_client`.
        drop(self.link.to_client.send(event).await);
    }

    async fn end(&self, event: SessionEvent) {
        self.say(event).await;
    }

    /// Gives back what comes in, byte for byte, until its end.
    async fn cat(&mut self) {
        while let Some(event) = self.link.from_client.recv().await {
            match event {
                ClientEvent::Data(data) => self.say(SessionEvent::Stdout(data)).await,
                ClientEvent::Eof => return self.end(SessionEvent::Exit(0)).await,
                ClientEvent::Resize(_) | ClientEvent::Signal(_) => {}
            }
        }
        self.inner.session("closed");
    }

    async fn source(&self, bytes: usize) {
        for chunk in pattern(bytes).chunks(32 * 1024) {
            let event = SessionEvent::Stdout(Bytes::copy_from_slice(chunk));
            if self.link.to_client.send(event).await.is_err() {
                self.inner.session("client gone");
                return;
            }
        }
    }

    /// Says what came in.
    async fn sink(&mut self) {
        let mut digest = Sha256::new();
        let mut length = 0;
        while let Some(event) = self.link.from_client.recv().await {
            match event {
                ClientEvent::Data(data) => {
                    length += data.len();
                    digest.update(&data);
                }
                ClientEvent::Eof => {
                    self.err(&format!("{length} {}\n", hex(&digest.finalize())))
                        .await;
                    return self.end(SessionEvent::Exit(0)).await;
                }
                ClientEvent::Resize(_) | ClientEvent::Signal(_) => {}
            }
        }
        self.inner.session("closed");
    }

    /// Reads nothing until its client is gone.
    async fn deaf(self) {
        self.inner.session("deaf");
        self.link.to_client.closed().await;
        self.inner.session("client gone");
    }

    /// Says what it sees of the terminal, line by line.
    async fn shell(mut self) {
        if let Some(terminal) = self.terminal.take() {
            let size = terminal.size;
            let line = format!(
                "{} {}x{} {:?}\n",
                terminal.term, size.cols, size.rows, terminal.modes
            );
            self.out(&line).await;
        }
        while let Some(event) = self.link.from_client.recv().await {
            match event {
                ClientEvent::Data(data) if &data[..] == b"q" => {
                    return self.end(SessionEvent::Exit(0)).await;
                }
                ClientEvent::Data(data) => self.say(SessionEvent::Stdout(data)).await,
                ClientEvent::Eof => self.out("eof\n").await,
                ClientEvent::Resize(size) => {
                    self.out(&format!("{}x{}\n", size.cols, size.rows)).await
                }
                ClientEvent::Signal(name) => self.out(&format!("signal {name}\n")).await,
            }
        }
        self.inner.session("closed");
    }
}

/// Bytes that repeat at no power of two.
pub(super) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
