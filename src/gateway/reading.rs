//! How much is read at once, below TLS and above it.
//!
//! The TLS library asks the kernel for 4 KiB at a time and hands out one record, 16 KiB at most, whatever it is asked
//! for. A long answer then takes five calls of the kernel, and one crossing from the API server's side of a request to
//! the client's, for each record: more than its encryption costs.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What is read ahead while there is so much: a socket's buffer holds about twice that.
const AHEAD: usize = 64 * 1024;
/// Whoever sends less at a time is read as it is asked for.
const FLOOD: usize = 4 * 1024;

/// Below TLS: reads more than it is asked for, once what it was asked for came in full. Holds no buffer while it waits.
#[derive(Debug)]
pub(super) struct Ahead<S> {
    inner: S,
    read: BytesMut,
    flood: bool,
}

impl<S> Ahead<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            read: BytesMut::new(),
            flood: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let asked = buffer.remaining();
        if this.read.is_empty() {
            if !this.flood || asked >= AHEAD {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
                let read = buffer.filled().len().saturating_sub(before);
                this.flood = read == asked && read >= FLOOD;
                return Poll::Ready(Ok(()));
            }
            this.read.clear();
            this.read.reserve(AHEAD);
            match poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.read) {
                Poll::Ready(read) => this.flood = read? >= FLOOD,
                Poll::Pending => {
                    this.read = BytesMut::new();
                    this.flood = false;
                    return Poll::Pending;
                }
            }
        }
        let take = this.read.len().min(asked);
        buffer.put_slice(this.read.get(..take).unwrap_or_default());
        this.read.advance(take);
        if this.read.is_empty() && !this.flood {
            this.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Above TLS: answers a read with everything that has come and that there is room for, not with the first record of it.
#[derive(Debug)]
pub(super) struct Whole<S> {
    inner: S,
    /// What came after the last bytes that were handed out.
    error: Option<io::Error>,
}

impl<S> Whole<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, error: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Whole<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(error) = this.error.take() {
            return Poll::Ready(Err(error));
        }
        let mut read = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        // Nothing more is an end, which comes again at the next read.
        while buffer.filled().len() > read && buffer.remaining() > 0 {
            read = buffer.filled().len();
            if let Poll::Ready(Err(error)) = Pin::new(&mut this.inner).poll_read(cx, buffer) {
                this.error = Some(error);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Writing, and what is known of a connection, go through as they are.
macro_rules! through {
    ($adaptor:ident) => {
        impl<S: AsyncWrite + Unpin> AsyncWrite for $adaptor<S> {
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

        impl<S: Connection> Connection for $adaptor<S> {
            fn connected(&self) -> Connected {
                self.inner.connected()
            }
        }
    };
}

through!(Ahead);
through!(Whole);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers reads with pieces of these sizes, however much is asked for, and counts them.
    struct Pieces {
        sizes: Vec<usize>,
        next: u8,
        reads: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            this.reads += 1;
            let Some(size) = this.sizes.first_mut() else {
                return Poll::Ready(Ok(()));
            };
            if *size == FAILS {
                this.sizes.remove(0);
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if *size == 0 {
                this.sizes.remove(0);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let take = buffer.remaining().min(*size);
            for _ in 0..take {
                buffer.put_slice(&[this.next]);
                this.next = this.next.wrapping_add(1);
            }
            *size -= take;
            if *size == 0 {
                this.sizes.remove(0);
            }
            Poll::Ready(Ok(()))
        }
    }

    const FAILS: usize = usize::MAX;

    fn pieces(sizes: &[usize]) -> Pieces {
        Pieces {
            sizes: sizes.to_vec(),
            next: 0,
            reads: 0,
        }
    }

    fn expected(length: usize) -> Vec<u8> {
        (0..length).map(|number| number as u8).collect()
    }

    #[tokio::test]
    async fn a_flood_is_read_ahead_and_a_trickle_is_not() {
        let sizes = [10, 0, 20, 0, 1_000_000, 0, 5, 0, 4096, 100, 0, 7];
        let mut ahead = Ahead::new(pieces(&sizes));
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match ahead.read(&mut piece).await.unwrap() {
                0 => break,
                read => all.extend_from_slice(&piece[..read]),
            }
            if all.len() == 30 {
                assert_eq!(ahead.read.capacity(), 0, "a trickle has no buffer");
            }
        }
        assert!(all == expected(sizes.iter().sum()));
        let reads = ahead.inner.reads;
        assert!(reads < 40, "{reads} reads of a million bytes");
        assert_eq!(ahead.read.capacity(), 0, "nor has the end");
    }

    #[tokio::test]
    async fn what_waits_holds_no_buffer() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut ahead = Ahead::new(near);
        far.write_all(&expected(300_000)).await.unwrap();
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while all.len() < 300_000 {
            let read = ahead.read(&mut piece).await.unwrap();
            all.extend_from_slice(&piece[..read]);
        }
        assert!(all == expected(300_000));
        let waiting = std::future::poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut piece);
            Poll::Ready(Pin::new(&mut ahead).poll_read(cx, &mut buffer).is_pending())
        });
        assert!(waiting.await);
        assert_eq!(ahead.read.capacity(), 0);
    }

    #[tokio::test]
    async fn all_that_has_come_is_one_read() {
        let sizes = [16_384, 16_384, 100, 0, 5];
        let mut whole = Whole::new(pieces(&sizes));
        let mut room = vec![0; 100_000];
        assert_eq!(whole.read(&mut room).await.unwrap(), 32_868);
        assert!(room[..32_868] == expected(32_868));
        assert_eq!(whole.read(&mut room).await.unwrap(), 5);
        assert_eq!(whole.read(&mut room).await.unwrap(), 0);
        // There may be less room than bytes.
        let mut whole = Whole::new(pieces(&sizes));
        let mut all = Vec::new();
        let mut little = [0; 1000];
        loop {
            match whole.read(&mut little).await.unwrap() {
                0 => break,
                read => all.extend_from_slice(&little[..read]),
            }
        }
        assert!(all == expected(sizes.iter().sum()));
    }

    #[tokio::test]
    async fn an_error_comes_after_what_came_before_it() {
        let mut whole = Whole::new(pieces(&[10, FAILS]));
        let mut room = [0; 100];
        assert_eq!(whole.read(&mut room).await.unwrap(), 10);
        let error = whole.read(&mut room).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(whole.read(&mut room).await.unwrap(), 0);
    }
}
