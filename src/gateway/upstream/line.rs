//! A connection to an API server, for one request at a time. It moves on only when whoever uses it polls it: no task of
//! its own stands between the two sides of a request, to be woken for each piece of an answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};

use super::connector::Connected;
use crate::gateway::answer::RequestBody;

/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// What is read of an answer at once.
const READ: usize = 128 * 1024;

/// What comes back where a request was not sent, with the request.
pub(super) type Unanswered = TrySendError<Request<RequestBody>>;

/// A connection.
pub(super) struct Line {
    sender: SendRequest<RequestBody>,
    /// HTTP's side of it; none after its end.
    driving: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
}

impl Line {
    pub(super) async fn new(connected: Connected) -> hyper::Result<Self> {
        let (sender, connection) = Builder::new()
            .max_header_size(MAX_HEAD)
            .max_buf_size(READ)
            .handshake(connected)
            .await?;
        Ok(Self {
            sender,
            driving: Some(Box::pin(connection.with_upgrades())),
        })
    }

    /// Asks, and answers with the head of the answer. Its body comes while the line is [driven](Self::drive).
    pub(super) async fn ask(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut asking = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            drive(&mut self.driving, cx);
            asking.as_mut().poll(cx)
        })
        .await
    }

    /// Moves it on as far as it goes now. What ends it is told to the request that is under way.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driving, cx);
    }

    /// Whether nothing is under way on it, and it has not ended.
    pub(super) fn rests(&mut self) -> bool {
        // Nobody is woken by a line that rests: it is looked at when it is wanted.
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driving.is_some() && self.sender.is_ready()
    }

    /// Leaves it to itself: it stops being HTTP's.
    pub(super) fn leave(self) {
        if let Some(driving) = self.driving {
            tokio::spawn(async move {
                if let Err(error) = driving.await {
                    tracing::debug!("a connection that was to leave HTTP: {error}");
                }
            });
        }
    }
}

fn drive(
    driving: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    cx: &mut Context<'_>,
) {
    if let Some(connection) = driving
        && let Poll::Ready(ended) = connection.as_mut().poll(cx)
    {
        if let Err(error) = ended {
            tracing::debug!("a connection to an API server: {error}");
        }
        *driving = None;
    }
}
