//! The secrets that are out, in an order in which one is found fast.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, packed};

use super::KEPT;
use crate::mint::Credential;

/// The beginning of secrets that is searched for. They share theirs: a JWT begins with `eyJh`, a bearer with `ba1.`, so
/// that a thousand secrets are as fast to search for as one.
pub(super) const STEM: usize = 4;

/// One secret.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) secret: Arc<Credential>,
    pub(super) jti: Option<Arc<str>>,
    /// How much of it says nothing that others do not know: of a JWT all but the signature, of a bearer all but its tag.
    pub(super) open: usize,
}

impl Entry {
    /// Nothing for a secret that is on record whole before it could be held back.
    pub(super) fn new(secret: Arc<Credential>, jti: Option<Arc<str>>) -> Option<Self> {
        let text = secret.expose();
        let open = text.rfind('.').map_or(0, |dot| dot.saturating_add(1));
        (text.len() > KEPT).then_some(Self { secret, jti, open })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.secret.expose().as_bytes()
    }
}

/// All secrets at one moment, sorted. Nothing of it is ever printed.
#[derive(Default)]
pub(crate) struct Book {
    entries: Vec<Entry>,
    stems: Stems,
}

/// What finds stems.
#[derive(Default)]
enum Stems {
    /// With the processor's wide registers. The other kind first looks for a byte that is rare elsewhere and is not in a
    /// terminal's output: it took an eighth of the time of all that is done with a flood of text.
    Wide(packed::Searcher),
    /// Where there are no such registers.
    Narrow(AhoCorasick),
    /// Nothing could be made: every byte is looked at.
    #[default]
    None,
}

impl Stems {
    fn new(stems: &[&[u8]]) -> Self {
        if let Some(wide) = packed::Searcher::new(stems) {
            return Self::Wide(wide);
        }
        match AhoCorasick::new(stems) {
            Ok(narrow) => Self::Narrow(narrow),
            Err(error) => {
                tracing::error!("secrets are searched for slowly: {error}");
                Self::None
            }
        }
    }
}

/// The secrets that begin with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    low: usize,
    high: usize,
}

impl Book {
    pub(super) fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        entries.sort_by(|a, b| a.bytes().cmp(b.bytes()));
        entries.dedup_by(|a, b| a.bytes() == b.bytes());
        let mut stems: Vec<&[u8]> = entries
            .iter()
            .filter_map(|entry| entry.bytes().get(..STEM))
            .collect();
        stems.dedup();
        Self {
            stems: Stems::new(&stems),
            entries,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them.
    pub(super) fn all(&self) -> Range {
        Range {
            low: 0,
            high: self.entries.len(),
        }
    }

    /// Where the first stem is in `bytes`.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<usize> {
        match &self.stems {
            Stems::Wide(stems) => stems.find(bytes).map(|found| found.start()),
            Stems::Narrow(stems) => stems.find(bytes).map(|found| found.start()),
            Stems::None => (!bytes.is_empty()).then_some(0),
        }
    }

    /// Of the secrets in `range`, which share their first `matched` bytes, those that go on with `byte`.
    pub(super) fn narrow(&self, range: Range, matched: usize, byte: u8) -> Option<Range> {
        let within = self.entries.get(range.low..range.high)?;
        let next = |entry: &Entry| entry.bytes().get(matched).copied();
        // Most often there is one, or all go on in the same way.
        if within.first().and_then(next) == Some(byte) && within.last().and_then(next) == Some(byte)
        {
            return Some(range);
        }
        let below = within.partition_point(|entry| next(entry) < Some(byte));
        let until = within.partition_point(|entry| next(entry) <= Some(byte));
        (below < until).then_some(Range {
            low: range.low.saturating_add(below),
            high: range.low.saturating_add(until),
        })
    }

    /// The secret in `range` of which `matched` bytes are all; the shorter ones come first.
    pub(super) fn whole(&self, range: Range, matched: usize) -> Option<&Entry> {
        self.first(range)
            .filter(|entry| entry.bytes().len() == matched)
    }

    /// Whether there is a longer one.
    pub(super) fn goes_on(&self, range: Range, matched: usize) -> bool {
        let last = range.high.checked_sub(1);
        last.and_then(|last| self.entries.get(last))
            .is_some_and(|entry| entry.bytes().len() > matched)
    }

    pub(super) fn first(&self, range: Range) -> Option<&Entry> {
        self.entries.get(range.low)
    }

    /// The only one in `range`, if there is only one.
    pub(super) fn only(&self, range: Range) -> Option<&Entry> {
        (range.high.checked_sub(range.low) == Some(1))
            .then(|| self.first(range))
            .flatten()
    }

    /// Whether `matched` bytes of any in `range` give something of a secret away.
    pub(super) fn tells(&self, range: Range, matched: usize) -> bool {
        let within = self.entries.get(range.low..range.high).unwrap_or_default();
        within.iter().any(|entry| entry.open < matched)
    }
}
