//! One session channel, from the request that starts it to its close.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::input::Undelivered;
use super::monitor::Monitor;
use super::terminal;
use super::wire::Wire;
use crate::clock;
use crate::messages::{self, Answer, Ask, Open, SessionEvent, abandoned};

/// How long the deciding side may take to say whether a session starts.
const OPEN_ANSWER: Duration = Duration::from_secs(30);

/// What russh is handed at once, whatever packet size a client offers.
const CHUNK: usize = 32 * 1024;

/// What ssh itself exits with when it could not run a command.
const NOT_RUN: u32 = 255;

/// Session channels of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// How many sessions are open.
    pub(super) open: u32,
    /// How many forwarded connections.
    pub(super) tunnelled: u32,
    /// Since when none is.
    pub(super) empty_since: Option<Instant>,
    /// The connection shall end when none is.
    pub(super) worn_out: bool,
}

impl Load {
    pub(super) fn none() -> Self {
        Self {
            open: 0,
            tunnelled: 0,
            empty_since: Some(clock::monotonic()),
            worn_out: false,
        }
    }
}

/// Counts a channel as open until dropped.
#[derive(Debug)]
pub(super) struct Slot {
    load: watch::Sender<Load>,
    counts: fn(&mut Load) -> &mut u32,
}

impl Slot {
    /// As a session.
    pub(super) fn take(load: &watch::Sender<Load>) -> Self {
        Self::counted(load, |load| &mut load.open)
    }

    /// As a forwarded connection.
    pub(super) fn tunnelled(load: &watch::Sender<Load>) -> Self {
        Self::counted(load, |load| &mut load.tunnelled)
    }

    fn counted(load: &watch::Sender<Load>, counts: fn(&mut Load) -> &mut u32) -> Self {
        load.send_modify(|load| {
            *counts(load) += 1;
            load.empty_since = None;
        });
        Self {
            load: load.clone(),
            counts,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.load.send_modify(|load| {
            let count = (self.counts)(load);
            *count = count.saturating_sub(1);
            if load.open == 0 && load.tunnelled == 0 {
                load.empty_since = Some(clock::monotonic());
            }
        });
    }
}

/// A session channel that was asked to run something.
#[derive(Debug)]
pub(super) struct SessionChannel {
    pub(super) id: ChannelId,
    pub(super) handle: Handle,
    pub(super) output: ChannelWriteHalf<Msg>,
    pub(super) wire: Arc<Wire>,
    /// Cancelled when the client closes the channel and when the connection ends; we cancel it when done.
    pub(super) closed: CancellationToken,
    pub(super) slot: Slot,
    /// A forwarded connection has no standard error and no exit status.
    pub(super) is_tunnel: bool,
}

/// russh's loop has ended, or the session was dropped: nothing more can be sent.
struct Over;

impl SessionChannel {
    /// Asks for the session and carries its bytes both ways until one side ends it.
    pub(super) async fn run(self, monitor: Monitor, open: Open, input: Undelivered) {
        let closed = self.closed.clone();
        tokio::select! {
            () = closed.cancelled() => {}
            _over = self.converse(monitor, open, input) => {}
        }
        closed.cancel();
        drop(self.slot);
    }

    async fn converse(&self, monitor: Monitor, open: Open, input: Undelivered) -> Result<(), Over> {
        let (client, session) = messages::link();
        match monitor
            .ask(Ask::Open(open), Some(session), OPEN_ANSWER)
            .await
        {
            Answer::No
            | Answer::Code
            | Answer::SignOn { .. }
            | Answer::Link { .. }
            | Answer::Device { .. }
            | Answer::NotYet
            | Answer::NoBecause(_) => self.refuse().await?,
            Answer::Yes => {
                let deliver = async {
                    input.deliver(&client.to_session).await;
                    std::future::pending().await
                };
                tokio::select! {
                    sent = self.send_all(client.from_session) => sent?,
                    () = deliver => {}
                }
            }
        }
        self.output.close().await.map_err(|_| Over)
    }

    /// The request itself was answered with success: only there is no room for a reason in a failure.
    async fn refuse(&self) -> Result<(), Over> {
        if self.is_tunnel {
            return Ok(());
        }
        let sentence = Bytes::from_static(b"bastion: no session was started\r\n");
        self.output
            .extended_data_bytes(1, sentence)
            .await
            .map_err(|_| Over)?;
        self.end(SessionEvent::Exit(NOT_RUN)).await
    }

    /// Sends what the session says, in its order. A session that drops its end without [`SessionEvent::Exit`]
    /// or [`SessionEvent::Killed`] is over at once, even when its client takes nothing.
    async fn send_all(&self, mut session: mpsc::Receiver<SessionEvent>) -> Result<(), Over> {
        let mut backlog = VecDeque::new();
        loop {
            let event = match backlog.pop_front() {
                Some(event) => event,
                None => match session.recv().await {
                    Some(event) => event,
                    None => return Ok(()),
                },
            };
            match event {
                SessionEvent::Stdout(data) => {
                    self.send(None, data, &mut session, &mut backlog).await?;
                }
                SessionEvent::Stderr(data) => {
                    self.send(Some(1), data, &mut session, &mut backlog).await?;
                }
                end @ (SessionEvent::Exit(_) | SessionEvent::Killed { .. }) => {
                    return self.end(end).await;
                }
            }
        }
    }

    /// Output, how it ended, EOF, close, in that order. By one queue, because russh's own `exit_status_request`
    /// on its session overtakes output. And EOF after the status: a client that has nothing more to say either
    /// closes the channel when it hears it, and russh then sends nothing more on it.
    async fn end(&self, end: SessionEvent) -> Result<(), Over> {
        match end {
            _ if self.is_tunnel => {}
            SessionEvent::Exit(status) => {
                self.output.exit_status(status).await.map_err(|_| Over)?;
            }
            SessionEvent::Killed {
                signal,
                core_dumped,
            } => {
                let signal = terminal::signal(&signal);
                self.handle
                    .exit_signal_request(self.id, signal, core_dumped, String::new(), String::new())
                    .await
                    .map_err(|()| Over)?;
            }
            SessionEvent::Stdout(_) | SessionEvent::Stderr(_) => {}
        }
        self.output.eof().await.map_err(|_| Over)
    }

    async fn send(
        &self,
        stream: Option<u32>,
        mut data: Bytes,
        session: &mut mpsc::Receiver<SessionEvent>,
        backlog: &mut VecDeque<SessionEvent>,
    ) -> Result<(), Over> {
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(CHUNK));
            let mut sending = pin!(self.send_chunk(stream, chunk));
            let sent = tokio::select! {
                biased;
                sent = &mut sending => sent,
                () = abandoned(session, backlog) => Err(Over),
            };
            if sent.is_err() {
                // Gone or given up: what remains is nobody's.
                self.output.close().await.map_err(|_| Over)?;
                return Err(Over);
            }
            self.wire.used_now();
        }
        Ok(())
    }

    async fn send_chunk(&self, stream: Option<u32>, chunk: Bytes) -> Result<(), Over> {
        match stream {
            None => self.output.data_bytes(chunk).await,
            Some(code) => self.output.extended_data_bytes(code, chunk).await,
        }
        .map_err(|_| Over)
    }
}
