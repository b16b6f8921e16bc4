//! What clients of the gateway speak to: TLS, then HTTP/1.1 behind a strict look at its framing, or HTTP/2.

mod framing;
mod guard;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::reading::{Ahead, Whole};
pub use framing::{Framing, Violation};
use guard::{Guard, REFUSED, Word};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a whole head, the wait for its first byte included: longer than Go's clients keep a connection that they do not use.
const HEAD: Duration = Duration::from_secs(120);
/// Of one HTTP/2 connection at once.
const STREAMS: u32 = 250;
/// What one HTTP/2 stream may have under way towards us, and its connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What one answer may have waiting in memory for a slow reader.
const SEND_BUFFER: usize = 256 * 1024;
const PING: Duration = Duration::from_secs(30);

/// How clients are spoken to.
#[derive(Clone)]
pub(super) struct Front(TlsAcceptor);

impl Front {
    pub(super) fn new(certificates: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Nothing of a session outlives it, and nothing is kept for clients that do not come back.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(tls))))
    }

    /// Answers what comes on a connection by `answer` until either side ends it. What was begun on it ends with
    /// `over`.
    pub(super) async fn serve<S, A, F, B>(
        &self,
        stream: S,
        over: CancellationToken,
        tasks: TaskTracker,
        answer: A,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        A: Fn(Result<Request<Incoming>, Violation>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let accepting = self.0.accept(Ahead::new(stream));
        let stream = match tokio::time::timeout(HANDSHAKE, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!("a client of the gateway: {error}"),
            Err(_) => return tracing::debug!("a client of the gateway did not shake hands"),
        };
        let ended = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let service = service_fn(move |request| {
                let answer = answer(Ok(request));
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let mut http = hyper::server::conn::http2::Builder::new(Within { over, tasks });
            http.timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(framing::MAX_HEAD as u32)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .keep_alive_interval(PING);
            http.serve_connection(TokioIo::new(Whole::new(stream)), service)
                .await
        } else {
            let word = Word::default();
            let guard = Guard::new(Whole::new(stream), word.clone());
            let service =
                service_fn(move |request| answer_http1(request, word.clone(), answer.clone()));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            http.serve_connection(TokioIo::new(guard), service)
                .with_upgrades()
                .await
        };
        if let Err(error) = ended {
            tracing::debug!("a client's connection to the gateway: {error}");
        }
    }
}

async fn answer_http1<A, F, B>(
    request: Request<Incoming>,
    word: Word,
    answer: A,
) -> Result<Response<B>, Infallible>
where
    A: Fn(Result<Request<Incoming>, Violation>) -> F,
    F: Future<Output = Response<B>>,
{
    let leaving = request.headers().contains_key(header::UPGRADE);
    let refused = word
        .refused()
        .filter(|_| request.method().as_str() == REFUSED);
    let answered = answer(refused.map_or(Ok(request), Err)).await;
    if leaving {
        word.answered(answered.status() == StatusCode::SWITCHING_PROTOCOLS);
    }
    Ok(answered)
}

/// Runs an HTTP/2 connection's streams for no longer than the session.
#[derive(Clone)]
struct Within {
    over: CancellationToken,
    tasks: TaskTracker,
}

impl<F> hyper::rt::Executor<F> for Within
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            drop(over.run_until_cancelled(stream).await);
        });
    }
}
