//! Who is let in before anybody is proven: by address, by number, and by what the same source did before.
//!
//! Nothing here knows of names, keys or identities: what a stranger claims must not count for or against anybody.

mod penalties;
mod proxied;
mod source;
mod waiting;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use self::penalties::Penalties;
pub use self::proxied::{HeaderError, read_header};
pub use self::source::Source;
use self::waiting::{Seat, Waiting};
use super::Rules;
use crate::clock;
use crate::config::{self, Startups};
use crate::strangers::Reason;

/// How a connection went on which nobody was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It was not its doing, or somebody was proven.
    Fine,
    /// Something was tried, and nobody was proven.
    AuthFailed,
    /// It left, or broke off, without trying.
    NoAttempt,
    /// It was still there when the grace was over.
    GraceExceeded,
    /// It did not speak SSH.
    Garbage,
    /// What served it died.
    Crash,
}

/// Counts who is not let in. Never waits.
pub trait Turnstile: std::fmt::Debug + Send + Sync {
    /// A connection from there is not let in.
    fn turned_away(&self, source: Source, reason: Reason);

    /// How it stands: connections on which nobody is proven, sources under a penalty.
    fn stand(&self, unproven: u32, refused_sources: usize);
}

/// Admission. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    rules: watch::Receiver<Rules>,
    inside: Arc<Mutex<Inside>>,
    strangers: Arc<dyn Turnstile>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Connections on which nobody is proven, of sources that are not exempt.
    waiting: Waiting,
    penalties: Penalties,
    /// Connections from proxies that have not said for whom.
    unannounced: u32,
}

/// A connection's place among those on which nobody is proven. Whoever drops it without a word died.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Option<(Gate, Seat)>,
    source: Source,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Tried,
    /// A key has signed, and something else is to come.
    Signed,
    Proven,
    Over,
}

/// A connection's place among those whose proxy has not said for whom they are.
#[derive(Debug)]
pub(super) struct Unannounced(Gate);

impl Gate {
    pub(super) fn new(rules: watch::Receiver<Rules>, strangers: Arc<dyn Turnstile>) -> Self {
        Self {
            rules,
            inside: Arc::default(),
            strangers,
        }
    }

    /// Whether a connection from there says itself where it comes from.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.rules.borrow().admission.is_proxy(address)
    }

    /// Lets a proxy speak; as many at once as there may be unproven ones.
    pub(super) fn listen_to(&self, address: IpAddr) -> Option<Unannounced> {
        let most = self.rules.borrow().admission.startups.full;
        let mut inside = self.inside();
        if inside.unannounced >= most {
            drop(inside);
            self.turn_away(address, Reason::Startups);
            return None;
        }
        inside.unannounced += 1;
        Some(Unannounced(self.clone()))
    }

    /// Counts somebody who is not let in.
    pub(super) fn turn_away(&self, address: IpAddr, reason: Reason) {
        let source = Source::of(address, &self.rules.borrow().admission);
        self.strangers.turned_away(source, reason);
    }

    /// Lets a connection in, or counts why not.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Place> {
        let rules = self.rules.borrow();
        let terms = &rules.admission;
        let source = Source::of(address, terms);
        match self.judge(terms, address, source, clock::monotonic(), dice()) {
            Ok(place) => Some(place),
            Err(reason) => {
                self.strangers.turned_away(source, reason);
                None
            }
        }
    }

    /// `dice` is 0 to 99.
    fn judge(
        &self,
        terms: &config::Admission,
        address: IpAddr,
        source: Source,
        now: Instant,
        dice: u32,
    ) -> Result<Place, Reason> {
        if !terms.allows(address) {
            return Err(Reason::Denied);
        }
        let place = |gate| Place {
            gate,
            source,
            state: Mutex::new(State::Waiting),
        };
        if terms.exempts(address) {
            return Ok(place(None));
        }
        let mut inside = self.inside();
        if terms.penalties.is_some() && inside.penalties.refuses(source, now) {
            return Err(Reason::Penalty);
        }
        let own = u32::try_from(inside.waiting.of(source)).unwrap_or(u32::MAX);
        if own >= terms.startups_per_source {
            return Err(Reason::PerSource);
        }
        let all = u32::try_from(inside.waiting.all()).unwrap_or(u32::MAX);
        if dice < percent_refused(terms.startups, all) {
            let crowd = inside.waiting.make_way(source).ok_or(Reason::Startups)?;
            self.strangers.turned_away(crowd, Reason::Startups);
        }
        let seat = inside.waiting.enter(source);
        self.stand(inside, now);
        Ok(place(Some((self.clone(), seat))))
    }

    fn leave(&self, source: Source, seat: &Seat) {
        let mut inside = self.inside();
        inside.waiting.leave(source, seat);
        self.stand(inside, clock::monotonic());
    }

    fn stand(&self, mut inside: MutexGuard<'_, Inside>, now: Instant) {
        let (unproven, refused) = (inside.waiting.all(), inside.penalties.refused(now));
        drop(inside);
        let unproven = u32::try_from(unproven).unwrap_or(u32::MAX);
        self.strangers.stand(unproven, refused);
    }

    fn penalize(&self, source: Source, conduct: Conduct) {
        let Some(costs) = self.rules.borrow().admission.penalties else {
            return;
        };
        let now = clock::monotonic();
        self.inside().penalties.add(source, conduct, &costs, now);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A place that nobody counts. For tests of what has one.
    #[cfg(test)]
    pub(crate) fn uncounted() -> Arc<Self> {
        let source = Source::of([127, 0, 0, 1].into(), &config::Admission::default());
        Arc::new(Self {
            gate: None,
            source,
            state: Mutex::new(State::Waiting),
        })
    }

    /// Waits until it has to make way for somebody whose source has fewer connections, or for whoever comes later.
    pub(super) async fn makes_way(&self) {
        match &self.gate {
            Some((_, seat)) => seat.made_way.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// It has made way. That is no fault; but a source of many that say nothing does so again and again.
    pub(super) fn made_way(&self) {
        let silent = *self.state() == State::Waiting;
        self.over(if silent {
            Conduct::NoAttempt
        } else {
            Conduct::Fine
        });
    }

    /// The client tries to prove somebody.
    pub(crate) fn tried(&self) {
        let mut state = self.state();
        if matches!(*state, State::Waiting | State::Signed) {
            *state = State::Tried;
        }
    }

    /// The client has proven to hold a key, which is not all that is asked for. Leaving now is no failed attempt: a program that cannot type
    /// does nothing else. Its place is free for others: who types must not have to make way for who floods.
    pub(crate) fn signed(&self) {
        if matches!(*self.state(), State::Waiting | State::Tried) {
            self.change(State::Signed);
        }
    }

    /// Somebody is proven: the place is free for others.
    pub(crate) fn proven(&self) {
        self.change(State::Proven);
    }

    /// The connection is over. `left`: the client went, and how.
    pub(crate) fn over(&self, conduct: Conduct) {
        let before = self.change(State::Over);
        let conduct = match (before, conduct) {
            (State::Proven | State::Over, _) => return,
            (State::Tried, Conduct::NoAttempt | Conduct::Garbage) => Conduct::AuthFailed,
            (State::Signed, Conduct::NoAttempt) => Conduct::Fine,
            (_, conduct) => conduct,
        };
        if let Some((gate, _)) = &self.gate {
            gate.penalize(self.source, conduct);
        }
    }

    /// What it was before. The first that takes it out of the count does so.
    fn change(&self, to: State) -> State {
        let before = {
            let mut state = self.state();
            std::mem::replace(&mut *state, to)
        };
        if let Some((gate, seat)) = &self.gate
            && matches!(before, State::Waiting | State::Tried | State::Signed)
        {
            gate.leave(self.source, seat);
        }
        before
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.over(Conduct::Crash);
    }
}

impl Drop for Unannounced {
    fn drop(&mut self) {
        let mut inside = self.0.inside();
        inside.unannounced = inside.unannounced.saturating_sub(1);
    }
}

/// How many of a hundred are refused when so many are unproven: none up to `start`, `rate` there, more and more, all from `full` on.
fn percent_refused(startups: Startups, unproven: u32) -> u32 {
    let Startups { start, rate, full } = startups;
    if unproven < start {
        return 0;
    }
    if unproven >= full {
        return 100;
    }
    let (above, span) = (u64::from(unproven - start), u64::from(full - start).max(1));
    let rate = u64::from(rate);
    let percent = rate + (100_u64.saturating_sub(rate)) * above / span;
    u32::try_from(percent).unwrap_or(100)
}

/// 0 to 99. Whoever could foresee it would know when to come.
fn dice() -> u32 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes) % 100,
        // It refuses whomever it can.
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests;
