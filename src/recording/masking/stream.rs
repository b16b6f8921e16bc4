//! One stream, watched for secrets.

use std::borrow::Cow;
use std::ops::Range as Span;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::book::{Book, Range, STEM};
use super::{KEPT, MASK};

/// The most bytes in a row that a line editor or terminal puts between two bytes of a pasted secret.
const GAP: u8 = 8;
/// Beginnings of secrets that are followed at once. More begin only where secrets repeat themselves.
const FOLLOWED: usize = 64;

/// What is known of a stream between two of its pieces: nothing, unless it ends like the beginning of a secret.
#[derive(Default)]
pub(crate) struct Masking {
    /// Since where the oldest possible secret begins.
    back: Zeroizing<Vec<u8>>,
    /// How much of that is on record, as it is or masked.
    done: usize,
    /// What is on record last is a mask.
    masked: bool,
}

/// A piece of a stream for the record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// As it is.
    Plain(&'a [u8]),
    /// Not.
    Masked {
        /// So many bytes.
        length: usize,
        /// Whether a mask is to be shown: the one before it may stand for these too.
        shown: bool,
        /// The token's id.
        jti: Option<Arc<str>>,
    },
}

/// What may be a secret.
#[derive(Clone, Copy)]
struct Candidate {
    start: usize,
    /// Bytes of it that have come.
    matched: usize,
    /// Where the last of them ended.
    end: usize,
    range: Range,
    gap: u8,
}

/// A stretch that is a secret's.
struct Found {
    span: Span<usize>,
    jti: Option<Arc<str>>,
}

/// The kept bytes and the new ones in a row.
#[derive(Clone, Copy)]
struct Joined<'a> {
    back: &'a [u8],
    new: &'a [u8],
}

impl<'a> Joined<'a> {
    fn len(self) -> usize {
        self.back.len().saturating_add(self.new.len())
    }

    fn get(self, at: usize) -> Option<u8> {
        match at.checked_sub(self.back.len()) {
            None => self.back.get(at).copied(),
            Some(at) => self.new.get(at).copied(),
        }
    }

    fn spans(self, span: Span<usize>) -> [&'a [u8]; 2] {
        let middle = self.back.len();
        let back = span.start.min(middle)..span.end.min(middle);
        let new = span.start.max(middle).saturating_sub(middle)
            ..span.end.max(middle).saturating_sub(middle);
        [
            self.back.get(back).unwrap_or_default(),
            self.new.get(new).unwrap_or_default(),
        ]
    }
}

impl Masking {
    /// Takes what comes next. `record` gets, in order, what is to be recorded of it and of what was held back. Answers
    /// whether something is held back now.
    pub(crate) fn feed(
        &mut self,
        book: &Book,
        bytes: &[u8],
        mut record: impl FnMut(Piece<'_>),
    ) -> bool {
        let back = std::mem::take(&mut self.back);
        if back.is_empty() && book.is_empty() {
            self.masked &= bytes.is_empty();
            if !bytes.is_empty() {
                record(Piece::Plain(bytes));
            }
            return false;
        }
        let joined = Joined {
            back: &back,
            new: bytes,
        };
        let (candidates, found) = follow(book, joined);
        let held = candidates
            .iter()
            .filter(|one| one.matched > KEPT)
            .map(|one| one.start.saturating_add(KEPT))
            .min()
            .unwrap_or(joined.len())
            .max(self.done);
        self.put(joined, found, held, &mut record);
        let start = candidates.iter().map(|one| one.start).min();
        let start = start.unwrap_or(joined.len());
        let mut kept = Zeroizing::new(Vec::with_capacity(joined.len().saturating_sub(start)));
        for part in joined.spans(start..joined.len()) {
            kept.extend_from_slice(part);
        }
        self.done = held.saturating_sub(start);
        self.back = kept;
        self.is_holding()
    }

    /// Nothing more has come for a while: what is held back is recorded as a mask. The search goes on from there.
    pub(crate) fn settle(&mut self, book: &Book, mut record: impl FnMut(Piece<'_>)) {
        let length = self.back.len().saturating_sub(self.done);
        if length == 0 {
            return;
        }
        let joined = Joined {
            back: &self.back,
            new: &[],
        };
        let (candidates, _) = follow(book, joined);
        let oldest = candidates.iter().min_by_key(|one| one.start);
        let jti = oldest
            .and_then(|one| book.only(one.range))
            .and_then(|entry| entry.jti.clone());
        record(Piece::Masked {
            length,
            shown: !self.masked,
            jti,
        });
        self.masked = true;
        self.done = self.back.len();
    }

    /// Whether something is held back.
    pub(crate) fn is_holding(&self) -> bool {
        self.done < self.back.len()
    }

    /// All of something, at once.
    pub(super) fn all<'a>(mut self, book: &Book, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut out: Option<Vec<u8>> = None;
        let mut passed = 0_usize;
        let mut put = |piece: Piece<'_>| match piece {
            Piece::Plain(plain) => match &mut out {
                Some(out) => out.extend_from_slice(plain),
                None => passed = passed.saturating_add(plain.len()),
            },
            Piece::Masked { shown, .. } => {
                let out =
                    out.get_or_insert_with(|| bytes.get(..passed).unwrap_or_default().to_vec());
                if shown {
                    out.extend_from_slice(MASK.as_bytes());
                }
            }
        };
        self.feed(book, bytes, &mut put);
        self.settle(book, &mut put);
        out.map_or(Cow::Borrowed(bytes), Cow::Owned)
    }

    /// Records up to `until`.
    fn put(
        &mut self,
        joined: Joined<'_>,
        mut found: Vec<Found>,
        until: usize,
        record: &mut impl FnMut(Piece<'_>),
    ) {
        found.sort_by_key(|one| one.span.start);
        let mut at = self.done;
        let plain = |span: Span<usize>, masked: &mut bool, record: &mut dyn FnMut(Piece<'_>)| {
            for part in joined.spans(span) {
                if !part.is_empty() {
                    *masked = false;
                    record(Piece::Plain(part));
                }
            }
        };
        for Found { span, jti } in found {
            let (start, end) = (span.start.max(at), span.end.min(until));
            if start >= end {
                continue;
            }
            plain(at..start, &mut self.masked, record);
            record(Piece::Masked {
                length: end.saturating_sub(start),
                shown: !self.masked,
                jti,
            });
            self.masked = true;
            at = end;
        }
        plain(at..until.max(at), &mut self.masked, record);
    }
}

/// Goes through the bytes: what is a secret's, and what may yet become one at their end.
fn follow(book: &Book, joined: Joined<'_>) -> (Vec<Candidate>, Vec<Found>) {
    let (mut candidates, mut found) = (Vec::new(), Vec::new());
    // A stem that begins after this may be cut off.
    let searched = joined.len().saturating_sub(STEM.saturating_sub(1));
    let mut at = 0;
    while at < joined.len() {
        if candidates.is_empty() && at >= joined.back.len() && at < searched {
            let from = at.saturating_sub(joined.back.len());
            let ahead = joined.new.get(from..).unwrap_or_default();
            at = match book.find(ahead) {
                Some(found) => at.saturating_add(found),
                None => searched,
            };
        }
        let Some(byte) = joined.get(at) else { break };
        step(book, at, byte, &mut candidates, &mut found);
        at = at.saturating_add(1);
    }
    (candidates, found)
}

fn step(book: &Book, at: usize, byte: u8, candidates: &mut Vec<Candidate>, found: &mut Vec<Found>) {
    let mut twice = None;
    candidates.retain_mut(|one| {
        let before = *one;
        if one.go_on(book, at, byte) {
            if before.is_again(book, byte) && one.matched > before.matched {
                twice = Some(Candidate { gap: 0, ..before });
            }
            if one.gap == 0
                && let Some(whole) = book.whole(one.range, one.matched)
            {
                found.push(one.is(one.end, whole.jti.clone()));
                return book.goes_on(one.range, one.matched);
            }
            return true;
        }
        if one.matched > KEPT && book.tells(one.range, one.matched) {
            let jti = book.only(one.range).and_then(|entry| entry.jti.clone());
            found.push(one.is(one.end, jti));
        }
        false
    });
    if candidates.len() < FOLLOWED {
        candidates.extend(twice);
    }
    if candidates.len() < FOLLOWED
        && let Some(range) = book.narrow(book.all(), 0, byte)
    {
        candidates.push(Candidate {
            start: at,
            matched: 1,
            end: at.saturating_add(1),
            range,
            gap: 0,
        });
    }
}

impl Candidate {
    /// Whether it may still be a secret with `byte`.
    fn go_on(&mut self, book: &Book, at: usize, byte: u8) -> bool {
        if let Some(range) = book.narrow(self.range, self.matched, byte) {
            self.range = range;
            self.matched = self.matched.saturating_add(1);
            self.end = at.saturating_add(1);
            self.gap = 0;
            return true;
        }
        if self.matched <= KEPT {
            return false;
        }
        if matches!(byte, b' ' | b'\r' | b'\n' | 0x08) && self.gap < GAP {
            self.gap = self.gap.saturating_add(1);
            return true;
        }
        if self.is_again(book, byte) {
            self.gap = 0;
            return true;
        }
        false
    }

    /// At the end of a line, editors write a byte twice.
    fn is_again(&self, book: &Book, byte: u8) -> bool {
        let last = self.matched.checked_sub(1);
        self.gap > 0
            && book
                .first(self.range)
                .zip(last)
                .and_then(|(entry, last)| entry.bytes().get(last))
                == Some(&byte)
    }

    fn is(&self, end: usize, jti: Option<Arc<str>>) -> Found {
        Found {
            span: self.start.saturating_add(KEPT)..end,
            jti,
        }
    }
}
