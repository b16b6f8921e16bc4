//! russh's callbacks, turned into messages. What is allowed is decided elsewhere; what is no session is
//! refused here, whoever asks.
//!
//! The callbacks run inside the connection's loop, which reads, writes and keeps time only between them:
//! beside authentication none of them waits.

use std::sync::Arc;

use bytes::Bytes;
use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};

use super::authentication::Authentication;
use super::channels::{Channels, NotStarted};
use super::destination::{NOWHERE_ELSE, destination};
use super::monitor::Refusals;
use super::terminal;
use crate::messages::{ClientEvent, Command, WindowSize};

/// One connection's callbacks.
pub(super) struct Callbacks {
    pub(super) authentication: Authentication,
    pub(super) banner: Option<Arc<str>>,
    pub(super) channels: Channels,
    pub(super) refusals: Refusals,
}

impl Callbacks {
    fn refuse_method(&mut self, method: &str) -> Auth {
        self.authentication.tried();
        self.refusals.tell(method);
        Auth::reject()
    }

    /// Refuses to open a channel; the client shows `reason`.
    async fn refuse_channel(&mut self, what: &str, reply: ChannelOpenHandle, reason: &str) {
        self.refusals.tell(what);
        let reason = ChannelOpenFailure::Other {
            code: ChannelOpenFailure::AdministrativelyProhibited.code(),
            reason: reason.to_owned(),
        };
        reply.reject(reason).await;
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

    /// Success is answered at once and exactly once: russh keeps one flag for each channel that says whether a
    /// reply is wanted, and the client's next request overwrites it. Whether a session starts is told inside
    /// of it, where a reason fits.
    fn start(
        &mut self,
        id: ChannelId,
        command: Command,
        session: &mut Session,
    ) -> Result<(), Error> {
        match self.channels.start(id, command, session.handle()) {
            Ok(()) => session.channel_success(id),
            Err(NotStarted::NoChannel) => session.channel_failure(id),
            Err(NotStarted::Taken) => {
                self.refuse_request(
                    "second command on a channel",
                    session,
                    "one command for each channel",
                )?;
                session.channel_failure(id)
            }
        }
    }
}

fn answer(ok: bool) -> Auth {
    if ok { Auth::Accept } else { Auth::reject() }
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

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        Ok(self.banner.as_deref().map(str::to_owned))
    }

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Error> {
        // Every client asks this first to learn the methods: nothing to tell.
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, Error> {
        Ok(self.refuse_method("password authentication"))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        let auth = self.authentication.interactive(user, response).await;
        Ok(match auth {
            Some(auth) => auth,
            None => self.refuse_method("keyboard-interactive authentication"),
        })
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Error> {
        Ok(self.authentication.certified(user, certificate).await)
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        let ok = self
            .authentication
            .offered(user, offer.public_key, offer.algorithm)
            .await;
        Ok(answer(ok))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        let auth = self
            .authentication
            .verified(user, key.public_key, key.algorithm)
            .await;
        Ok(auth)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        match self.channels.open(channel) {
            Ok(()) => reply.accept().await,
            Err(reason) => self.refuse_channel("session channel", reply, reason).await,
        }
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
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        let Some(to) = destination(host, port) else {
            self.refuse_channel("direct-tcpip", reply, NOWHERE_ELSE)
                .await;
            return Ok(());
        };
        match self.channels.room_for_tunnel() {
            Ok(slot) => {
                reply.accept().await;
                self.channels.tunnel(channel, slot, to, session.handle());
            }
            Err(reason) => self.refuse_channel("direct-tcpip", reply, reason).await,
        }
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
        let terminal = terminal::terminal(term, cols, rows, modes);
        let ok = self.channels.give_terminal(channel, terminal);
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
        let ok = self
            .channels
            .resize(channel, WindowSize::clamped(cols, rows));
        reply(session, channel, ok)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut Session,
    ) -> Result<(), Error> {
        let ok = terminal::signal_name(&signal).is_some_and(|name| {
            self.channels
                .pass(channel, ClientEvent::Signal(name.to_owned()))
        });
        reply(session, channel, ok)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.channels.pass_data(channel, data);
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _refilled_to: u32) -> u32 {
        self.channels.refill()
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.channels.pass(channel, ClientEvent::Eof);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.channels.close(channel);
        Ok(())
    }
}
