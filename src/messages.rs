//! What the side that speaks SSH and the side that decides say to each other.
//!
//! Everything here serializes: the two sides are two processes ([`crate::network`]). The side that
//! speaks SSH (`crate::connection`) is trusted with nothing but the truth of its own socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::totp::Hidden;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where the TCP connection comes from.
    pub address: SocketAddr,
    /// The client's SSH version line, printable ASCII, at most 255 bytes (RFC 4253, 4.2); empty before it is known.
    pub client: String,
}

/// What a client offers as proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The login name that it asks for. Proves nothing; any bytes that UTF-8 allows, any length.
    pub principal: String,
    /// The public key, OpenSSH format (`ssh-ed25519 AAAA...`).
    pub public_key: String,
    /// The certificate of that key, OpenSSH format (`ssh-ed25519-cert-v01@openssh.com AAAA...`), if it came with one. A
    /// probe never has one.
    pub certificate: Option<String>,
    /// The algorithm of the signature.
    pub algorithm: String,
}

/// A question about a connection. One [`Answer`] each.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Would this key be worth a signature? Changes nothing, grants nothing.
    Probe(Offer),
    /// The client's signature by this key was verified. Whether its certificate is worth anything was not.
    Authenticate(Offer),
    /// What the client typed when it was asked for a one-time code, or for the code that a browser shows: after [`Answer::Code`] and [`Answer::Link`] only.
    Code(Hidden),
    /// The client is ready to be given a link to sign in by, after [`Answer::SignOn`] only.
    Link,
    /// The client would rather type a code at the provider, after an [`Answer::Link`] that says that it may.
    Device,
    /// The client waits until somebody has typed it, after [`Answer::Device`] and [`Answer::NotYet`] only.
    Wait,
    /// A session channel asks to run something. Goes with a [`SessionLink`].
    Open(Open),
    /// Something that is not a session was refused here: say so in the audit log.
    Refused {
        /// Such as `x11`, `agent-forwarding`, `tcpip-forward`, `password authentication`. Ours, never the client's words.
        what: String,
    },
    /// The client's version line is known now.
    Client(String),
    /// The connection ends next, and not because the client left.
    Ending(Ending),
}

/// Why a connection ends that its client did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// No channel data either way for `limits.idleTimeout`.
    Idle,
    /// The client answered no keepalive.
    Silent,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "no input and no output for too long",
            Self::Silent => "the client does not answer any more",
        })
    }
}

/// The reply to an [`Ask`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Yes: worth a signature, or an identity is proven, with all that was asked for, or the session starts.
    Yes,
    /// No. Nobody unproven learns why; what a proven identity may know comes over the [`SessionLink`].
    No,
    /// To [`Ask::Authenticate`] and [`Ask::Code`]: the key proves somebody, and that is not enough for what it asks for. Ask for a one-time code.
    Code,
    /// To [`Ask::Authenticate`] and [`Ask::Code`]: somebody has to sign in in a browser. Ask for a link to do so by.
    SignOn {
        /// The key proves somebody, and that is not enough for what it asks for. Otherwise it proves nobody, and another key may.
        settled: bool,
    },
    /// To [`Ask::Link`]: where to sign in. Ask for the code that is shown there.
    Link {
        /// The link.
        to: String,
        /// Whether [`Ask::Device`] is an answer to it.
        or_device: bool,
    },
    /// To [`Ask::Device`]: what is to be typed where.
    Device {
        /// The provider's page, printable ASCII.
        at: String,
        /// The code, printable ASCII.
        code: Hidden,
    },
    /// To [`Ask::Wait`]: nobody has typed it yet. Ask again.
    NotYet,
    /// To [`Ask::Code`], [`Ask::Link`], [`Ask::Device`] and [`Ask::Wait`]: no, and another try is of no use. The client, whose key has signed, may read why.
    NoBecause(String),
}

/// What a session channel asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What to run.
    pub command: Command,
    /// The terminal, if the client asked for one.
    pub terminal: Option<Terminal>,
}

/// What to run in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// An interactive shell.
    Shell,
    /// A command line for `sh -c`, as the client sent it.
    Exec(Bytes),
    /// A way to a cluster's API for programs of the client's own. It comes by a direct-tcpip channel, has no terminal, and
    /// its bytes are [`ClientEvent::Data`] and [`SessionEvent::Stdout`]; its exit status is not told.
    Tunnel(Destination),
    /// A subsystem that stands for a word of ours or is refused with the line that works instead.
    Subsystem(String),
}

/// Where a direct-tcpip channel asks to go. Names, never addresses: nothing is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    /// `kubernetes:443`: what the login name stands for.
    Own,
    /// `ROLE.CLUSTER:443`.
    Named {
        /// The role.
        role: String,
        /// The cluster.
        cluster: String,
    },
}

/// A pseudo-terminal as the client asked for it (RFC 4254, 6.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// `TERM`, letters, digits and `-+._`, at most 64 bytes; otherwise the connection replaces it by `dumb`.
    pub term: String,
    /// Size.
    pub size: WindowSize,
    /// Encoded terminal modes (RFC 4254, 8), known opcodes only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<(u8, u32)>,
}

/// A terminal's size in characters, each 1 to 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

impl WindowSize {
    /// Clamps what a client sent (it may send 0 or 2^32-1) into what programs survive.
    pub fn clamped(cols: u32, rows: u32) -> Self {
        let clamp = |n: u32, default: u16| match n {
            0 => default,
            n => u16::try_from(n.min(4096)).unwrap_or(4096),
        };
        Self {
            cols: clamp(cols, 80),
            rows: clamp(rows, 24),
        }
    }
}

/// The signals that a client may send (RFC 4254, 6.10), and no other: a name may end up in a log or in a `kill`.
pub(crate) const SIGNALS: [&str; 13] = [
    "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1",
    "USR2",
];

/// What a client does in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientEvent {
    /// Input bytes.
    Data(Bytes),
    /// No more input.
    Eof,
    /// The terminal changed its size.
    Resize(WindowSize),
    /// A signal for the command, by its RFC 4254 name without `SIG`.
    Signal(String),
}

/// What a session does to its client. After [`SessionEvent::Exit`] or [`SessionEvent::Killed`] comes nothing more:
/// what was said before still reaches a client that reads slowly. A session that drops its end of the link
/// without either is closed at once, and what the client did not take by then is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// Standard output (or the terminal).
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The end, with an exit status.
    Exit(u32),
    /// The end, by a signal (RFC 4254 name without `SIG`).
    Killed {
        /// Signal name.
        signal: String,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
}

/// What the deciding side orders of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// End now, whatever the client does.
    Disconnect {
        /// One sentence for the client.
        reason: String,
    },
}

/// What is said on a session channel, either way.
pub(crate) trait Event {
    /// Whether nothing comes after it.
    fn is_last(&self) -> bool;
}

impl Event for ClientEvent {
    /// A client ends by closing its channel.
    fn is_last(&self) -> bool {
        false
    }
}

impl Event for SessionEvent {
    fn is_last(&self) -> bool {
        matches!(self, Self::Exit(_) | Self::Killed { .. })
    }
}

/// How soon an end that was dropped is noticed while nobody takes what came before.
const ABANDONED: Duration = Duration::from_millis(250);

/// Returns when whoever speaks has dropped its end without a last word. While what was said is not taken nobody receives
/// from the link, so this looks: what is left in a link that is still open stays there, to push back.
pub(crate) async fn abandoned<E: Event>(from: &mut mpsc::Receiver<E>, backlog: &mut VecDeque<E>) {
    loop {
        tokio::time::sleep(ABANDONED).await;
        if from.is_closed() {
            while let Ok(event) = from.try_recv() {
                backlog.push_back(event);
            }
            if !backlog.back().is_some_and(Event::is_last) {
                return;
            }
            return std::future::pending().await;
        }
    }
}

/// The session's end of a session channel. Bounded both ways; a dropped peer reads as closed: no more from the
/// client means that it closed the channel or is gone (the end of its input is [`ClientEvent::Eof`]). A session
/// that will take no more input drops `from_client`; the rest is then discarded.
#[derive(Debug)]
pub struct SessionLink {
    /// From the client.
    pub from_client: mpsc::Receiver<ClientEvent>,
    /// To the client.
    pub to_client: mpsc::Sender<SessionEvent>,
}

/// The connection's end of a session channel.
#[derive(Debug)]
pub struct ClientLink {
    /// To the session.
    pub to_session: mpsc::Sender<ClientEvent>,
    /// From the session.
    pub from_session: mpsc::Receiver<SessionEvent>,
}

/// Events in flight each way on one session channel: with 32 KiB packets, at most 256 KiB.
const LINK_DEPTH: usize = 8;

/// Both ends of a new session channel.
pub fn link() -> (ClientLink, SessionLink) {
    let (to_session, from_client) = mpsc::channel(LINK_DEPTH);
    let (to_client, from_session) = mpsc::channel(LINK_DEPTH);
    (
        ClientLink {
            to_session,
            from_session,
        },
        SessionLink {
            from_client,
            to_client,
        },
    )
}

/// An [`Ask`] on its way.
#[derive(Debug)]
pub struct Envelope {
    /// The question. Boxed: a queue of these is made for each connection, and is as large as what it may hold.
    pub ask: Box<Ask>,
    /// Goes with [`Ask::Open`].
    pub link: Option<SessionLink>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// The connection's end of its conversation with the deciding side.
#[derive(Debug)]
pub struct MonitorLink {
    /// Questions.
    pub asks: mpsc::Sender<Envelope>,
    /// Orders.
    pub orders: mpsc::Receiver<Order>,
}
