//! For how long a source is refused for what it did. By source and never by name: a name is what an attacker chooses, and would be
//! a way to lock its owner out.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::{Conduct, Source};
use crate::config;

/// Sources that are remembered at once: some 10 MB.
const MOST_SOURCES: usize = 65_536;

/// Sources under a penalty. What is full forgets the penalty that ends first: who has more than this many networks is not stopped by
/// penalties, and nobody is refused because somebody else has.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    by_source: HashMap<Source, Penalty>,
    /// The same by their end.
    by_end: BTreeSet<(Instant, Source)>,
    /// How many of them are refused.
    refused: usize,
}

#[derive(Clone, Copy, Debug)]
struct Penalty {
    ends: Instant,
    /// It has come to more than `least`, and so the source is refused until it ends.
    refused: bool,
}

impl Penalties {
    /// Adds what a connection from there costs.
    pub(super) fn add(
        &mut self,
        source: Source,
        conduct: Conduct,
        costs: &config::Penalties,
        now: Instant,
    ) {
        let cost = cost(conduct, costs);
        if cost.is_zero() {
            return;
        }
        self.forget_ended(now);
        let before = self.remove(source);
        if before.is_none() && self.by_source.len() >= MOST_SOURCES {
            self.forget_first();
        }
        let from = before.map_or(now, |penalty| penalty.ends.max(now));
        let ends = (from + cost).min(now + costs.most);
        let penalty = Penalty {
            ends,
            refused: before.is_some_and(|before| before.refused) || ends - now > costs.least,
        };
        self.refused += usize::from(penalty.refused);
        self.by_source.insert(source, penalty);
        self.by_end.insert((ends, source));
    }

    /// Whether a source is refused now.
    pub(super) fn refuses(&mut self, source: Source, now: Instant) -> bool {
        self.forget_ended(now);
        self.by_source
            .get(&source)
            .is_some_and(|penalty| penalty.refused)
    }

    /// How many sources are refused now.
    pub(super) fn refused(&mut self, now: Instant) -> usize {
        self.forget_ended(now);
        self.refused
    }

    fn forget_ended(&mut self, now: Instant) {
        while self.by_end.first().is_some_and(|(ends, _)| *ends <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, source)) = self.by_end.first().copied() {
            self.remove(source);
        }
    }

    fn remove(&mut self, source: Source) -> Option<Penalty> {
        let penalty = self.by_source.remove(&source)?;
        self.by_end.remove(&(penalty.ends, source));
        self.refused -= usize::from(penalty.refused);
        Some(penalty)
    }
}

fn cost(conduct: Conduct, costs: &config::Penalties) -> Duration {
    match conduct {
        Conduct::Fine => Duration::ZERO,
        Conduct::AuthFailed => costs.auth_failed,
        Conduct::NoAttempt => costs.no_attempt,
        Conduct::GraceExceeded => costs.grace_exceeded,
        Conduct::Garbage => costs.garbage,
        Conduct::Crash => costs.crash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::Admission;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap(), &Admission::default())
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn penalties_add_up_refuse_above_the_least_and_end() {
        let costs = config::Penalties::default();
        let (mut penalties, start) = (Penalties::default(), clock::monotonic());
        let (bad, other) = (source("192.0.2.7"), source("192.0.2.8"));
        for _ in 0..3 {
            penalties.add(bad, Conduct::AuthFailed, &costs, start);
        }
        assert!(
            !penalties.refuses(bad, start),
            "15 s are not more than 15 s"
        );
        penalties.add(bad, Conduct::AuthFailed, &costs, start);
        assert!(penalties.refuses(bad, start));
        assert!(!penalties.refuses(other, start));
        // To its end, not only while it is above the least.
        assert!(penalties.refuses(bad, start + seconds(19)));
        assert!(!penalties.refuses(bad, start + seconds(20)));
        assert!(penalties.by_end.is_empty() && penalties.by_source.is_empty());
    }

    #[test]
    fn now_and_then_a_slip_costs_nothing() {
        let costs = config::Penalties::default();
        let (mut penalties, start) = (Penalties::default(), clock::monotonic());
        let honest = source("192.0.2.7");
        for slip in 0..1000 {
            let now = start + seconds(slip * 5);
            penalties.add(honest, Conduct::AuthFailed, &costs, now);
            // Such as a health check that connects and leaves.
            penalties.add(source("192.0.2.9"), Conduct::NoAttempt, &costs, now);
            assert!(!penalties.refuses(honest, now));
            assert!(!penalties.refuses(source("192.0.2.9"), now));
        }
    }

    #[test]
    fn no_penalty_is_longer_than_the_most() {
        let costs = config::Penalties::default();
        let (mut penalties, start) = (Penalties::default(), clock::monotonic());
        let bad = source("2001:db8::1");
        for _ in 0..100_000 {
            penalties.add(bad, Conduct::Crash, &costs, start);
        }
        // An attacker with a network of its own is one source.
        assert!(penalties.refuses(source("2001:db8::ffff:ffff"), start));
        assert!(!penalties.refuses(source("2001:db8:0:1::1"), start));
        assert!(penalties.refuses(bad, start + seconds(599)));
        assert!(!penalties.refuses(bad, start + seconds(600)));
    }

    #[test]
    fn what_is_full_forgets_what_ends_first_and_refuses_nobody_for_it() {
        let costs = config::Penalties::default();
        let (mut penalties, start) = (Penalties::default(), clock::monotonic());
        let worst = source("192.0.2.7");
        penalties.add(worst, Conduct::Crash, &costs, start);
        for number in 0..200_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
            let source = Source::of(address.into(), &Admission::default());
            penalties.add(source, Conduct::AuthFailed, &costs, start);
        }
        assert_eq!(penalties.by_source.len(), MOST_SOURCES);
        assert_eq!(penalties.by_end.len(), MOST_SOURCES);
        assert!(penalties.refuses(worst, start), "it ends last");
        assert!(!penalties.refuses(source("198.51.100.7"), start));
        assert_eq!(penalties.refused(start), 1);
    }

    #[test]
    fn good_conduct_is_free() {
        let costs = config::Penalties::default();
        let mut penalties = Penalties::default();
        penalties.add(
            source("192.0.2.7"),
            Conduct::Fine,
            &costs,
            clock::monotonic(),
        );
        assert!(penalties.by_source.is_empty());
    }
}
