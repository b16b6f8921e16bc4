//! Tunnels: a client's own kubectl, k9s, helm against the gateway. A session is all that one connection forwards to the same
//! role and cluster: opened by the first forwarded connection, sealed when the SSH connection ends or nothing was forwarded
//! for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::audit::Ended;
use crate::clock;
use crate::config::SessionKind;
use crate::messages::{Command, Destination, Open, SessionLink};
use crate::mint::Lease;
use crate::monitor::Monitor;
use crate::policy::{self, Grant};
use crate::recording::OpenRecording;

use super::api::{Api, LAST_REQUESTS};
use super::forwarded::Forwarded;
use super::live::{LiveSession, Place};
use super::operate::{close, unrecorded};
use super::renewal::renewals;
use super::steps;
use super::{Caller, SessionId};

/// Without a forwarded connection for so long, the session is over; the next one begins another.
const IDLE: Duration = Duration::from_secs(600);
/// Forwarded connections of one session at once.
const CONNECTIONS: usize = 128;
/// Forwarded connections that wait while the session is being opened.
const WAITING: usize = 128;
/// Sessions of one connection.
const SESSIONS: usize = 32;
/// A renewal under way when a session ends is waited for, so that its token is on record.
const RENEWAL: Duration = Duration::from_secs(10);
/// What waits for a session that there will not be is told so.
const REFUSED: Duration = Duration::from_secs(35);

/// The tunnels of one connection.
#[derive(Debug, Default)]
pub(crate) struct Tunnels(BTreeMap<Destination, mpsc::Sender<SessionLink>>);

impl Tunnels {
    /// Leads a forwarded connection to its session, which is opened if it is not yet. Whether there is room for it.
    pub(crate) fn connect(
        &mut self,
        monitor: &Arc<Monitor>,
        caller: &Caller,
        to: Destination,
        link: SessionLink,
    ) -> bool {
        let (to, caller) = resolved(monitor, caller, to);
        self.0.retain(|_, session| !session.is_closed());
        let link = match self.0.get(&to).map(|session| session.try_send(link)) {
            None if self.0.len() >= SESSIONS => return false,
            Some(Ok(())) => return true,
            Some(Err(TrySendError::Full(_))) => return false,
            Some(Err(TrySendError::Closed(link))) => link,
            None => return self.begin(monitor, caller, to, link_again()),
        };
        self.begin(monitor, caller, to, link)
    }
}
