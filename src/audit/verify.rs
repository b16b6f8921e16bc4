//! Holds audit logs against their own chain and heads, offline.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::chain::{Link, Place};
use super::log::stamped;
use super::{Event, heads};
use crate::signing::{Digest, Keys, SignedNote, SigningError};

/// Longest line that is read, in bytes.
const LONGEST_LINE: u64 = 16 << 20;
/// A head is on record at most this many lines after the one that it is over.
const WINDOW: usize = 1 << 16;
const HEAD: &str = "audit.head";
const TORN: &str = "audit.torn";

/// The first thing that is wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {fault}", file.display())]
pub struct AuditFault {
    /// The file.
    pub file: PathBuf,
    /// Its line, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Not an event of ours, and no event says that it was never finished.
    #[error("this is no audit event with its place in the chain: it was changed, or put in")]
    NotAnEvent,
    /// An event tells of a line that was never finished, and there is none.
    #[error(
        "this tells of a line before it that was never finished, and there is none: it was taken out"
    )]
    NothingTorn,
    /// The file ends in mid-line.
    #[error(
        "the file ends in the midst of a line: cut off by a hand or a crash, and no daemon has gone on with it since"
    )]
    Torn,
    /// Events are missing.
    #[error("events {from} to {to} are missing before this one")]
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// An event is here that was before.
    #[error("event {seq} is out of order: {expected} is to come here")]
    OutOfOrder {
        /// Its number.
        seq: u64,
        /// What should be here.
        expected: u64,
    },
    /// The hash of the line before does not fit.
    #[error(
        "the event before this one, {seq}, is not the one that was written: it was changed, or this one was"
    )]
    Edited {
        /// The number of the event before.
        seq: u64,
    },
    /// A head's note does not count.
    #[error("the signed head: {0}")]
    Head(#[from] SigningError),
    /// A head that is written as none of ours is.
    #[error("this is no head as the daemon writes it: the line was changed")]
    NotAHead,
    /// A head over something else than what is here.
    #[error("the signed head is over another event {seq} than the one that is here")]
    OtherHistory {
        /// The event that it is over.
        seq: u64,
    },
    /// Something elsewhere covers events that are not here.
    #[error("the log ends with event {held}, and events up to {seq} were signed for: events {} to {seq} are cut off", held.saturating_add(1))]
    Cut {
        /// The last that is here.
        held: u64,
        /// The last that was signed for.
        seq: u64,
    },
    /// The file could not be read.
    #[error("reading: {0}")]
    Io(#[source] std::io::Error),
}

/// What was read, when everything fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The first event's number; what was before it was not looked at.
    pub first: u64,
    /// The last event.
    pub last: Link,
    /// The last event that a signed head covers, itself included; 0: none.
    pub signed: u64,
    /// Lines that were never finished, by the daemon's own word.
    pub torn: u64,
}

/// Reads files in the order in which they were written, as one log. `elsewhere`: places of the chain that are on record
/// elsewhere, as the leaves of the evidence log have them. Blocks.
pub fn verify(files: &[PathBuf], keys: &Keys, elsewhere: &[Link]) -> Result<Verified, AuditFault> {
    let mut walk = Walk {
        keys,
        elsewhere,
        first: None,
        last: Link::START,
        signed: 0,
        torn: 0,
        unfinished: None,
        recent: VecDeque::new(),
    };
    let mut end = (PathBuf::new(), 0);
    for file in files {
        end = (file.clone(), walk.file(file)?);
    }
    if let Some(unfinished) = walk.unfinished.take() {
        return Err(unfinished.fault());
    }
    walk.finish().map_err(|fault| AuditFault {
        file: end.0,
        line: end.1,
        fault,
    })
}

struct Walk<'a> {
    keys: &'a Keys,
    elsewhere: &'a [Link],
    first: Option<u64>,
    last: Link,
    signed: u64,
    torn: u64,
    /// A line that is no event, which the next one must account for, if need be in the next file.
    unfinished: Option<Unfinished>,
    recent: VecDeque<Link>,
}

/// A line that is no event.
struct Unfinished {
    content: Vec<u8>,
    /// It does not even end.
    open: bool,
    file: PathBuf,
    line: u64,
}

impl Unfinished {
    fn fault(self) -> AuditFault {
        AuditFault {
            file: self.file,
            line: self.line,
            fault: match self.open {
                true => Fault::Torn,
                false => Fault::NotAnEvent,
            },
        }
    }
}

/// Of a line, what ties it to others.
#[derive(Deserialize)]
struct Known {
    #[serde(flatten)]
    place: Place,
    event: String,
    note: Option<String>,
    sha256: Option<Digest>,
    bytes: Option<usize>,
}

impl Walk<'_> {
    /// Answers with the number of its lines.
    fn file(&mut self, path: &Path) -> Result<u64, AuditFault> {
        let at = |line, fault| AuditFault {
            file: path.to_owned(),
            line,
            fault,
        };
        let file = File::open(path).map_err(|error| at(0, Fault::Io(error)))?;
        let mut from = BufReader::new(file);
        let mut number = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line);
            if read.map_err(|error| at(number, Fault::Io(error)))? == 0 {
                break;
            }
            number += 1;
            let ends = line.strip_suffix(b"\n");
            let content = ends.unwrap_or(&line);
            let event = ends.and_then(|line| serde_json::from_slice::<Known>(line).ok());
            match self.unfinished.take() {
                Some(before)
                    if !event
                        .as_ref()
                        .is_some_and(|event| event.tells_of(&before.content)) =>
                {
                    return Err(before.fault());
                }
                Some(_) => self.torn += 1,
                None if event.as_ref().is_some_and(|event| event.event == TORN) => {
                    return Err(at(number, Fault::NothingTorn));
                }
                None => {}
            }
            match event {
                Some(event) => self
                    .event(content, &event)
                    .map_err(|fault| at(number, fault))?,
                None => {
                    self.unfinished = Some(Unfinished {
                        content: content.to_vec(),
                        open: ends.is_none(),
                        file: path.to_owned(),
                        line: number,
                    });
                }
            }
        }
        Ok(number)
    }

    fn event(&mut self, line: &[u8], event: &Known) -> Result<(), Fault> {
        let Place { seq, prev } = event.place;
        let expected = self.last.seq.saturating_add(1);
        let begins = self.first.is_none();
        match seq.cmp(&expected) {
            Ordering::Greater if !begins => {
                return Err(Fault::Missing {
                    from: expected,
                    to: seq.saturating_sub(1),
                });
            }
            Ordering::Less => return Err(Fault::OutOfOrder { seq, expected }),
            // What came before the first file was not given.
            Ordering::Greater => {}
            Ordering::Equal if prev != self.last.hash => {
                let seq = self.last.seq;
                return Err(Fault::Edited { seq });
            }
            Ordering::Equal => {}
        }
        let link = Link {
            seq,
            hash: Digest::of(line),
        };
        if event.event == HEAD {
            self.head(line, event)?;
        }
        let elsewhere = self.elsewhere.iter().find(|other| other.seq == seq);
        if elsewhere.is_some_and(|other| other.hash != link.hash) {
            return Err(Fault::OtherHistory { seq });
        }
        self.first.get_or_insert(seq);
        self.last = link;
        self.recent.push_back(link);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        Ok(())
    }

    fn head(&mut self, line: &[u8], event: &Known) -> Result<(), Fault> {
        let note = event.note.as_deref().ok_or(Fault::NotAHead)?;
        let note = SignedNote::verify(note.as_bytes(), self.keys)?;
        let (name, over, at) = heads::parse(&note).ok_or(Fault::NotAHead)?;
        // Nothing in this line may be otherwise: no later one may ever cover it.
        let head = Event::AuditHead {
            note: note.as_str(),
        };
        let written = stamped(name.instance(), &head, at).map_err(|_| Fault::NotAHead)?;
        let before = Link {
            seq: event.place.seq.saturating_sub(1),
            hash: event.place.prev,
        };
        if before.line(&written).0 != line {
            return Err(Fault::NotAHead);
        }
        if !self.recent.contains(&over) && self.first.is_some_and(|first| over.seq >= first) {
            return Err(Fault::OtherHistory { seq: over.seq });
        }
        self.signed = match over.seq == before.seq {
            true => event.place.seq,
            false => over.seq,
        };
        Ok(())
    }

    fn finish(self) -> Result<Verified, Fault> {
        let held = self.last.seq;
        let most = self.elsewhere.iter().map(|link| link.seq).max();
        if let Some(seq) = most.filter(|seq| *seq > held) {
            return Err(Fault::Cut { held, seq });
        }
        Ok(Verified {
            first: self.first.unwrap_or(0),
            last: self.last,
            signed: self.signed,
            torn: self.torn,
        })
    }
}

impl Known {
    /// Whether it says of the line before it that that was never finished.
    fn tells_of(&self, before: &[u8]) -> bool {
        self.event == TORN
            && self.bytes == Some(before.len())
            && self.sha256 == Some(Digest::of(before))
    }
}
