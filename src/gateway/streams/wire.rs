//! The bytes that SPDY is spoken over: a connection as it is, or the binary messages of a WebSocket.

use std::io;

use bytes::BytesMut;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// What is read at once, at most.
const READ: usize = 256 * 1024;

/// The longest message sent. What Kubernetes' own sides send has 32 KiB.
const MESSAGE: usize = 256 * 1024;

/// Where bytes come from.
pub(super) enum Source<S> {
    /// As they are.
    Raw(ReadHalf<S>),
    /// In messages.
    Messages(SplitStream<WebSocketStream<S>>),
}

/// Where bytes go.
pub(super) enum Drain<S> {
    /// As they are.
    Raw(WriteHalf<S>),
    /// In messages.
    Messages(SplitSink<WebSocketStream<S>, Message>),
}

pub(super) fn raw<S: AsyncRead + AsyncWrite>(io: S) -> (Source<S>, Drain<S>) {
    let (read, write) = tokio::io::split(io);
    (Source::Raw(read), Drain::Raw(write))
}

pub(super) fn messages<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
) -> (Source<S>, Drain<S>) {
    let (write, read) = socket.split();
    (Source::Messages(read), Drain::Messages(write))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Source<S> {
    /// Reads what there is. False at the end.
    pub(super) async fn read(&mut self, into: &mut BytesMut) -> io::Result<bool> {
        match self {
            Self::Raw(from) => {
                into.reserve(READ / 4);
                let mut read = from.read_buf(into).await?;
                if read == 0 {
                    return Ok(false);
                }
                // A TLS record is 16 KiB: what has come already is better recorded and written at once.
                while read < READ {
                    into.reserve(READ / 4);
                    match from.read_buf(into).now_or_never() {
                        Some(Ok(more)) if more > 0 => read += more,
                        // An end or an error comes again.
                        _ => break,
                    }
                }
                Ok(true)
            }
            Self::Messages(from) => {
                let before = into.len();
                while into.len() - before < READ {
                    let next = match into.len() == before {
                        true => from.next().await,
                        false => match from.next().now_or_never() {
                            Some(next) => next,
                            None => break,
                        },
                    };
                    match next {
                        Some(Ok(Message::Binary(bytes))) => into.extend_from_slice(&bytes),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                            return Err(io::Error::new(
                                io::ErrorKind::InvalidData,
                                "a text message",
                            ));
                        }
                        // What came before it is read first; the stream stays at its end.
                        Some(Ok(Message::Close(_))) | None => break,
                        Some(Err(_)) if into.len() > before => break,
                        Some(Err(error)) => return Err(io::Error::other(error)),
                    }
                }
                Ok(into.len() > before)
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drain<S> {
    /// Writes everything, and sees that it leaves.
    pub(super) async fn write(&mut self, bytes: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Raw(to) => {
                to.write_all(bytes).await?;
                bytes.clear();
                to.flush().await
            }
            Self::Messages(to) => {
                let mut rest = bytes.split().freeze();
                while !rest.is_empty() {
                    let message = rest.split_to(rest.len().min(MESSAGE));
                    to.feed(Message::Binary(message))
                        .await
                        .map_err(io::Error::other)?;
                }
                to.flush().await.map_err(io::Error::other)
            }
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Raw(to) => to.shutdown().await,
            Self::Messages(to) => {
                let normal = CloseFrame {
                    code: CloseCode::Normal,
                    reason: "".into(),
                };
                to.send(Message::Close(Some(normal)))
                    .await
                    .map_err(io::Error::other)
            }
        }
    }
}
