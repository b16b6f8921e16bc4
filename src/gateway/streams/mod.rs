//! Exec, attach and port-forward: terminated here, opened anew towards the API server, recorded between.
//!
//! ```text
//! Ask::parse          what the client wants, or a refusal
//! Ask::upstream       our own opening handshake; an answer that is no 101 goes to the client as it is
//! Opening::answered   what the API server agreed to speak
//! PodStream::open     the stream's own recording, before anything is passed on
//! Ask::answer         the 101 to the client
//! PodStream::run      until it is over, sealed, and its outcome on record
//! ```
//!
//! What a client says about itself (`Kubectl-Command`, `User-Agent`, the command's name) decides nothing here.

mod ask;
mod broken;
mod channels;
mod forwards;
mod journal;
mod refused;
mod resize;
mod spdy;
mod status;
mod tape;
mod tar;
#[cfg(test)]
mod tests;
mod wire;

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use ask::{Agreed, Ask, Opening, StreamKind, wants_upgrade};
pub use broken::{Broken, Peer};
pub use refused::Refused;

use crate::gateway::websocket;
use crate::recording::requests::{Child, Outcome, Pod, RequestNumber};
use crate::recording::{Ending, OpenRecording, RecordingError, requests};
use forwards::Forwards;
use journal::Journal;
use spdy::Purpose;

/// What a stream is part of.
#[derive(Clone)]
pub struct StreamParts {
    /// The session's recording.
    pub session: OpenRecording,
    /// The request that opens the stream; its intent is on record.
    pub request: RequestNumber,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// Cancelled when the session ends.
    pub over: CancellationToken,
    /// To where a recording that failed is told: the session ends.
    pub unrecorded: mpsc::Sender<RecordingError>,
}

/// A stream that is about to be carried. Its own recording is open.
pub struct PodStream {
    parts: StreamParts,
    agreed: Agreed,
    tty: bool,
    /// A port-forward has none: its payload is not kept.
    child: Option<OpenRecording>,
    journal: Journal,
}

/// What was carried.
struct Carried {
    bytes_in: u64,
    bytes_out: u64,
    ending: Ending,
    result: Result<(), Broken>,
}

impl PodStream {
    /// Opens the stream's own recording. If that fails, the stream must not be.
    pub async fn open(
        parts: StreamParts,
        ask: &Ask,
        agreed: Agreed,
    ) -> Result<Self, RecordingError> {
        let stream = match ask.kind {
            StreamKind::Exec => Some(requests::PodStream::PodExec),
            StreamKind::Attach => Some(requests::PodStream::PodAttach),
            StreamKind::PortForward => None,
        };
        let child = match stream {
            None => None,
            Some(stream) => {
                let child = Child {
                    request: parts.request,
                    stream,
                    pod: Pod {
                        namespace: parts.namespace.clone(),
                        name: parts.pod.clone(),
                        container: ask.container.clone(),
                        command: ask.command.clone(),
                    },
                    tty: ask.tty,
                    size: None,
                };
                match parts.session.child(child).await {
                    Ok(child) => Some(child),
                    Err(error) => {
                        let told = RecordingError::Failed {
                            first: error.to_string(),
                        };
                        drop(parts.unrecorded.try_send(told));
                        return Err(error);
                    }
                }
            }
        };
        Ok(Self {
            journal: Journal::new(parts.session.clone(), parts.request),
            agreed,
            // What an attach says of itself is no reason not to look.
            tty: ask.tty && ask.kind == StreamKind::Exec,
            child,
            parts,
        })
    }

    /// Carries the stream until either side ends it or the session is over, seals its recording, and records the
    /// request's outcome; then closes both sides, so that a client that sees the end finds it on record.
    ///
    /// `client` and `upstream` resolve once HTTP has let go of the connections.
    pub async fn run<D, U, E>(
        self,
        client: impl Future<Output = Result<D, E>> + Send,
        upstream: impl Future<Output = Result<U, E>> + Send,
    ) where
        D: AsyncRead + AsyncWrite + Unpin + Send,
        U: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let over = self.parts.over.clone();
        let upgraded = async { tokio::join!(client, upstream) };
        let upgraded = tokio::select! {
            () = over.cancelled() => Err(Broken::SessionOver),
            (client, upstream) = upgraded => match (client, upstream) {
                (Ok(client), Ok(upstream)) => Ok((client, upstream)),
                (Err(_), _) => Err(Broken::Gone(Peer::Client)),
                (_, Err(_)) => Err(Broken::Gone(Peer::Upstream)),
            },
        };
        match upgraded {
            Ok((client, upstream)) => self.carry(client, upstream).await,
            Err(broken) => {
                let ending = cut(&broken);
                self.settle(Carried {
                    bytes_in: 0,
                    bytes_out: 0,
                    ending,
                    result: Err(broken),
                })
                .await;
            }
        }
    }

    async fn carry<D, U>(self, client: D, upstream: U)
    where
        D: AsyncRead + AsyncWrite + Unpin + Send,
        U: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let over = self.parts.over.clone();
        match (self.agreed, &self.child) {
            (Agreed::Channels(protocol), Some(child)) => {
                let (mut input, mut output) = tape::tape(child, &self.journal, self.tty);
                let carried = until(
                    &over,
                    channels::carry(protocol, client, upstream, &mut input, &mut output),
                )
                .await;
                let (ended, result) = match carried {
                    Some((ended, result)) => (Some(ended), result),
                    None => (None, Err(Broken::SessionOver)),
                };
                self.settle(taped(input, output, result).await).await;
                if let Some(ended) = ended {
                    until(&over, ended.close()).await;
                }
            }
            (Agreed::SpdyChannels, Some(child)) => {
                let (mut input, mut output) = tape::tape(child, &self.journal, self.tty);
                let (mut client, mut upstream) = (wire::raw(client), wire::raw(upstream));
                let purpose = Purpose::Channels {
                    input: &mut input,
                    output: &mut output,
                };
                let result = until(&over, spdy::carry(&mut client, &mut upstream, purpose)).await;
                let result = result.unwrap_or(Err(Broken::SessionOver));
                self.settle(taped(input, output, result).await).await;
                until(&over, spdy::close(&mut client.1, &mut upstream.1)).await;
            }
            (Agreed::SpdyPortForward, _) => {
                let wires = (wire::raw(client), wire::raw(upstream));
                self.forward(wires.0, wires.1).await;
            }
            (Agreed::Tunnel, _) => {
                let client = wire::messages(websocket::server(client).await);
                let upstream = wire::messages(websocket::client(upstream).await);
                self.forward(client, upstream).await;
            }
            // Channels always have a recording; if ever they had none, nothing is passed on.
            (Agreed::Channels(_) | Agreed::SpdyChannels, None) => {}
        }
    }

    async fn forward<D, U>(
        self,
        mut client: (wire::Source<D>, wire::Drain<D>),
        mut upstream: (wire::Source<U>, wire::Drain<U>),
    ) where
        D: AsyncRead + AsyncWrite + Unpin + Send,
        U: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let over = self.parts.over.clone();
        let forwards = Mutex::new(Forwards::default());
        let purpose = Purpose::Forwards {
            forwards: &forwards,
            journal: &self.journal,
        };
        let result = until(&over, spdy::carry(&mut client, &mut upstream, purpose)).await;
        let mut result = match result.unwrap_or(Err(Broken::SessionOver)) {
            // How every port-forward ends: somebody presses ^C.
            Err(Broken::Gone(Peer::Client)) => Ok(()),
            result => result,
        };
        let mut forwards = forwards
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        for forwarded in forwards.rest() {
            if let Err(broken) = self.journal.forwarded(forwarded).await {
                result = result.and(Err(broken));
            }
        }
        self.settle(Carried {
            bytes_in: forwards.bytes_in,
            bytes_out: forwards.bytes_out,
            ending: Ending::Exit(0),
            result,
        })
        .await;
        until(&over, spdy::close(&mut client.1, &mut upstream.1)).await;
    }

    /// Seals the stream's recording and records the outcome of its request.
    async fn settle(&self, carried: Carried) {
        let kept = self.journal.rest();
        let mut error = match (&carried.result, &carried.ending) {
            (Err(broken), _) => Some(broken.to_string()),
            (Ok(()), Ending::Cut { reason }) => Some(reason.clone()),
            (Ok(()), Ending::Exit(_) | Ending::Signal(_)) => None,
        };
        if kept.tar_lost && error.is_none() {
            error = Some("a tar stream in it was not understood to its end".to_owned());
        }
        let mut failed = match carried.result {
            Err(Broken::Unrecorded(error)) => Some(error),
            _ => None,
        };
        let mut children = Vec::new();
        if let Some(child) = &self.child {
            children.push(child.id());
            if let Err(error) = child.seal(carried.ending).await {
                failed = failed.or(Some(error));
            }
        }
        let outcome = Outcome {
            status: Some(http::StatusCode::SWITCHING_PROTOCOLS.as_u16()),
            bytes_in: carried.bytes_in,
            bytes_out: carried.bytes_out,
            error,
            children,
            files: kept.files,
            forwards: kept.forwards,
            ..Outcome::default()
        };
        let recorded = self
            .parts
            .session
            .outcome(self.parts.request, outcome)
            .await;
        if let Some(error) = failed.or(recorded.err()) {
            // A session that ends already may have no place for it, and need not be told.
            drop(self.parts.unrecorded.try_send(error));
        }
    }
}

/// What came of an exec or attach. The API server's word on how it ended counts, whoever hung up first.
async fn taped(
    mut input: tape::InputTape,
    mut output: tape::OutputTape,
    result: Result<(), Broken>,
) -> Carried {
    let result = match result {
        Ok(()) => input.finish().await.and(output.finish().await),
        Err(broken) => {
            // What was half copied is on record all the same; the first failure is the one that counts.
            drop(input.finish().await);
            drop(output.finish().await);
            Err(broken)
        }
    };
    let (result, ending) = match (result, output.ending()) {
        (Ok(()) | Err(Broken::Gone(_)), Some(ending)) => (Ok(()), ending),
        (Ok(()), None) => {
            let reason = "the API server ended the stream without a status".to_owned();
            (Ok(()), Ending::Cut { reason })
        }
        (Err(broken), _) => {
            let ending = cut(&broken);
            (Err(broken), ending)
        }
    };
    Carried {
        bytes_in: input.bytes,
        bytes_out: output.bytes,
        ending,
        result,
    }
}

fn cut(broken: &Broken) -> Ending {
    Ending::Cut {
        reason: broken.to_string(),
    }
}

/// Nothing if the session is over first; then `future` is dropped at once, and what it held is closed.
async fn until<F: Future>(over: &CancellationToken, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        () = over.cancelled() => None,
        output = future => Some(output),
    }
}
