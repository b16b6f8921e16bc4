//! The client's bytes on their way to the HTTP library, looked through by [`Framing`].

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::{Framing, Violation};

/// What is read at once while it has to be looked through.
const READ: usize = 16 * 1024;
/// A refused client may still be sending. What it sends is taken for so long, and so much of it, before it is
/// answered: a connection that is closed on unread bytes takes the answer with it.
const LINGER: Duration = Duration::from_millis(200);
const LINGER_BYTES: usize = 4 << 20;
/// A request that stands for one that was refused. Clients may send its like: it means nothing without
/// [`Word::refused`].
const STAND_IN: &[u8] = b"REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// The method of the request that stands for a refused one.
pub(super) const REFUSED: &str = "REFUSED";

/// What the two ends of a connection tell each other beside its bytes. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Word(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// Why the connection's last request was refused.
    refused: Option<Violation>,
    /// Whether the answer to a request that would leave HTTP was to leave it.
    leaves: Option<bool>,
    waiting: Option<Waker>,
}

impl Word {
    /// Why the connection's last request was refused, if it was.
    pub(super) fn refused(&self) -> Option<Violation> {
        self.said().refused
    }

    /// A request with an `Upgrade` is about to be answered.
    pub(super) fn answered(&self, leaves: bool) {
        let mut said = self.said();
        said.leaves = Some(leaves);
        if let Some(waker) = said.waiting.take() {
            waker.wake();
        }
    }

    /// The answer, once; or `cx` is woken when there is one.
    fn answer(&self, cx: &Context<'_>) -> Option<bool> {
        let mut said = self.said();
        let answer = said.leaves.take();
        if answer.is_none() {
            said.waiting = Some(cx.waker().clone());
        }
        answer
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of which only what [`Framing`] approves is read.
#[derive(Debug)]
pub(super) struct Guard<S> {
    inner: S,
    framing: Framing,
    input: BytesMut,
    approved: BytesMut,
    word: Word,
    /// Something of `input` was not looked at yet.
    fresh: bool,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S, word: Word) -> Self {
        Self {
            inner,
            framing: Framing::default(),
            input: BytesMut::new(),
            approved: BytesMut::new(),
            word,
            fresh: false,
            lingering: None,
        }
    }

    fn look(&mut self) {
        if let Err(violation) = self.framing.approve(&mut self.input, &mut self.approved) {
            self.input = BytesMut::new();
            self.word.said().refused = Some(violation);
            self.lingering = Some((Box::pin(tokio::time::sleep(LINGER)), LINGER_BYTES));
        }
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Takes what a refused client still sends, for a moment.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((until, left)) = &mut self.lingering else {
            return Poll::Ready(());
        };
        let mut waste = [0; 4096];
        while *left > 0 && until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        self.lingering = None;
        // In the middle of a body there is no request to stand in for: its body fails, which says it all.
        if self.framing.in_head() {
            self.approved.extend_from_slice(STAND_IN);
        }
        Poll::Ready(())
    }

    /// A connection on which nothing happens, as on most that watch, holds no buffers.
    fn rest(&mut self) {
        for buffer in [&mut self.input, &mut self.approved] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(READ);
        let inner = Pin::new(&mut self.inner);
        tokio_util::io::poll_read_buf(inner, cx, &mut self.input)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_linger(cx));
            if this.approved.has_remaining() {
                let take = this.approved.len().min(buffer.remaining());
                buffer.put_slice(&this.approved.split_to(take));
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = this.word.refused() {
                if this.framing.in_head() {
                    // An error here would have the library drop the answer to the stand-in.
                    return Poll::Pending;
                }
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
            }
            if this.framing.waits()
                && let Some(leaves) = this.word.answer(cx)
            {
                this.framing.answered(leaves);
                this.fresh = true;
            }
            if this.framing.waits() && !this.input.is_empty() {
                // Nobody knows what these bytes are before the answer. No more are taken until then.
                return Poll::Pending;
            }
            if this.input.is_empty() && this.framing.free() > 0 {
                return this.poll_free(cx, buffer);
            }
            if this.fresh {
                this.fresh = false;
                this.look();
                continue;
            }
            // While an answer is waited for as well: that the client is gone is worth knowing.
            match this.poll_more(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => this.fresh = true,
                Poll::Pending => {
                    this.rest();
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// A body's bytes go where they are wanted without a stop.
    fn poll_free(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let free = usize::try_from(self.framing.free()).unwrap_or(usize::MAX);
        let room = buffer.remaining().min(free);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.framing.passed(read as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
