//! The bodies that pass through: counted, and tied to what is on record of their request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, SizeHint};

use super::exchange::Exchange;
use super::upstream::Arriving;

/// A request's body on its way to the API server.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BodyError>;
/// An answer's body on its way to the client.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    #[error("it could not be recorded")]
    Unrecorded,
}

/// A body that is there in full.
pub(super) fn whole(bytes: Bytes) -> UnsyncBoxBody<Bytes, BodyError> {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// An answer that goes on while it is counted. Its end, whatever it is, is the request's.
pub(super) struct Answering {
    inner: Arriving,
    exchange: Exchange,
}

impl Answering {
    pub(super) fn new(inner: Arriving, exchange: Exchange) -> Self {
        let mut this = Self { inner, exchange };
        if this.inner.is_end_stream() {
            this.exchange.ended(Ok(()));
        }
        this
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.exchange.passed_out(data.len());
                }
                if this.inner.is_end_stream() {
                    this.exchange.ended(Ok(()));
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                this.exchange
                    .ended(Err(format!("the API server's answer broke off: {error}")));
                Some(Err(error.into()))
            }
            None => {
                this.exchange.ended(Ok(()));
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
