//! An exec or attach over WebSockets: every message is decoded, recorded, and only then passed on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::broken::{Broken, Peer};
use super::spdy::joined;
use super::tape::{InputTape, OutputTape};
use crate::clock;
use crate::gateway::websocket::{self, Channel, Said, Subprotocol};
use crate::recording::HELD;

/// How long a side may take to close after it was told to.
pub(super) const CLOSING: Duration = Duration::from_secs(3);

/// After how long without a word a side is asked whether it is there.
const QUIET: Duration = Duration::from_secs(30);

/// What is collected, if it is there already, before it is recorded in one piece.
const BATCH: usize = 256 * 1024;

/// How many batches may wait for a side that reads slowly.
const WAITING: usize = 2;

type Reading<S> = SplitStream<WebSocketStream<S>>;
type Writing<S> = SplitSink<WebSocketStream<S>, Message>;

/// How a side ended.
enum End {
    /// With this.
    Closed(Option<CloseFrame>),
    /// Otherwise.
    Broken(Broken),
}

/// Both sockets after the stream, to be closed once its end is on record.
pub(super) struct Ended<D, U> {
    client: (Reading<D>, Writing<D>),
    upstream: (Reading<U>, Writing<U>),
    close: Option<CloseFrame>,
}

/// Carries messages between both sides until the API server ends the stream, or it breaks.
pub(super) async fn carry<D, U>(
    protocol: Subprotocol,
    client: D,
    upstream: U,
    input: &mut InputTape,
    output: &mut OutputTape,
) -> (Ended<D, U>, Result<(), Broken>)
where
    D: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut to_client, mut from_client) = websocket::server(client).await.split();
    let (mut to_upstream, mut from_upstream) = websocket::client(upstream).await.split();

    let end = {
        let (to_up, up_waiting) = mpsc::channel(WAITING);
        let (to_down, down_waiting) = mpsc::channel(WAITING);
        let inward = async {
            let (read, written) = tokio::join!(
                read_client(protocol, &mut from_client, input, to_up),
                write(&mut to_upstream, up_waiting, Peer::Upstream),
            );
            match written.and(read) {
                // An end that only its reader hears of in full: there may be output on its way.
                Err(Broken::Gone(Peer::Upstream)) => std::future::pending().await,
                Err(broken) => broken,
                Ok(()) => Broken::Gone(Peer::Client),
            }
        };
        let outward = async {
            let (read, written) = tokio::join!(
                read_upstream(protocol, &mut from_upstream, output, to_down),
                write(&mut to_client, down_waiting, Peer::Client),
            );
            match (read, written) {
                (Err(broken @ Broken::Unrecorded(_)), _) | (_, Err(broken)) | (Err(broken), _) => {
                    End::Broken(broken)
                }
                (Ok(close), Ok(())) => End::Closed(close),
            }
        };
        tokio::select! {
            biased;
            end = outward => end,
            broken = inward => End::Broken(broken),
        }
    };
    let (close, result) = match end {
        End::Closed(close) => (close, Ok(())),
        End::Broken(broken) => (closing(&broken), Err(broken)),
    };
    let ended = Ended {
        client: (from_client, to_client),
        upstream: (from_upstream, to_upstream),
        close,
    };
    (ended, result)
}

impl<D, U> Ended<D, U>
where
    D: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Tells both sides, and waits for neither longer than [`CLOSING`].
    pub(super) async fn close(self) {
        let both = async {
            tokio::join!(
                close(self.client, self.close.clone()),
                close(self.upstream, self.close)
            )
        };
        // A side that never closes is cut here.
        drop(timeout(CLOSING, both).await);
    }
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    (mut reading, mut writing): (Reading<S>, Writing<S>),
    frame: Option<CloseFrame>,
) {
    if writing.send(Message::Close(frame)).await.is_ok() {
        while let Some(Ok(_)) = reading.next().await {}
    }
}

/// What is said to both sides of a stream that breaks.
fn closing(broken: &Broken) -> Option<CloseFrame> {
    let code = match broken {
        Broken::Unrecorded(_) => CloseCode::Error,
        Broken::SessionOver | Broken::Gone(_) => CloseCode::Away,
        _ => CloseCode::Protocol,
    };
    let mut reason = broken.to_string();
    // A close frame has room for 123 bytes.
    let end = (0..=120).rev().find(|at| reason.is_char_boundary(*at));
    reason.truncate(end.unwrap_or(0));
    Some(CloseFrame {
        code,
        reason: reason.into(),
    })
}

async fn read_client<S: AsyncRead + AsyncWrite + Unpin>(
    protocol: Subprotocol,
    from: &mut Reading<S>,
    tape: &mut InputTape,
    to: mpsc::Sender<Vec<Message>>,
) -> Result<(), Broken> {
    let mut scratch = Vec::new();
    loop {
        let (messages, end) = batch(from, Peer::Client).await;
        for run in runs(protocol, Peer::Client, &messages)? {
            match run {
                Run::Data(channel, parts) => {
                    tape.record(channel, joined(&parts, &mut scratch)).await?
                }
                Run::End(channel) => tape.end(channel).await?,
            }
        }
        if to.send(messages).await.is_err() {
            return Err(Broken::Gone(Peer::Upstream));
        }
        match end {
            None => {}
            Some(End::Closed(_)) => return Ok(()),
            Some(End::Broken(broken)) => return Err(broken),
        }
    }
}

async fn read_upstream<S: AsyncRead + AsyncWrite + Unpin>(
    protocol: Subprotocol,
    from: &mut Reading<S>,
    tape: &mut OutputTape,
    to: mpsc::Sender<Vec<Message>>,
) -> Result<Option<CloseFrame>, Broken> {
    let mut scratch = Vec::new();
    loop {
        let (mut messages, mut end) = batch(from, Peer::Upstream).await;
        record(protocol, &messages, tape, &mut scratch).await?;
        let until = clock::monotonic() + HELD;
        while tape.is_holding() && end.is_none() {
            let Ok((more, ended)) = timeout_at(until, batch(from, Peer::Upstream)).await else {
                break;
            };
            record(protocol, &more, tape, &mut scratch).await?;
            messages.extend(more);
            end = ended;
        }
        tape.settle().await?;
        if to.send(messages).await.is_err() {
            return Err(Broken::Gone(Peer::Client));
        }
        match end {
            None => {}
            Some(End::Closed(close)) => return Ok(close),
            Some(End::Broken(broken)) => return Err(broken),
        }
    }
}

async fn record(
    protocol: Subprotocol,
    messages: &[Message],
    tape: &mut OutputTape,
    scratch: &mut Vec<u8>,
) -> Result<(), Broken> {
    for run in runs(protocol, Peer::Upstream, messages)? {
        if let Run::Data(channel, parts) = run {
            tape.record(channel, joined(&parts, scratch)).await?;
        }
    }
    Ok(())
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    to: &mut Writing<S>,
    mut waiting: mpsc::Receiver<Vec<Message>>,
    peer: Peer,
) -> Result<(), Broken> {
    loop {
        let messages = match timeout(QUIET, waiting.recv()).await {
            Ok(Some(messages)) => messages,
            Ok(None) => return Ok(()),
            // Only writing shows that a side has gone that is not read, because the other one does not read.
            Err(_) => vec![Message::Ping(Bytes::new())],
        };
        for message in messages {
            to.feed(message).await.map_err(|_| Broken::Gone(peer))?;
        }
        if waiting.is_empty() {
            to.flush().await.map_err(|_| Broken::Gone(peer))?;
        }
    }
}

/// The next message, and what else is there already; data only. With it, whether the side has ended after them.
async fn batch<S: AsyncRead + AsyncWrite + Unpin>(
    from: &mut Reading<S>,
    peer: Peer,
) -> (Vec<Message>, Option<End>) {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH {
        let next = match messages.is_empty() {
            true => from.next().await,
            false => match from.next().now_or_never() {
                Some(next) => next,
                None => break,
            },
        };
        match next {
            Some(Ok(Message::Close(frame))) => return (messages, Some(End::Closed(frame))),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(message)) => {
                // Even nothing is a message: it must not make a batch endless.
                bytes += message.len().max(64);
                messages.push(message);
            }
            None => return (messages, Some(End::Broken(Broken::Gone(peer)))),
            Some(Err(error)) => return (messages, Some(End::Broken(broken_by(peer, error)))),
        }
    }
    (messages, None)
}

fn broken_by(from: Peer, error: Error) -> Broken {
    match error {
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Broken::Gone(from),
        error => Broken::WebSocket {
            from,
            reason: error.to_string(),
        },
    }
}

/// Messages of one channel in a row.
enum Run {
    Data(Channel, Vec<Bytes>),
    End(Channel),
}

fn runs(protocol: Subprotocol, from: Peer, messages: &[Message]) -> Result<Vec<Run>, Broken> {
    let mut runs = Vec::new();
    for message in messages {
        let said = websocket::decode(protocol, message)
            .map_err(|error| Broken::Message { from, error })?;
        match (said, runs.last_mut()) {
            (Some(Said::Data(channel, bytes)), Some(Run::Data(last, parts)))
                if *last == channel =>
            {
                parts.push(bytes);
            }
            (Some(Said::Data(channel, bytes)), _) => runs.push(Run::Data(channel, vec![bytes])),
            (Some(Said::End(channel)), _) => runs.push(Run::End(channel)),
            (None, _) => {}
        }
    }
    Ok(runs)
}
