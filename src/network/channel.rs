//! One session channel across the two processes: a socket of its own, so that who is slow there holds up nobody else.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::border;
use super::frames::{Frame, Incoming, Outgoing, invalid};
use crate::messages::{ClientEvent, ClientLink, Event, SessionEvent, SessionLink, abandoned};

/// Bytes of the main stream, either way: as they are, since most of what passes here is that.
const BYTES: u8 = 1;
/// Bytes of standard error.
const ERRORS: u8 = 2;
/// Any other event.
const OTHER: u8 = 3;

/// In the network process: carries what the client does to the daemon, and back, until both are over.
pub(super) async fn outside(mut socket: (Incoming, Outgoing), link: SessionLink) {
    tokio::join!(
        send_all(link.from_client, &socket.1),
        receive_all(&mut socket.0, link.to_client, Ok),
    );
}

/// In the daemon: the same for its session. A client that has closed its channel takes nothing more, and a session that has
/// ended wants nothing more: so whichever is over first ends both.
pub(super) async fn inside(mut socket: (Incoming, Outgoing), link: ClientLink) {
    tokio::select! {
        () = receive_all(&mut socket.0, link.to_session, border::event) => {}
        () = send_all(link.from_session, &socket.1) => {}
    }
}

/// An event that passes from one process to the other.
trait Passing: Event + Serialize + DeserializeOwned {
    fn bytes(&self) -> Option<(u8, &Bytes)>;
    fn of_bytes(kind: u8, bytes: Bytes) -> Option<Self>;
}

impl Passing for ClientEvent {
    fn bytes(&self) -> Option<(u8, &Bytes)> {
        match self {
            Self::Data(bytes) => Some((BYTES, bytes)),
            Self::Eof | Self::Resize(_) | Self::Signal(_) => None,
        }
    }

    fn of_bytes(kind: u8, bytes: Bytes) -> Option<Self> {
        (kind == BYTES).then_some(Self::Data(bytes))
    }
}

impl Passing for SessionEvent {
    fn bytes(&self) -> Option<(u8, &Bytes)> {
        match self {
            Self::Stdout(bytes) => Some((BYTES, bytes)),
            Self::Stderr(bytes) => Some((ERRORS, bytes)),
            Self::Exit(_) | Self::Killed { .. } => None,
        }
    }

    fn of_bytes(kind: u8, bytes: Bytes) -> Option<Self> {
        match kind {
            BYTES => Some(Self::Stdout(bytes)),
            ERRORS => Some(Self::Stderr(bytes)),
            _ => None,
        }
    }
}

/// Sends what is said here until nothing more can come, or nobody takes it.
async fn send_all<E: Passing>(mut from: mpsc::Receiver<E>, to: &Outgoing) {
    let mut backlog = VecDeque::new();
    loop {
        let event = match backlog.pop_front() {
            Some(event) => event,
            None => match from.recv().await {
                Some(event) => event,
                None => break,
            },
        };
        let sent = tokio::select! {
            biased;
            sent = send(&event, to) => sent,
            // Half a frame may be under way: the other side takes that for what it is.
            () = abandoned(&mut from, &mut backlog) => break,
        };
        if sent.is_err() {
            return;
        }
    }
    to.end();
}

async fn send<E: Passing>(event: &E, to: &Outgoing) -> io::Result<()> {
    match event.bytes() {
        Some((kind, bytes)) => to.send(kind, bytes, None).await,
        None => to.say(OTHER, event, None).await,
    }
}

/// Passes on what the other side says until it says nothing more. When nobody here takes it, it goes nowhere.
async fn receive_all<E: Passing>(
    from: &mut Incoming,
    to: mpsc::Sender<E>,
    check: impl Fn(E) -> io::Result<E>,
) {
    let mut rest = None;
    loop {
        let event = match &mut rest {
            None => next(from, &check).await,
            Some(rest) => VecDeque::pop_front(rest),
        };
        let Some(event) = event else {
            return;
        };
        tokio::select! {
            biased;
            room = to.reserve() => match room {
                Ok(room) => room.send(event),
                Err(_) => return discard(from).await,
            },
            // Whoever waits for a slow reader here must not wait for it in vain.
            () = from.ended(), if rest.is_none() => {
                let mut all = VecDeque::from([event]);
                while let Some(event) = next(from, &check).await {
                    all.push_back(event);
                }
                if !all.back().is_some_and(Event::is_last) {
                    return;
                }
                rest = Some(all);
            }
        }
    }
}

async fn discard(from: &mut Incoming) {
    while let Ok(Some(_)) = from.next().await {}
}

/// The next event; `None`: there is none, or it is nothing that could be one.
async fn next<E: Passing>(from: &mut Incoming, check: &impl Fn(E) -> io::Result<E>) -> Option<E> {
    let event = async {
        match from.next().await? {
            None => Ok(None),
            Some(frame) => check(event(frame)?).map(Some),
        }
    };
    event.await.unwrap_or_else(|error: io::Error| {
        tracing::debug!(%error, "a channel between the processes ended");
        None
    })
}

fn event<E: Passing>(frame: Frame) -> io::Result<E> {
    if frame.descriptor.is_some() {
        return Err(invalid("a descriptor with an event"));
    }
    match frame.kind {
        OTHER => match frame.message::<E>()? {
            event if event.bytes().is_none() => Ok(event),
            _ => Err(invalid("bytes as a message")),
        },
        kind => E::of_bytes(kind, frame.body).ok_or_else(|| invalid("no event")),
    }
}
