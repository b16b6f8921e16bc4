//! russh's callbacks, turned into messages. What is allowed is decided elsewhere; what is no session is
//! refused here, whoever asks.
//!
//! The callbacks run inside the connection's loop, which reads, writes and keeps time only between them:
//! beside authentication none of them waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::keys::ssh_key::{Algorithm, Certificate, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Error, Pty, Sig};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::input::{self, Input};
use super::monitor::{Monitor, Refusals};
use super::session::{Load, SessionChannel, Slot};
use super::terminal;
use super::wire::Wire;
use crate::messages::{Answer, Ask, ClientEvent, Command, Offer, Open, Terminal, WindowSize};
use crate::server::algorithms;

/// How long the deciding side may take to answer about a key.
const KEY_ANSWER: Duration = Duration::from_secs(10);

/// Keys asked about on one connection. russh does not count an offer that is accepted.
const OFFERS: u32 = 20;

/// Session channels opened on one connection in its life. russh 0.65 keeps some 3 KiB for each channel that the
/// server closes first, until the connection ends; a control connection that lives for days must not.
const OPENED: u32 = 4096;

/// What a connection's callbacks share with its other tasks.
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

/// One connection's callbacks.
pub(super) struct Callbacks {
    shared: Shared,
    refusals: Refusals,
    /// Present until an identity is proven.
    proven: Option<oneshot::Sender<()>>,
    introduced: bool,
    offers: u32,
    opened: u32,
    channels: HashMap<ChannelId, OpenChannel>,
}

/// A session channel as its callbacks see it.
struct OpenChannel {
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

impl Callbacks {
    pub(super) fn new(shared: Shared, proven: oneshot::Sender<()>) -> Self {
        Self {
            refusals: Refusals::new(shared.monitor.clone(), shared.tasks.clone()),
            shared,
            proven: Some(proven),
            introduced: false,
            offers: 0,
            opened: 0,
            channels: HashMap::new(),
        }
    }

    /// Whether a key is worth a signature. Proves nothing and changes nothing.
    async fn offered(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> bool {
        self.offers = self.offers.saturating_add(1);
        if self.proven.is_none() || self.offers > OFFERS {
            return false;
        }
        match offer(user, key, algorithm) {
            Some(offer) => self.yes(Ask::Probe(offer)).await,
            None => false,
        }
    }

    /// Whether the key whose signature russh has verified proves an identity. Once one is proven it stays.
    async fn verified(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> bool {
        if self.proven.is_none() {
            return false;
        }
        let Some(offer) = offer(user, key, algorithm) else {
            return false;
        };
        if !self.yes(Ask::Authenticate(offer)).await {
            return false;
        }
        self.proven
            .take()
            .is_some_and(|proven| proven.send(()).is_ok())
    }

    async fn yes(&mut self, ask: Ask) -> bool {
        if !self.introduced {
            self.introduced = true;
            let client = self.shared.wire.client().unwrap_or_default().to_owned();
            self.shared.monitor.tell(Ask::Client(client)).await;
        }
        self.shared.monitor.ask(ask, None, KEY_ANSWER).await == Answer::Yes
    }

    fn refuse_method(&mut self, method: &str) -> Auth {
        self.refusals.tell(method);
        Auth::reject()
    }

    /// Refuses to open a channel; the client shows `reason`.
    async fn refuse_channel(&mut self, what: &str, reply: ChannelOpenHandle, reason: &str) {
        self.refusals.tell(what);
        reply
            .reject(ChannelOpenFailure::Other {
                code: ChannelOpenFailure::AdministrativelyProhibited.code(),
                reason: reason.to_owned(),
            })
            .await;
    }

    /// Refuses a request whose failure has no room for a reason; clients show a debug message with `-v`.
    fn refuse_request(
        &mut self,
        what: &str,
        session: &mut Session,
        reason: &str,
    ) -> Result<(), Error> {
        self.refusals.tell(what);
        session.debug(true, reason, "en")
    }

    /// Why no further session channel is opened now.
    fn no_room(&mut self) -> Option<&'static str> {
        self.channels
            .retain(|_, channel| !channel.closed.is_cancelled());
        let open = self.shared.load.borrow().open;
        if self.shared.shutdown.is_cancelled() {
            Some("the bastion is shutting down: connect again")
        } else if self.opened >= OPENED {
            self.shared.load.send_modify(|load| load.worn_out = true);
            Some("this connection has carried its share of sessions: connect again")
        } else if open >= self.shared.max_sessions {
            Some("too many sessions on one connection: close one, or connect again")
        } else {
            None
        }
    }

    /// Starts what a channel asks for. Success is answered at once and exactly once: russh keeps one flag for
    /// each channel that says whether a reply is wanted, and the client's next request overwrites it. Whether
    /// a session starts is told inside of it, where a reason fits.
    fn start(
        &mut self,
        id: ChannelId,
        command: Command,
        session: &mut Session,
    ) -> Result<(), Error> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return session.channel_failure(id);
        };
        let (input, undelivered) = input::input(Arc::clone(&self.shared.wire));
        match std::mem::replace(&mut channel.stage, Stage::Started(input)) {
            Stage::Started(running) => {
                channel.stage = Stage::Started(running);
                self.refuse_request(
                    "second command on a channel",
                    session,
                    "one command for each channel",
                )?;
                session.channel_failure(id)
            }
            Stage::Idle { output, slot } => {
                session.channel_success(id)?;
                let open = Open {
                    command,
                    terminal: channel.terminal.clone(),
                };
                let channel = SessionChannel {
                    id,
                    handle: session.handle(),
                    output,
                    wire: Arc::clone(&self.shared.wire),
                    closed: channel.closed.clone(),
                    slot,
                };
                self.shared.tasks.spawn(channel.run(
                    self.shared.monitor.clone(),
                    open,
                    undelivered,
                ));
                Ok(())
            }
        }
    }

    /// Passes an event on to the channel's session, if it has one.
    fn pass(&self, id: ChannelId, event: ClientEvent) -> bool {
        match self.channels.get(&id) {
            Some(OpenChannel {
                stage: Stage::Started(input),
                ..
            }) => {
                input.push(event);
                true
            }
            _ => false,
        }
    }
}

/// The offer, if the key is of a kind that is served here.
fn offer(user: &str, key: &PublicKey, algorithm: &Algorithm) -> Option<Offer> {
    if !algorithms::accepts_client_key(key, algorithm) {
        return None;
    }
    Some(Offer {
        principal: user.to_owned(),
        public_key: key.to_openssh().ok()?,
        algorithm: algorithm.to_string(),
    })
}

fn reply(session: &mut Session, id: ChannelId, ok: bool) -> Result<(), Error> {
    if ok {
        session.channel_success(id)
    } else {
        session.channel_failure(id)
    }
}

impl Handler for Callbacks {
    type Error = Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Error> {
        // Every client asks this first to learn the methods: nothing to tell.
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, Error> {
        Ok(self.refuse_method("password authentication"))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        _response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        Ok(self.refuse_method("keyboard-interactive authentication"))
    }

    async fn auth_openssh_certificate(
        &mut self,
        _user: &str,
        _certificate: &Certificate,
    ) -> Result<Auth, Error> {
        Ok(self.refuse_method("certificate authentication"))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Ok(
            if self.offered(user, offer.public_key, offer.algorithm).await {
                Auth::Accept
            } else {
                Auth::reject()
            },
        )
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        Ok(
            if self.verified(user, key.public_key, key.algorithm).await {
                Auth::Accept
            } else {
                Auth::reject()
            },
        )
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if let Some(reason) = self.no_room() {
            self.refuse_channel("session channel", reply, reason).await;
            return Ok(());
        }
        self.opened += 1;
        self.shared.wire.used_now();
        let id = channel.id();
        // Input comes through the callbacks. russh would wait for somebody to take it from the read half and stop
        // the whole connection meanwhile; with that half gone it does not.
        let (_not_read, output) = channel.split();
        let slot = Slot::take(&self.shared.load);
        self.channels.insert(
            id,
            OpenChannel {
                terminal: None,
                closed: self.shared.cut.child_token(),
                stage: Stage::Idle { output, slot },
            },
        );
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse_channel("x11 channel", reply, "no X11 here")
            .await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse_channel(
            "direct-tcpip",
            reply,
            "no tunnel here: run kubectl on the bastion, as in `ssh HOST kubectl get pods`",
        )
        .await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse_channel("forwarded-tcpip", reply, "no forwarding here")
            .await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse_channel("direct-streamlocal", reply, "no forwarding to sockets here")
            .await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        _address: &str,
        _port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        self.refuse_request("tcpip-forward", session, "no remote forwarding here")?;
        Ok(false)
    }

    async fn streamlocal_forward(
        &mut self,
        _path: &str,
        session: &mut Session,
    ) -> Result<bool, Error> {
        self.refuse_request("streamlocal-forward", session, "no remote forwarding here")?;
        Ok(false)
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Error> {
        self.refuse_request(
            "agent-forwarding",
            session,
            "no agent forwarding here: your keys stay with you",
        )?;
        Ok(false)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse_request("x11", session, "no X11 here")?;
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        // Clients send LANG and LC_* unasked: refused as sshd refuses what AcceptEnv does not list, silently.
        session.channel_failure(channel)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let ok = match self.channels.get_mut(&channel) {
            Some(OpenChannel {
                terminal: empty @ None,
                stage: Stage::Idle { .. },
                ..
            }) => {
                *empty = Some(terminal::terminal(term, cols, rows, modes));
                true
            }
            _ => false,
        };
        reply(session, channel, ok)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(channel, Command::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(
            channel,
            Command::Exec(Bytes::copy_from_slice(line)),
            session,
        )
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        if name == "sftp" {
            // Refused too, but by a session that says what works instead.
            return self.start(channel, Command::Subsystem(name.to_owned()), session);
        }
        self.refuse_request("subsystem", session, "no such subsystem here")?;
        session.channel_failure(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        cols: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let size = WindowSize::clamped(cols, rows);
        let ok = match self
            .channels
            .get_mut(&channel)
            .and_then(|channel| channel.terminal.as_mut())
        {
            Some(terminal) => {
                terminal.size = size;
                // Before a session starts the size goes with its request.
                self.pass(channel, ClientEvent::Resize(size));
                true
            }
            None => false,
        };
        reply(session, channel, ok)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut Session,
    ) -> Result<(), Error> {
        let ok = terminal::signal_name(&signal)
            .is_some_and(|name| self.pass(channel, ClientEvent::Signal(name.to_owned())));
        reply(session, channel, ok)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        // An empty packet is no end of file.
        if !data.is_empty() && self.pass(channel, ClientEvent::Data(Bytes::copy_from_slice(data))) {
            self.shared.wire.used_now();
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.pass(channel, ClientEvent::Eof);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if let Some(channel) = self.channels.remove(&channel) {
            channel.closed.cancel();
        }
        Ok(())
    }
}
