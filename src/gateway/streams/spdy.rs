//! Exec, attach and port-forward over SPDY: every frame is decoded, judged, recorded, and encoded anew. Streams keep
//! their numbers; header blocks, pings and everything else are each leg's own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{self, WeakSender};
use tokio::time::{timeout, timeout_at};

use super::broken::{Broken, Peer};
use super::channels::CLOSING;
use super::forwards::Forwards;
use super::journal::Journal;
use super::tape::{InputTape, OutputTape};
use super::wire::{Drain, Source};
use crate::clock;
use crate::gateway::spdy::{
    Data, Decoder, Encoder, Frame, Headers, Ledger, Sender, StreamId, Verdict, rst,
};
use crate::gateway::websocket::Channel;
use crate::recording::HELD;
use crate::recording::requests::Forwarded;

/// How many batches of frames may wait for a side that reads slowly.
const WAITING: usize = 2;

/// After how long without a word a client is asked whether it is there.
const QUIET: Duration = Duration::from_secs(30);

/// The number of our own pings to a client, whose server we are.
const PING: u32 = 2;

type Batches = mpsc::Sender<Vec<Frame>>;

/// What the streams of a connection are for.
pub(super) enum Purpose<'a> {
    /// An exec's or attach's channels.
    Channels {
        input: &'a mut InputTape,
        output: &'a mut OutputTape,
    },
    /// A port-forward's connections.
    Forwards {
        forwards: &'a Mutex<Forwards>,
        journal: &'a Journal,
    },
}

/// One direction's part in it.
enum Recorder<'a> {
    Input(&'a mut InputTape),
    Output(&'a mut OutputTape),
    Forwards {
        forwards: &'a Mutex<Forwards>,
        journal: &'a Journal,
    },
}

/// Carries frames between both sides until the API server ends the connection, or it breaks.
pub(super) async fn carry<D, U>(
    client: &mut (Source<D>, Drain<D>),
    upstream: &mut (Source<U>, Drain<U>),
    purpose: Purpose<'_>,
) -> Result<(), Broken>
where
    D: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    let shared = Mutex::new(Shared::default());
    let (for_input, for_output) = match purpose {
        Purpose::Channels { input, output } => (Recorder::Input(input), Recorder::Output(output)),
        Purpose::Forwards { forwards, journal } => (
            Recorder::Forwards { forwards, journal },
            Recorder::Forwards { forwards, journal },
        ),
    };
    let (to_upstream, for_upstream) = mpsc::channel(WAITING);
    let (to_client, for_client) = mpsc::channel(WAITING);
    let inward = Direction {
        from: Peer::Client,
        shared: &shared,
        recorder: for_input,
        back: to_client.downgrade(),
    };
    let outward = Direction {
        from: Peer::Upstream,
        shared: &shared,
        recorder: for_output,
        back: to_upstream.downgrade(),
    };

    let inward = async {
        let (read, written) = tokio::join!(
            inward.read(&mut client.0, to_upstream),
            write(&mut upstream.1, for_upstream, Peer::Upstream),
        );
        match written.and(read) {
            // An end that only its reader hears of in full: there may be output on its way.
            Err(Broken::Gone(Peer::Upstream)) => std::future::pending().await,
            Err(broken) => broken,
            Ok(()) => Broken::Gone(Peer::Client),
        }
    };
    let outward = async {
        let (read, written) = tokio::join!(
            outward.read(&mut upstream.0, to_client),
            write(&mut client.1, for_client, Peer::Client),
        );
        match (read, written) {
            (Err(broken @ Broken::Unrecorded(_)), _) | (_, Err(broken)) | (Err(broken), _) => {
                Err(broken)
            }
            (Ok(()), Ok(())) => Ok(()),
        }
    };
    tokio::select! {
        biased;
        over = outward => over,
        broken = inward => Err(broken),
    }
}

/// Says to both sides that nothing more comes, and waits for neither longer than [`CLOSING`].
pub(super) async fn close<D, U>(client: &mut Drain<D>, upstream: &mut Drain<U>)
where
    D: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send,
{
    let both = async { tokio::join!(client.close(), upstream.close()) };
    drop(timeout(CLOSING, both).await);
}

/// What both directions know.
#[derive(Default)]
struct Shared {
    ledger: Ledger,
    channels: HashMap<StreamId, Channel>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be recorded of a batch, in its order.
enum Run {
    Data(Channel, Vec<Bytes>),
    End(Channel),
    Forwarded(Forwarded),
}

struct Direction<'a> {
    from: Peer,
    shared: &'a Mutex<Shared>,
    recorder: Recorder<'a>,
    /// To where the frames come from. Weak: it is the other direction that says when that is over.
    back: WeakSender<Vec<Frame>>,
}

impl Direction<'_> {
    async fn read<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        source: &mut Source<S>,
        to: Batches,
    ) -> Result<(), Broken> {
        let mut decoder = Decoder::default();
        let mut scratch = Vec::new();
        let other = match self.from {
            Peer::Client => Peer::Upstream,
            Peer::Upstream => Peer::Client,
        };
        let mut pass = Vec::new();
        // Until when frames wait whose end is not on record yet.
        let mut until = None;
        loop {
            let reading = source.read(decoder.buffer());
            let read = match until {
                None => Some(reading.await),
                Some(until) => timeout_at(until, reading).await.ok(),
            };
            let mut runs = Vec::new();
            while let Some(frame) = self.decode(&mut decoder)? {
                pass.extend(self.judge(frame, &mut runs)?);
            }
            for run in &runs {
                self.record(run, &mut scratch).await?;
            }
            if self.is_holding() && matches!(read, Some(Ok(true))) {
                until.get_or_insert_with(|| clock::monotonic() + HELD);
                continue;
            }
            until = None;
            self.settle().await?;
            if !pass.is_empty() && to.send(std::mem::take(&mut pass)).await.is_err() {
                return Err(Broken::Gone(other));
            }
            match read {
                None | Some(Ok(true)) => {}
                Some(Ok(false)) if decoder.at_rest() => return Ok(()),
                Some(Ok(false) | Err(_)) => return Err(Broken::Gone(self.from)),
            }
        }
    }

    fn is_holding(&self) -> bool {
        matches!(&self.recorder, Recorder::Output(tape) if tape.is_holding())
    }

    async fn settle(&mut self) -> Result<(), Broken> {
        match &mut self.recorder {
            Recorder::Output(tape) => tape.settle().await,
            Recorder::Input(_) | Recorder::Forwards { .. } => Ok(()),
        }
    }

    fn decode(&self, decoder: &mut Decoder) -> Result<Option<Frame>, Broken> {
        decoder.next().map_err(|error| Broken::Spdy {
            from: self.from,
            error,
        })
    }

    /// What is passed on of a frame, if anything; and what is to be recorded before.
    fn judge(&mut self, frame: Frame, runs: &mut Vec<Run>) -> Result<Option<Frame>, Broken> {
        let from = self.from;
        let sender = match from {
            Peer::Client => Sender::Client,
            Peer::Upstream => Sender::Server,
        };
        let verdict = lock(self.shared)
            .ledger
            .judge(sender, &frame)
            .map_err(|error| Broken::Spdy { from, error })?;
        let ended = match verdict {
            Verdict::Pass { ended } => ended,
            Verdict::Late => return Ok(None),
        };
        let (stream, passed) = match frame {
            Frame::SynStream { stream, .. } if from == Peer::Upstream => {
                // No server of Kubernetes opens streams.
                lock(self.shared).ledger.end(stream);
                self.answer(Frame::RstStream {
                    stream,
                    status: rst::REFUSED_STREAM,
                });
                return Ok(None);
            }
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                let headers = self.opened(stream, &headers)?;
                if fin {
                    self.fin(stream, runs);
                }
                let passed = Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    headers,
                };
                (stream, passed)
            }
            Frame::SynReply { stream, fin, .. } => {
                // Kubernetes' replies have no headers.
                let headers = Headers::default();
                let passed = Frame::SynReply {
                    stream,
                    fin,
                    headers,
                };
                (stream, passed)
            }
            Frame::Headers { .. } => return Err(Broken::Headers { from }),
            Frame::Data(data) => {
                let stream = data.stream;
                self.data(&data, runs)?;
                if data.fin {
                    self.fin(stream, runs);
                }
                (stream, Frame::Data(data))
            }
            Frame::RstStream { stream, status } => {
                self.fin(stream, runs);
                (stream, Frame::RstStream { stream, status })
            }
            Frame::Ping(id) => {
                // Who is asked answers. Numbers of the other parity are answers to us.
                if (id % 2 == 1) == (from == Peer::Client) {
                    self.answer(Frame::Ping(id));
                }
                return Ok(None);
            }
            passed @ (Frame::Settings { .. }
            | Frame::GoAway { .. }
            | Frame::WindowUpdate { .. }) => {
                return Ok(Some(passed));
            }
        };
        if ended {
            self.ended(stream, runs);
        }
        Ok(Some(passed))
    }

    fn opened(&mut self, stream: StreamId, headers: &Headers) -> Result<Headers, Broken> {
        let unknown = Broken::UnknownStream { from: self.from };
        if let Recorder::Forwards { forwards, .. } = &self.recorder {
            return lock(forwards).opened(stream, headers);
        }
        let kind = headers
            .get("streamtype")
            .and_then(|name| std::str::from_utf8(name).ok());
        let Some(channel) = kind.and_then(Channel::named) else {
            return Err(unknown);
        };
        let channels = &mut lock(self.shared).channels;
        if channels.values().any(|known| *known == channel) {
            return Err(unknown);
        }
        channels.insert(stream, channel);
        let name = Bytes::from_static(channel.as_str().as_bytes());
        Ok(Headers::new([("streamtype".to_owned(), name)]))
    }

    fn data(&mut self, data: &Data, runs: &mut Vec<Run>) -> Result<(), Broken> {
        if let Recorder::Forwards { forwards, .. } = &self.recorder {
            return lock(forwards).data(self.from, data.stream, &data.bytes);
        }
        let Some(channel) = self.channel(data.stream) else {
            return Ok(());
        };
        match runs.last_mut() {
            Some(Run::Data(last, parts)) if *last == channel => parts.push(data.bytes.clone()),
            _ => runs.push(Run::Data(channel, vec![data.bytes.clone()])),
        }
        Ok(())
    }

    fn fin(&self, stream: StreamId, runs: &mut Vec<Run>) {
        if self.from == Peer::Client
            && let Some(channel) = self.channel(stream)
        {
            runs.push(Run::End(channel));
        }
    }

    fn ended(&mut self, stream: StreamId, runs: &mut Vec<Run>) {
        if let Recorder::Forwards { forwards, .. } = &self.recorder {
            runs.extend(lock(forwards).ended(stream).map(Run::Forwarded));
        }
    }

    fn channel(&self, stream: StreamId) -> Option<Channel> {
        lock(self.shared).channels.get(&stream).copied()
    }

    /// Says something to where frames come from. A side that reads so slowly that there is no room can wait for an
    /// answer: that must not hold up what it sends.
    fn answer(&self, frame: Frame) {
        if let Some(back) = self.back.upgrade() {
            drop(back.try_send(vec![frame]));
        }
    }

    async fn record(&mut self, run: &Run, scratch: &mut Vec<u8>) -> Result<(), Broken> {
        match (run, &mut self.recorder) {
            (Run::Data(channel, parts), Recorder::Input(tape)) => {
                tape.record(*channel, joined(parts, scratch)).await
            }
            (Run::Data(channel, parts), Recorder::Output(tape)) => {
                tape.record(*channel, joined(parts, scratch)).await
            }
            (Run::End(channel), Recorder::Input(tape)) => tape.end(*channel).await,
            (Run::Forwarded(forwarded), Recorder::Forwards { journal, .. }) => {
                journal.forwarded(forwarded.clone()).await
            }
            _ => Ok(()),
        }
    }
}

/// One piece of several, so that they are recorded at once.
pub(super) fn joined<'a>(parts: &'a [Bytes], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if let [only] = parts {
        return only;
    }
    scratch.clear();
    for part in parts {
        scratch.extend_from_slice(part);
    }
    scratch
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    drain: &mut Drain<S>,
    mut waiting: mpsc::Receiver<Vec<Frame>>,
    peer: Peer,
) -> Result<(), Broken> {
    let mut encoder = Encoder::default();
    let mut bytes = BytesMut::new();
    loop {
        let frames = match timeout(QUIET, waiting.recv()).await {
            Ok(Some(frames)) => frames,
            Ok(None) => return Ok(()),
            // Only writing shows that a client has gone that is not read, because the pod does not read.
            Err(_) if peer == Peer::Client => vec![Frame::Ping(PING)],
            Err(_) => continue,
        };
        for frame in &frames {
            encoder
                .encode(frame, &mut bytes)
                .map_err(|error| Broken::Spdy { from: peer, error })?;
        }
        drain
            .write(&mut bytes)
            .await
            .map_err(|_| Broken::Gone(peer))?;
    }
}
