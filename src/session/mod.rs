//! A session: one grant, one recording, one lease.
//!
//! `serve` and `operate` read like the product, top to bottom.

mod api;
mod client;
mod credential;
mod deadline;
mod forwarded;
mod id;
mod inside;
mod live;
mod operate;
mod proxied;
mod pump;
mod renewal;
mod request;
mod room;
mod steps;
mod tunnel;
mod words;

use std::sync::Arc;

pub use id::{NotASessionId, SessionId};
pub use live::{Live, LiveSession};
pub(crate) use tunnel::Tunnels;

use crate::identity::Identity;
use crate::messages::{Open, Peer, SessionLink};
use crate::monitor::Monitor;

use client::Client;
use request::Requested;
use steps::Refusal;

/// Who is at the other end of a session, proven.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who was proven.
    pub identity: Identity,
    /// The login name that was asked for.
    pub principal: String,
    /// From where.
    pub peer: Peer,
}

/// A login name as logs may repeat it: escaped, and cut to 256 characters.
pub(crate) fn shown_principal(principal: &str) -> String {
    steps::shown(principal, steps::PRINCIPAL_SHOWN)
}

/// Serves one session channel to its end. Whatever ends it, nothing is left open.
pub(crate) async fn serve(monitor: Arc<Monitor>, caller: Caller, open: Open, link: SessionLink) {
    let client = Client::new(link, open.terminal.is_some());
    match request::parse(&open.command) {
        Requested::Instead(advice) => client.last_words(advice, 1).await,
        Requested::Word(line) => match steps::not_locked_out(&monitor, &caller).await {
            Ok(()) => words::answer(&monitor, &caller, &open, &line, client).await,
            Err(sentence) => {
                let words = format!("bastion-audit: {sentence}\n");
                client.last_words(&words, 255).await;
            }
        },
        Requested::Session(kind) => {
            let session = steps::new_session(&monitor);
            if let Err(Refusal { sentence, client }) =
                operate::run(&monitor, &caller, open, kind, session, client).await
            {
                let words = format!("bastion-audit: {sentence}\n(session {session})");
                client.last_words(&words, 255).await;
            }
        }
    }
}
