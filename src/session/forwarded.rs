//! A forwarded connection as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::messages::{ClientEvent, SessionEvent, SessionLink};

/// Most bytes in one event, as on a session channel.
const PACKET: usize = 32 * 1024;

/// The session's end of a forwarded connection.
#[derive(Debug)]
pub(super) struct Forwarded {
    from: mpsc::Receiver<ClientEvent>,
    to: PollSender<SessionEvent>,
    unread: Bytes,
    ended: bool,
}

impl Forwarded {
    pub(super) fn new(link: SessionLink) -> Self {
        Self {
            from: link.from_client,
            to: PollSender::new(link.to_client),
            unread: Bytes::new(),
            ended: false,
        }
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() && !this.ended {
            match ready!(this.from.poll_recv(cx)) {
                Some(ClientEvent::Data(bytes)) => this.unread = bytes,
                // Nothing else means anything to a connection.
                Some(ClientEvent::Resize(_) | ClientEvent::Signal(_)) => {}
                Some(ClientEvent::Eof) | None => this.ended = true,
            }
        }
        let length = this.unread.len().min(buffer.remaining());
        buffer.put_slice(this.unread.get(..length).unwrap_or_default());
        this.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let bytes = bytes.get(..PACKET).unwrap_or(bytes);
        ready!(this.to.poll_reserve(cx)).map_err(gone)?;
        let event = SessionEvent::Stdout(Bytes::copy_from_slice(bytes));
        this.to.send_item(event).map_err(gone)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.to.is_closed() {
            return Poll::Ready(Ok(()));
        }
        // What was said before still reaches a client that reads slowly.
        if ready!(this.to.poll_reserve(cx)).is_ok() {
            this.to.send_item(SessionEvent::Exit(0)).map_err(gone)?;
        }
        this.to.close();
        Poll::Ready(Ok(()))
    }
}

fn gone<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::messages::link;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_the_end_is_told() {
        let (mut client, session) = link();
        let mut forwarded = Forwarded::new(session);
        let sent: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let echo = async {
            let mut got = vec![0; sent.len()];
            forwarded.read_exact(&mut got).await.unwrap();
            forwarded.write_all(&got).await.unwrap();
            assert_eq!(forwarded.read(&mut [0; 8]).await.unwrap(), 0);
            forwarded.shutdown().await.unwrap();
            forwarded.shutdown().await.unwrap();
        };
        let talk = async {
            for piece in sent.chunks(7_001) {
                let data = ClientEvent::Data(Bytes::copy_from_slice(piece));
                client.to_session.send(data).await.unwrap();
            }
            client.to_session.send(ClientEvent::Eof).await.unwrap();
        };
        let hear = async {
            let mut got = Vec::new();
            loop {
                match client.from_session.recv().await.unwrap() {
                    SessionEvent::Stdout(bytes) => {
                        assert!(bytes.len() <= PACKET);
                        got.extend_from_slice(&bytes);
                    }
                    end => return (got, end),
                }
            }
        };
        let ((), (), (got, end)) = tokio::join!(echo, talk, hear);
        assert!(got == sent);
        assert_eq!(end, SessionEvent::Exit(0));
    }
}
