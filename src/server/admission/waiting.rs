//! The waiting room: connections on which nobody is proven, by source.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio_util::sync::CancellationToken;

use super::Source;

/// Who waits. Where room is short, whoever has the most there makes way, and of those who have as many whoever has waited longest: so a source
/// that has few connections gets in, however many others hold, and has the time that a login takes.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Of each source its connections, the oldest first.
    by_source: HashMap<Source, BTreeMap<u64, CancellationToken>>,
    /// The sources by how many they have.
    crowds: BTreeSet<(usize, Source)>,
    /// Connections so far.
    entered: u64,
    all: usize,
}

/// A connection in the waiting room.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    /// Cancelled when it has to make way.
    pub(super) made_way: CancellationToken,
}

impl Waiting {
    /// How many wait.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// How many of one source.
    pub(super) fn of(&self, source: Source) -> usize {
        self.by_source.get(&source).map_or(0, BTreeMap::len)
    }

    pub(super) fn enter(&mut self, source: Source) -> Seat {
        let number = self.entered;
        self.entered += 1;
        let made_way = CancellationToken::new();
        self.change(source, |seats| seats.insert(number, made_way.clone()));
        Seat { number, made_way }
    }

    /// Whether it was still there.
    pub(super) fn leave(&mut self, source: Source, seat: &Seat) -> bool {
        self.change(source, |seats| seats.remove(&seat.number))
            .is_some()
    }

    /// Has the oldest connection of a source that has the most make way for one more of `source`, unless that would have more than any other
    /// then. Says whose it was.
    pub(super) fn make_way(&mut self, source: Source) -> Option<Source> {
        let most = self.crowds.last().map(|(most, _)| *most)?;
        if self.of(source) >= most {
            return None;
        }
        let crowds = self.crowds.range((most, Source::FIRST)..);
        let crowd = crowds
            .filter_map(|(_, crowd)| {
                let oldest = self.by_source.get(crowd)?.first_key_value()?;
                Some((*oldest.0, *crowd))
            })
            .min()
            .map(|(_, crowd)| crowd)?;
        let (_, made_way) = self.change(crowd, BTreeMap::pop_first)?;
        made_way.cancel();
        Some(crowd)
    }

    fn change<T>(
        &mut self,
        source: Source,
        change: impl FnOnce(&mut BTreeMap<u64, CancellationToken>) -> T,
    ) -> T {
        let seats = self.by_source.entry(source).or_default();
        let before = seats.len();
        let changed = change(seats);
        let after = seats.len();
        if after == 0 {
            self.by_source.remove(&source);
        }
        self.crowds.remove(&(before, source));
        if after > 0 {
            self.crowds.insert((after, source));
        }
        self.all = self.all + after - before;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Admission;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap(), &Admission::default())
    }

    #[test]
    fn the_oldest_of_the_largest_crowd_makes_way_for_who_has_fewer() {
        let mut waiting = Waiting::default();
        let (large, small, new) = (
            source("192.0.2.1"),
            source("192.0.2.2"),
            source("192.0.2.3"),
        );
        let seats: Vec<Seat> = (0..4).map(|_| waiting.enter(large)).collect();
        let one = waiting.enter(small);
        assert_eq!((waiting.all(), waiting.of(large)), (5, 4));
        assert_eq!(waiting.make_way(new), Some(large));
        assert!(seats[0].made_way.is_cancelled() && !seats[1].made_way.is_cancelled());
        assert_eq!((waiting.all(), waiting.of(large)), (4, 3));
        // It is gone already, and counts once.
        assert!(!waiting.leave(large, &seats[0]));
        assert_eq!(waiting.all(), 4);
        // Nobody makes way for the crowd itself.
        assert_eq!(waiting.make_way(large), None);
        // Of two that are as large whoever has waited longest, though it is not the first by its address.
        for seat in &seats[1..3] {
            assert!(waiting.leave(large, seat));
        }
        let late = waiting.enter(source("192.0.2.0"));
        assert!(waiting.leave(large, &seats[3]));
        let _last = waiting.enter(large);
        assert_eq!(waiting.make_way(new), Some(small));
        assert!(one.made_way.is_cancelled() && !late.made_way.is_cancelled());
    }

    #[test]
    fn nothing_stays_of_who_has_left() {
        let mut waiting = Waiting::default();
        for host in 0..100 {
            let source = source(&format!("192.0.2.{host}"));
            let seat = waiting.enter(source);
            assert!(waiting.leave(source, &seat));
        }
        assert_eq!(waiting.all(), 0);
        assert!(waiting.by_source.is_empty() && waiting.crowds.is_empty());
    }
}
