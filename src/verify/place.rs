//! Where in a session a problem is.

use tokio::io::AsyncReadExt;

use crate::recording::check::Problem;
use crate::recording::{LineReader, ReadError, Stored};
use crate::store::Part;

/// Events that are read to find a place.
const MOST_EVENTS: u64 = 50_000_000;

/// Bytes that are read to find one: what is small when it is packed may be anything unpacked.
const MOST_BYTES: u64 = 4 << 30;

/// The places in one recording.
pub(super) struct Places<'a> {
    stored: &'a Stored,
    /// Where what is packed or encrypted ends, once that was looked for: it is the same for each problem.
    end: Option<Option<(u64, u64)>>,
}

impl<'a> Places<'a> {
    pub(super) fn of(stored: &'a Stored) -> Self {
        Self { stored, end: None }
    }

    /// `: after event 12, 0:01:02.345 into the session`; `None` where that cannot be said: the recording is encrypted, and
    /// there is no key, the problem is not in the cast, or there is too much before it.
    pub(super) async fn find(&mut self, problem: &Problem) -> Option<String> {
        let (Problem::Changed { file, from, .. }
        | Problem::Reordered { file, from, .. }
        | Problem::CutShort {
            file, bytes: from, ..
        }) = problem
        else {
            return None;
        };
        let part = Part::named(file)?;
        let (events, at) = match part {
            Part::Cast => {
                // It lies in clear: the place is the byte.
                let file = self.stored.files().read(Part::Cast).await.ok()??;
                last_whole(file.reader.take(*from), MOST_BYTES).await?
            }
            Part::CastPacked | Part::CastEncrypted | Part::CastSpool => self.end().await?,
            _ => return None,
        };
        let (seconds, millis) = (at / 1_000_000, at % 1_000_000 / 1_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        Some(format!(
            ": after event {events}, {hours}:{minutes:02}:{seconds:02}.{millis:03} into the session"
        ))
    }

    /// What is packed or encrypted is good up to where it can be read.
    async fn end(&mut self) -> Option<(u64, u64)> {
        if let Some(known) = self.end {
            return known;
        }
        let end = match self.stored.cast().await {
            Ok(cast) => last_whole(cast, MOST_BYTES).await,
            Err(_) => None,
        };
        *self.end.insert(end)
    }
}

/// How many whole events can be read, and the moment of the last one in microseconds; `None` if it is not to be found
/// within `most` bytes.
pub(super) async fn last_whole(
    cast: impl tokio::io::AsyncRead + Unpin,
    most: u64,
) -> Option<(u64, u64)> {
    let mut bounded = cast.take(most);
    let mut lines = LineReader::open(&mut bounded).await.ok()?;
    let (mut events, mut at) = (0, 0);
    while events < MOST_EVENTS {
        match lines.next().await {
            Ok(Some(line)) => {
                events += 1;
                at = line.at;
            }
            Ok(None) | Err(ReadError::Line { .. } | ReadError::Io(_)) => break,
            Err(_) => return None,
        }
    }
    drop(lines);
    (bounded.limit() > 0).then_some((events, at))
}
