//! The session channels of one connection: how many there may be, and what each was asked for.

use std::collections::HashMap;
use std::sync::Arc;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelWriteHalf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::input::{self, Input};
use super::monitor::Monitor;
use super::session::{Load, SessionChannel, Slot};
use super::wire::Wire;
use crate::messages::{ClientEvent, Command, Destination, Open, Terminal, WindowSize};

/// Session channels opened on one connection in its life. russh 0.65 keeps some 3 KiB for each channel that the
/// server closes first, until the connection ends; a control connection that lives for days must not.
const OPENED: u32 = 4096;

/// Forwarded connections of one SSH connection at once. Programs keep some open that they do not use.
const TUNNELLED: u32 = 128;

/// What a connection's channels share with its other tasks.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) monitor: Monitor,
    pub(super) wire: Arc<Wire>,
    pub(super) cut: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) load: watch::Sender<Load>,
    pub(super) shutdown: CancellationToken,
    pub(super) max_sessions: u32,
}

/// One connection's session channels.
pub(super) struct Channels {
    shared: Shared,
    opened: u32,
    channels: HashMap<ChannelId, SessionState>,
}

struct SessionState {
    terminal: Option<Terminal>,
    closed: CancellationToken,
    stage: Stage,
}

enum Stage {
    /// Nothing was asked to run yet.
    Idle {
        output: ChannelWriteHalf<Msg>,
        slot: Slot,
    },
    /// Something was: nothing else can be on this channel.
    Started(Input),
}

/// Why a command was not started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotStarted {
    /// No session channel of ours.
    NoChannel,
    /// Another one was started on it.
    Taken,
}

impl Channels {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared,
            opened: 0,
            channels: HashMap::new(),
        }
    }

    /// Takes a new channel in, or says why not.
    pub(super) fn open(&mut self, channel: Channel<Msg>) -> Result<(), &'static str> {
        self.channels
            .retain(|_, channel| !channel.closed.is_cancelled());
        self.room()?;
        self.opened += 1;
        self.shared.wire.used_now();
        let id = channel.id();
        // Input comes through the callbacks. russh would wait for somebody to take it from the read half too and
        // stop the whole connection meanwhile; with that half gone it does not.
        let (_not_read, output) = channel.split();
        let stage = Stage::Idle {
            output,
            slot: Slot::take(&self.shared.load),
        };
        let state = SessionState {
            terminal: None,
            closed: self.shared.cut.child_token(),
            stage,
        };
        self.channels.insert(id, state);
        Ok(())
    }

    fn room(&self) -> Result<(), &'static str> {
        self.alive()?;
        if self.shared.load.borrow().open >= self.shared.max_sessions {
            return Err("too many sessions on one connection: close one, or connect again");
        }
        Ok(())
    }

    /// Whether this connection may have any channel more.
    fn alive(&self) -> Result<(), &'static str> {
        if self.shared.shutdown.is_cancelled() {
            return Err("the bastion is shutting down: connect again");
        }
        if self.opened >= OPENED {
            self.shared.load.send_modify(|load| load.worn_out = true);
            return Err("this connection has carried its share of sessions: connect again");
        }
        Ok(())
    }

    /// A place for one forwarded connection more, or why there is none.
    pub(super) fn room_for_tunnel(&mut self) -> Result<Slot, &'static str> {
        self.channels
            .retain(|_, channel| !channel.closed.is_cancelled());
        self.alive()?;
        if self.shared.load.borrow().tunnelled >= TUNNELLED {
            return Err("too many forwarded connections at once: close some");
        }
        self.opened += 1;
        self.shared.wire.used_now();
        Ok(Slot::tunnelled(&self.shared.load))
    }

    /// Starts a forwarded connection on a channel that was opened for it.
    pub(super) fn tunnel(
        &mut self,
        channel: Channel<Msg>,
        slot: Slot,
        to: Destination,
        handle: Handle,
    ) {
        let id = channel.id();
        let (_not_read, output) = channel.split();
        let (input, undelivered) = input::input(Arc::clone(&self.shared.wire));
        let state = SessionState {
            terminal: None,
            closed: self.shared.cut.child_token(),
            stage: Stage::Started(input),
        };
        let tunnel = SessionChannel {
            id,
            handle,
            output,
            wire: Arc::clone(&self.shared.wire),
            closed: state.closed.clone(),
            slot,
            is_tunnel: true,
        };
        self.channels.insert(id, state);
        let open = Open {
            command: Command::Tunnel(to),
            terminal: None,
        };
        let monitor = self.shared.monitor.clone();
        self.shared
            .tasks
            .spawn(tunnel.run(monitor, open, undelivered));
    }

    /// Gives a channel its terminal, once and before anything was started.
    pub(super) fn give_terminal(&mut self, id: ChannelId, terminal: Terminal) -> bool {
        match self.channels.get_mut(&id) {
            Some(SessionState {
                terminal: empty @ None,
                stage: Stage::Idle { .. },
                ..
            }) => {
                *empty = Some(terminal);
                true
            }
            _ => false,
        }
    }

    /// Starts what a channel asks for: one thing for each channel.
    pub(super) fn start(
        &mut self,
        id: ChannelId,
        command: Command,
        handle: Handle,
    ) -> Result<(), NotStarted> {
        let channel = self.channels.get_mut(&id).ok_or(NotStarted::NoChannel)?;
        let (input, undelivered) = input::input(Arc::clone(&self.shared.wire));
        match std::mem::replace(&mut channel.stage, Stage::Started(input)) {
            started @ Stage::Started(_) => {
                channel.stage = started;
                Err(NotStarted::Taken)
            }
            Stage::Idle { output, slot } => {
                let open = Open {
                    command,
                    terminal: channel.terminal.clone(),
                };
                let session = SessionChannel {
                    id,
                    handle,
                    output,
                    wire: Arc::clone(&self.shared.wire),
                    closed: channel.closed.clone(),
                    slot,
                    is_tunnel: false,
                };
                let monitor = self.shared.monitor.clone();
                self.shared
                    .tasks
                    .spawn(session.run(monitor, open, undelivered));
                Ok(())
            }
        }
    }

    /// Changes the size of a channel's terminal, if it has one.
    pub(super) fn resize(&mut self, id: ChannelId, size: WindowSize) -> bool {
        let Some(terminal) = self
            .channels
            .get_mut(&id)
            .and_then(|channel| channel.terminal.as_mut())
        else {
            return false;
        };
        terminal.size = size;
        // Before a session starts the size goes with its request.
        self.pass(id, ClientEvent::Resize(size));
        true
    }

    /// Passes an event on to the channel's session; whether it has one.
    pub(super) fn pass(&self, id: ChannelId, event: ClientEvent) -> bool {
        self.input(id).map(|input| input.push(event)).is_some()
    }

    /// Passes input on to the channel's session. Without one it goes nowhere.
    pub(super) fn pass_data(&self, id: ChannelId, data: &[u8]) {
        // An empty packet is no end of file.
        if !data.is_empty()
            && let Some(input) = self.input(id)
        {
            input.push_data(data);
            self.shared.wire.took(data.len());
        }
    }

    /// How far a channel's window is to be refilled next.
    pub(super) fn refill(&self) -> u32 {
        self.shared.wire.refill()
    }

    /// The client closed a channel.
    pub(super) fn close(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.remove(&id) {
            channel.closed.cancel();
        }
    }

    fn input(&self, id: ChannelId) -> Option<&Input> {
        match self.channels.get(&id)?.stage {
            Stage::Started(ref input) => Some(input),
            Stage::Idle { .. } => None,
        }
    }
}
