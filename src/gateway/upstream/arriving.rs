//! The body of an API server's answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::idle::Idle;
use super::line::Line;

/// A body that comes as it is polled. At its end its connection is free for the next request; whoever drops it before
/// closes the connection.
pub(in crate::gateway) struct Arriving {
    body: Incoming,
    line: Option<Line>,
    idle: Arc<Idle>,
    /// What broke it off, to be told at the next poll.
    broken: Option<hyper::Error>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, line: Option<Line>, idle: Arc<Idle>) -> Self {
        let mut this = Self {
            body,
            line,
            idle,
            broken: None,
        };
        this.note_end();
        this
    }

    fn note_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(line) = self.line.take()
        {
            self.idle.keep(line);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_pending()
            && let Some(line) = &mut this.line
        {
            line.drive(cx);
            frame = Pin::new(&mut this.body).poll_frame(cx);
        }
        match frame {
            Poll::Ready(Some(Ok(_))) => this.note_end(),
            Poll::Ready(None) => {
                if let Some(line) = this.line.take() {
                    this.idle.keep(line);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                this.line = None;
                // The client gets what came before: it is written when there is nothing more for a moment, and an
                // error would throw it away.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
