//! Reads request indexes. Trusts nothing in them, as with casts.

use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, BufReader};

use super::line::{Done, Entry, First, VERSION};
use super::{Counts, Intent, Note, RequestNumber, RequestsSummary, Tally};
use crate::recording::reader::Lines;
use crate::recording::{CastSummary, ReadError};
use crate::session::SessionId;

/// Reads an index entry by entry.
#[derive(Debug)]
pub struct IndexReader<R> {
    lines: Lines<R>,
    session: SessionId,
    tally: Tally,
}

/// A line of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Of which request.
    pub request: RequestNumber,
    /// When, since the start of the session.
    pub at: Duration,
    /// What happened.
    pub what: RequestStep,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestStep {
    /// It is about to be forwarded.
    Intent(Box<Intent>),
    /// Something, while it goes on.
    Note(Note),
    /// It is over.
    Outcome(Box<Done>),
}

impl<R: AsyncRead + Unpin> IndexReader<BufReader<R>> {
    /// Reads the first line. `None` if there is none, or half of one: then nothing was asked of the cluster.
    pub async fn open(input: R) -> Result<Option<Self>, ReadError> {
        let mut lines = Lines::over(BufReader::with_capacity(64 * 1024, input));
        let Some(line) = lines.next().await.map_err(in_index)? else {
            return Ok(None);
        };
        let first: First =
            serde_json::from_slice(line).map_err(|error| damaged(1, error.to_string()))?;
        if first.version != VERSION {
            let what = format!(
                "it is of version {}; this program reads version {VERSION}",
                first.version
            );
            return Err(damaged(1, what));
        }
        Ok(Some(Self {
            lines,
            session: first.session,
            tally: Tally::default(),
        }))
    }
}

impl<R: AsyncBufRead + Unpin> IndexReader<R> {
    /// The session that it is of.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The next entry. `None` at the end, and at a torn last line.
    pub async fn next(&mut self) -> Result<Option<IndexEntry>, ReadError> {
        let Some(line) = self.lines.next().await.map_err(in_index)? else {
            return Ok(None);
        };
        let parsed = parse(line);
        let number = self.lines.number();
        let entry = parsed.map_err(|what| damaged(number, what))?;
        let IndexEntry { request, at, what } = &entry;
        let in_order = match what {
            RequestStep::Intent(intent) => self.tally.intent(*request, *at, intent),
            RequestStep::Note(note) => self.tally.note(*request, note),
            RequestStep::Outcome(done) => self.tally.outcome(*request, &done.outcome).is_some(),
        };
        if in_order {
            Ok(Some(entry))
        } else {
            let what = format!("the request {request} is out of order");
            Err(damaged(number, what))
        }
    }

    /// What the entries so far add up to.
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// The same for a manifest.
    pub(crate) fn summary(&self, file: CastSummary) -> Option<RequestsSummary> {
        RequestsSummary::of(&self.tally, file)
    }
}

fn parse(line: &[u8]) -> Result<IndexEntry, String> {
    let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let what = match (entry.intent, entry.note, entry.outcome) {
        (Some(intent), None, None) => RequestStep::Intent(Box::new(intent)),
        (None, Some(note), None) => RequestStep::Note(note),
        (None, None, Some(done)) => RequestStep::Outcome(Box::new(done)),
        _ => return Err("it is not one of intent, note and outcome".to_owned()),
    };
    Ok(IndexEntry {
        request: entry.request,
        at: entry.at.into(),
        what,
    })
}

fn damaged(line: u64, what: String) -> ReadError {
    ReadError::Index { line, what }
}

/// The lines do not know of which file they are.
fn in_index(error: ReadError) -> ReadError {
    match error {
        ReadError::Line { line, what } => ReadError::Index { line, what },
        other => other,
    }
}
