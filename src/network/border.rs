//! What the network process says is looked at again: it speaks with the world, and may be somebody else's by now.
//!
//! It can claim what only it knows: where a connection comes from, and that a client's signature was good. What it says has the
//! form of what it would say all the same, or its connection ends.

use std::io;

use super::frames::invalid;
use super::protocol::Asked;
use crate::config::Name;
use crate::connection::{is_term, printable};
use crate::messages::{
    Ask, ClientEvent, Command, Destination, Offer, Open, Peer, SIGNALS, Terminal, WindowSize,
};

/// A login name, a key, a certificate: no packet that brings one is larger.
const LONGEST: usize = 256 << 10;
const LONGEST_REFUSAL: usize = 200;
/// Opcodes of terminal modes are bytes, each once.
const MODES: usize = 256;

/// A connection that it has admitted.
pub(super) fn peer(mut peer: Peer) -> Peer {
    peer.client = printable(peer.client.as_bytes());
    peer
}

/// A question about one.
pub(super) fn ask(ask: Ask) -> io::Result<Ask> {
    Ok(match ask {
        Ask::Probe(offered) => Ask::Probe(offer(offered)?),
        Ask::Authenticate(offered) => Ask::Authenticate(offer(offered)?),
        Ask::Open(asked) => Ask::Open(open(asked)?),
        Ask::Client(version) => Ask::Client(printable(version.as_bytes())),
        Ask::Refused { what } => {
            let end = what.floor_char_boundary(LONGEST_REFUSAL);
            let what = printable(what.get(..end).unwrap_or_default().as_bytes());
            Ask::Refused { what }
        }
        ask @ (Ask::Code(_) | Ask::Link | Ask::Device | Ask::Wait | Ask::Ending(_)) => ask,
    })
}

/// What the daemon takes for a question where these bytes are the body of a frame, if it takes them for one.
pub fn understood(bytes: &[u8]) -> Option<Ask> {
    let Asked(asked) = rmp_serde::from_slice(bytes).ok()?;
    ask(asked).ok()
}

/// What a client does in a session.
pub(super) fn event(event: ClientEvent) -> io::Result<ClientEvent> {
    Ok(match event {
        ClientEvent::Resize(to) => ClientEvent::Resize(size(to)),
        ClientEvent::Signal(name) if !SIGNALS.contains(&name.as_str()) => {
            return Err(invalid("no signal"));
        }
        event @ (ClientEvent::Data(_) | ClientEvent::Eof | ClientEvent::Signal(_)) => event,
    })
}

fn offer(offer: Offer) -> io::Result<Offer> {
    let certificate = offer.certificate.as_ref().map_or(0, String::len);
    let lengths = [
        offer.principal.len(),
        offer.public_key.len(),
        certificate,
        offer.algorithm.len(),
    ];
    match lengths.iter().all(|length| *length <= LONGEST) {
        true => Ok(offer),
        false => Err(invalid("too long an offer")),
    }
}

fn open(open: Open) -> io::Result<Open> {
    let good = match &open.command {
        Command::Shell | Command::Exec(_) => true,
        Command::Subsystem(name) => name == "sftp",
        Command::Tunnel(Destination::Own) => true,
        Command::Tunnel(Destination::Named { role, cluster }) => {
            Name::new(role).is_ok() && Name::new(cluster).is_ok()
        }
    };
    if !good {
        return Err(invalid("nothing that could be opened"));
    }
    let terminal = open.terminal.map(terminal).transpose()?;
    Ok(Open { terminal, ..open })
}

fn terminal(terminal: Terminal) -> io::Result<Terminal> {
    if !is_term(&terminal.term) || terminal.modes.len() > MODES {
        return Err(invalid("no terminal"));
    }
    Ok(Terminal {
        size: size(terminal.size),
        ..terminal
    })
}

fn size(size: WindowSize) -> WindowSize {
    WindowSize::clamped(size.cols.into(), size.rows.into())
}
