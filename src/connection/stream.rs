//! The TCP stream under russh: it can be cut from outside, paused, and tells what it hears.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::wire::{Cut, MayRead, Wire};

/// What is read at least, whatever russh asks for: it asks for a packet's first four bytes and then for the rest,
/// and most packets are smaller than this.
const AHEAD: usize = 256;

/// A version line is at most 255 bytes (RFC 4253, 4.2).
const VERSION_LINE: usize = 255;

/// A TCP stream that [`Wire`] rules over. russh waits in many places for a client that may never move
/// again; an error from the socket ends each of these waits.
pub(super) struct CutStream {
    tcp: TcpStream,
    wire: Arc<Wire>,
    /// The first bytes, until the version line is whole.
    first: Option<Vec<u8>>,
    /// Wakes the reader after a rest.
    rest: Option<Pin<Box<Sleep>>>,
    /// Read, and not asked for yet: `ahead[taken..read]`.
    ahead: [u8; AHEAD],
    taken: usize,
    read: usize,
}

impl CutStream {
    pub(super) fn new(tcp: TcpStream, wire: Arc<Wire>) -> Self {
        Self {
            tcp,
            wire,
            first: Some(Vec::new()),
            rest: None,
            ahead: [0; AHEAD],
            taken: 0,
            read: 0,
        }
    }

    /// Reads from the socket, into `ahead` unless `buf` has room for more.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() >= AHEAD {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
            self.heard(buf.filled().get(before..).unwrap_or_default());
        } else {
            let mut ahead = [0; AHEAD];
            let mut into = ReadBuf::new(&mut ahead);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut into))?;
            self.read = into.filled().len();
            self.taken = 0;
            self.ahead = ahead;
            self.heard(ahead.get(..self.read).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }

    fn heard(&mut self, read: &[u8]) {
        if !read.is_empty() {
            self.wire.heard_now();
            acknowledge(&self.tcp);
            if self.first.is_some() {
                self.note_version(read);
            }
        }
    }

    fn poll_may_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.wire.may_read(cx) {
                MayRead::Now => {
                    self.rest = None;
                    return Poll::Ready(Ok(()));
                }
                MayRead::Cut => return Poll::Ready(Err(cut(Cut))),
                MayRead::Later(None) => return Poll::Pending,
                MayRead::Later(Some(until)) => {
                    let rest = self
                        .rest
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                    if rest.deadline() != until {
                        rest.as_mut().reset(until);
                    }
                    ready!(rest.as_mut().poll(cx));
                }
            }
        }
    }

    /// russh shows the version line to nobody before a client is proven; a refused one has a name too.
    fn note_version(&mut self, bytes: &[u8]) {
        let Some(mut first) = self.first.take() else {
            return;
        };
        first.extend_from_slice(bytes.get(..VERSION_LINE).unwrap_or(bytes));
        match first.iter().position(|&b| b == b'\n') {
            Some(end) => {
                let line = first.get(..end).unwrap_or_default();
                self.wire
                    .client_is(line.strip_suffix(b"\r").unwrap_or(line));
            }
            None if first.len() >= VERSION_LINE => {}
            None => self.first = Some(first),
        }
    }
}

impl Drop for CutStream {
    fn drop(&mut self) {
        if self.wire.is_cut() {
            // What the client did not take by now it shall not get: reset instead of lingering in the kernel.
            if let Err(error) =
                rustix::net::sockopt::set_socket_linger(&self.tcp, Some(Duration::ZERO))
            {
                tracing::debug!(%error, "no reset on a cut connection");
            }
        }
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_may_read(cx))?;
        if self.taken == self.read {
            ready!(self.poll_fill(cx, buf))?;
        }
        let (taken, read) = (self.taken, self.read);
        let give = (read - taken).min(buf.remaining());
        if let Some(bytes) = self.ahead.get(taken..taken + give) {
            buf.put_slice(bytes);
            self.taken += give;
        }
        Poll::Ready(Ok(()))
    }
}

/// Acknowledges at once what was read. Clients that leave Nagle's algorithm on (OpenSSH does without a terminal) send a
/// second small packet only after that, and the kernel would wait 40 ms for something of ours to send along:
/// once in each key exchange. The kernel forgets the wish, so it is told again with each read.
fn acknowledge(tcp: &TcpStream) {
    if let Err(error) = rustix::net::sockopt::set_tcp_quickack(tcp, true) {
        tracing::debug!(%error, "no TCP_QUICKACK");
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire.may_write(cx).map_err(cut)?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

fn cut(Cut: Cut) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the bastion ended this connection",
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (CutStream, TcpStream, Arc<Wire>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        let wire = Wire::new();
        (
            CutStream::new(near.unwrap(), wire.clone()),
            far.unwrap().0,
            wire,
        )
    }

    #[tokio::test]
    async fn the_version_line_is_known_however_it_is_split() {
        let (mut stream, mut far, wire) = pair().await;
        let mut buf = [0; 64];
        far.write_all(b"SSH-2.0-Te").await.unwrap();
        let n = stream.read(&mut buf).await.unwrap();
        assert_eq!(wire.client(), None);
        far.write_all(b"st_1\r\nbinary").await.unwrap();
        let m = stream.read(&mut buf[n..]).await.unwrap();
        assert_eq!(wire.client(), Some("SSH-2.0-Test_1"));
        assert_eq!(&buf[..n + m], b"SSH-2.0-Test_1\r\nbinary");
    }

    #[tokio::test]
    async fn every_byte_comes_once_whatever_is_asked_for() {
        let (mut stream, mut far, _wire) = pair().await;
        let sent: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let to_send = sent.clone();
        let writing = tokio::spawn(async move {
            for piece in to_send.chunks(777) {
                far.write_all(piece).await.unwrap();
            }
        });
        let mut read = Vec::new();
        for ask in [1, 4, 44, 255, 256, 257, 1300].into_iter().cycle() {
            let mut buf = vec![0; ask];
            match stream.read(&mut buf).await.unwrap() {
                0 => break,
                n => read.extend_from_slice(&buf[..n]),
            }
        }
        writing.await.unwrap();
        assert!(read == sent);
    }

    #[tokio::test]
    async fn a_cut_ends_a_read_and_a_write_that_wait() {
        let (stream, far, wire) = pair().await;
        let (mut reading, mut writing) = tokio::io::split(stream);
        let both = tokio::spawn(async move {
            let mut buf = [0; 1];
            let megabytes = vec![0; 64 << 20];
            tokio::join!(reading.read(&mut buf), writing.write_all(&megabytes))
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!both.is_finished());
        wire.cut();
        let (read, written) = tokio::time::timeout(Duration::from_secs(2), both)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(
            written.unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
        drop(far);
    }

    #[tokio::test]
    async fn a_resting_stream_reads_on_by_itself() {
        let (mut stream, mut far, wire) = pair().await;
        wire.hold(super::super::wire::WINDOW as usize);
        wire.took(1);
        far.write_all(b"x").await.unwrap();
        let mut buf = [0; 1];
        assert_eq!(stream.read(&mut buf).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_paused_stream_reads_on_when_input_was_taken() {
        let (mut stream, mut far, wire) = pair().await;
        wire.hold(64 << 20);
        far.write_all(b"x").await.unwrap();
        let mut buf = [0; 1];
        let early = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut buf)).await;
        assert!(early.is_err());
        wire.release(64 << 20);
        assert_eq!(stream.read(&mut buf).await.unwrap(), 1);
    }
}
