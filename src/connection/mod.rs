//! One SSH connection: what speaks to the network. It decides nothing and reaches what does only through
//! the messages of [`crate::messages`].
//!
//! Below russh lies a socket that can be cut (`wire`, `stream`); above it callbacks become messages
//! (`callbacks`, `authentication`, `channels`) and each session channel has a task (`session`). This file watches over them: it holds the
//! timers and the orders, and whatever a client does, an end that is due happens.

mod authentication;
mod callbacks;
mod channels;
mod destination;
mod input;
mod interactive;
mod monitor;
mod session;
mod stream;
mod terminal;
mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use russh::server::RunningSession;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::authentication::Authentication;
use self::callbacks::Callbacks;
use self::channels::{Channels, Shared};
use self::monitor::{Monitor, Refusals};
use self::session::Load;
use self::stream::CutStream;
pub(crate) use self::terminal::is_term;
use self::wire::Wire;
pub(crate) use self::wire::{WINDOW, printable};
use crate::clock;
use crate::config::Limits;
use crate::messages::{Ask, Ending, MonitorLink, Order};
use crate::server::admission::{Conduct, Place};

/// How long a client may take to leave by itself when its last session has ended. OpenSSH's ends without having
/// written the output when a disconnect is right behind it.
const PARTING: Duration = Duration::from_secs(1);

/// How long a client may take to hear why it is disconnected.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keepalives are sent after each interval of silence; the fourth interval ends a connection that answered none.
const SILENT_INTERVALS: u32 = 4;

/// What a client that has to type a code has for it, at least. An app on a phone takes longer than a program that signs.
const TYPING: Duration = Duration::from_secs(60);

/// And one that has to sign in in a browser: as long as its link is good.
const SIGNING_ON: Duration = crate::oidc::LIFE;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nobody is proven.
    Nobody,
    /// A key has signed, and a code is to come.
    Signed,
    /// A key has signed, and a link to sign in by was given.
    SigningOn,
    /// Somebody is proven.
    Proven,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client left, or broke the protocol.
    Client,
    /// No identity was proven in time.
    Grace,
    /// No channel data either way for too long.
    Idle,
    /// The client answered no keepalive.
    Dead,
    /// Ordered, with this sentence for the client.
    Ordered(String),
    /// The deciding side is gone: nothing may go on without it.
    Unwatched,
    /// The daemon stops.
    Shutdown,
    /// It has carried as many sessions as one connection may.
    WornOut,
}

impl End {
    /// What the deciding side must know before the connection ends: it would take it for the client's doing.
    fn ending(&self) -> Option<Ending> {
        match self {
            Self::Idle => Some(Ending::Idle),
            Self::Dead => Some(Ending::Silent),
            _ => None,
        }
    }

    /// What the client is told.
    fn farewell(&self) -> Option<&str> {
        match self {
            Self::Client | Self::Grace | Self::Dead => None,
            Self::Idle => Some("no input and no output for too long: disconnected"),
            Self::Ordered(reason) => Some(reason),
            Self::Unwatched => Some("the bastion ended this connection"),
            Self::Shutdown => Some("the bastion is shutting down: connect again"),
            Self::WornOut => {
                Some("this connection has carried its share of sessions: connect again")
            }
        }
    }
}

/// What a connection is served under.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) config: Arc<russh::server::Config>,
    pub(crate) limits: Limits,
    /// What the client is shown before it proves anything.
    pub(crate) banner: Option<Arc<str>>,
}

/// Serves one connection until it has ended, with all its tasks. `place` is told how it went.
pub(crate) async fn serve(
    tcp: TcpStream,
    link: MonitorLink,
    terms: Terms,
    place: Arc<Place>,
    shutdown: CancellationToken,
) -> End {
    let (end, conduct) = until_end(tcp, link, terms, Arc::clone(&place), shutdown).await;
    place.over(match end {
        End::Client => conduct,
        End::Grace => Conduct::GraceExceeded,
        _ => Conduct::Fine,
    });
    end
}

/// The end, and what the client did if it is to blame.
async fn until_end(
    tcp: TcpStream,
    link: MonitorLink,
    terms: Terms,
    place: Arc<Place>,
    shutdown: CancellationToken,
) -> (End, Conduct) {
    let MonitorLink { asks, orders } = link;
    let Terms {
        config,
        limits,
        banner,
    } = terms;
    let wire = Wire::new();
    let cut = CancellationToken::new();
    let _cut_at_end = CutAtEnd {
        wire: Arc::clone(&wire),
        cut: cut.clone(),
    };
    let tasks = TaskTracker::new();
    let (load, load_seen) = watch::channel(Load::none());
    let (progress, progress_seen) = watch::channel(Progress::Nobody);
    let monitor = Monitor::new(asks, cut.clone());
    let callbacks = Callbacks {
        authentication: Authentication::new(monitor.clone(), Arc::clone(&wire), place, progress),
        banner,
        refusals: Refusals::new(monitor.clone(), tasks.clone()),
        channels: Channels::new(Shared {
            monitor: monitor.clone(),
            wire: Arc::clone(&wire),
            cut: cut.clone(),
            tasks: tasks.clone(),
            load,
            shutdown: shutdown.clone(),
            max_sessions: limits.max_sessions_per_connection,
        }),
    };
    let mut watching = pin!(
        Watch {
            wire: Arc::clone(&wire),
            grace_ends: clock::monotonic() + limits.login_grace,
            limits,
            orders,
            load: load_seen,
            shutdown,
        }
        .until_due(progress_seen)
    );

    // This waits for the client's version line: it belongs under the same timers as everything after.
    let starting =
        russh::server::run_stream(config, CutStream::new(tcp, Arc::clone(&wire)), callbacks);
    let running = tokio::select! {
        started = starting => started,
        end = &mut watching => return (end, Conduct::Fine),
    };
    let mut running = match running {
        Ok(running) => running,
        Err(error) => {
            tracing::debug!(%error, "no SSH connection");
            return (End::Client, conduct(&error));
        }
    };
    let (end, conduct) = tokio::select! {
        result = &mut running => {
            let conduct = result.as_ref().map_or_else(conduct, |()| Conduct::NoAttempt);
            note(result);
            (End::Client, conduct)
        }
        end = &mut watching => {
            if let Some(ending) = end.ending() {
                monitor.ask(Ask::Ending(ending), None, FAREWELL).await;
            }
            finish(running, &end, &wire, &cut).await;
            (end, Conduct::Fine)
        }
    };
    wire.cut();
    cut.cancel();
    tasks.close();
    tasks.wait().await;
    (end, conduct)
}

/// Should the future that serves a connection be dropped, nothing of it stays: not russh's own task either, which only the end
/// of its socket ends.
struct CutAtEnd {
    wire: Arc<Wire>,
    cut: CancellationToken,
}

impl Drop for CutAtEnd {
    fn drop(&mut self) {
        self.wire.cut();
        self.cut.cancel();
    }
}

/// What a client did that left without having proven anybody. One with which there is no common algorithm is old, not bad.
fn conduct(error: &russh::Error) -> Conduct {
    use russh::Error::{
        DecryptionError, Inconsistent, IndexOutOfBounds, PacketAuth, PacketSize,
        StrictKeyExchangeViolation, Version, WrongChannel,
    };
    match error {
        Version
        | PacketAuth
        | PacketSize(_)
        | DecryptionError
        | IndexOutOfBounds
        | Inconsistent
        | WrongChannel
        | StrictKeyExchangeViolation { .. } => Conduct::Garbage,
        _ => Conduct::NoAttempt,
    }
}

/// Says why, for a bounded time, then cuts.
async fn finish(
    mut running: RunningSession<Callbacks>,
    end: &End,
    wire: &Wire,
    cut: &CancellationToken,
) {
    if let Some(farewell) = end.farewell() {
        let handle = running.handle();
        let said = async {
            let said = handle
                .disconnect(
                    Disconnect::ByApplication,
                    farewell.to_owned(),
                    "en".to_owned(),
                )
                .await;
            if said.is_err() {
                tracing::debug!("the connection ended by itself");
            }
            (&mut running).await
        };
        if let Ok(result) = tokio::time::timeout(FAREWELL, said).await {
            return note(result);
        }
    }
    wire.cut();
    cut.cancel();
    note(running.await);
}

fn note(result: Result<(), russh::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "the connection ended");
    }
}

/// What ends a connection from our side.
struct Watch {
    wire: Arc<Wire>,
    grace_ends: Instant,
    limits: Limits,
    orders: mpsc::Receiver<Order>,
    load: watch::Receiver<Load>,
    shutdown: CancellationToken,
}

impl Watch {
    /// Returns when the connection is to end.
    async fn until_due(mut self, mut progress: watch::Receiver<Progress>) -> End {
        let mut proven = false;
        let mut drain_ends = None;
        let mut load_changes = true;
        loop {
            let due = if proven {
                self.next_check()
            } else {
                self.grace_ends
            };
            let wake = [drain_ends, self.parting(drain_ends)]
                .into_iter()
                .flatten()
                .fold(due, Instant::min);
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Disconnect { reason }) => return End::Ordered(reason),
                    None => return End::Unwatched,
                },
                changed = progress.changed(), if !proven => {
                    if changed.is_err() {
                        // The callbacks are gone, and with them russh: it says itself how it ended.
                        return std::future::pending().await;
                    }
                    match *progress.borrow_and_update() {
                        Progress::Nobody => {}
                        Progress::Signed => {
                            let typing = self.limits.login_grace.max(TYPING);
                            self.grace_ends = clock::monotonic() + typing;
                        }
                        Progress::SigningOn => {
                            let signing_on = self.limits.login_grace.max(SIGNING_ON);
                            self.grace_ends = clock::monotonic() + signing_on;
                        }
                        Progress::Proven => {
                            proven = true;
                            self.wire.used_now();
                        }
                    }
                }
                () = self.shutdown.cancelled(), if drain_ends.is_none() => {
                    drain_ends = Some(clock::monotonic() + self.limits.drain);
                }
                changed = self.load.changed(), if load_changes => load_changes = changed.is_ok(),
                () = tokio::time::sleep_until(wake) => {}
            }
            if let Some(end) = self.due(proven, drain_ends) {
                return end;
            }
        }
    }

    fn due(&self, proven: bool, drain_ends: Option<Instant>) -> Option<End> {
        let now = clock::monotonic();
        if let Some(drain_ends) = drain_ends
            && (!proven || now >= drain_ends)
        {
            return Some(End::Shutdown);
        }
        if !proven {
            return (now >= self.grace_ends).then_some(End::Grace);
        }
        if self.parting(drain_ends).is_some_and(|end| now >= end) {
            return Some(if drain_ends.is_some() {
                End::Shutdown
            } else {
                End::WornOut
            });
        }
        if now >= self.idle_ends() {
            return Some(End::Idle);
        }
        match self.silence_ends() {
            Some(end) if now >= end => Some(End::Dead),
            _ => None,
        }
    }

    /// When a connection that shall have no further session ends because it has none.
    fn parting(&self, drain_ends: Option<Instant>) -> Option<Instant> {
        let load = *self.load.borrow();
        (drain_ends.is_some() || load.worn_out)
            .then_some(load.empty_since)
            .flatten()
            .map(|since| since + PARTING)
    }

    fn next_check(&self) -> Instant {
        let idle = self.idle_ends();
        // While the wire is paused silence says nothing: look again later.
        let silence = self.silence_ends().unwrap_or_else(|| {
            clock::monotonic() + self.limits.keepalive.max(Duration::from_secs(1))
        });
        idle.min(silence)
    }

    fn idle_ends(&self) -> Instant {
        self.wire.last_used() + self.limits.idle_timeout
    }

    /// russh sends the keepalives but does not judge them: it cannot know that the wire is paused, when the answers
    /// lie unread behind input that nobody takes.
    fn silence_ends(&self) -> Option<Instant> {
        (!self.limits.keepalive.is_zero() && !self.wire.is_paused())
            .then(|| self.wire.last_heard() + self.limits.keepalive * SILENT_INTERVALS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After which time a client is cut that gets so far at once and then does nothing.
    async fn cut_after(progress: Progress, login_grace: Duration) -> Duration {
        let limits = Limits {
            login_grace,
            ..Limits::default()
        };
        let (_orders, orders) = mpsc::channel(1);
        let (_load, load) = watch::channel(Load::none());
        let (client, seen) = watch::channel(Progress::Nobody);
        let since = clock::monotonic();
        let watching = Watch {
            wire: Wire::new(),
            grace_ends: since + limits.login_grace,
            limits,
            orders,
            load,
            shutdown: CancellationToken::new(),
        };
        client.send_replace(progress);
        assert_eq!(watching.until_due(seen).await, End::Grace);
        clock::monotonic() - since
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_code_to_type_has_time_for_it_and_not_for_ever() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let about = |one: Duration, other: Duration| one >= other && one < other + second;
        let nothing = cut_after(Progress::Nobody, 2 * second).await;
        assert!(about(nothing, 2 * second), "{nothing:?}");
        let signed = cut_after(Progress::Signed, 2 * second).await;
        assert!(about(signed, minute), "{signed:?}");
        let signing_on = cut_after(Progress::SigningOn, 2 * second).await;
        assert!(about(signing_on, 5 * minute), "{signing_on:?}");
        let patient = cut_after(Progress::Signed, 3 * minute).await;
        assert!(about(patient, 3 * minute), "{patient:?}");
    }
}
