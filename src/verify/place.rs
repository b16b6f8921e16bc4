//! Where in a session a problem is.

use tokio::io::AsyncReadExt;

use crate::recording::check::{Checked, Problem};
use crate::recording::{LineReader, ReadError, Stored};
use crate::store::Part;

/// Events that are read to find a place.
const MOST_EVENTS: u64 = 50_000_000;

/// `: after event 12, 0:01:02.345 into the session`; `None` where that cannot be said: the recording is encrypted, and
/// there is no key, or the problem is not in the cast.
pub(super) async fn of(stored: &Stored, problem: &Problem, _checked: &Checked) -> Option<String> {
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
            let file = stored.files().read(Part::Cast).await.ok()??;
            last_whole(file.reader.take(*from)).await?
        }
        // What is packed or encrypted is good up to where it can be read.
        Part::CastPacked | Part::CastEncrypted | Part::CastSpool => {
            last_whole(stored.cast().await.ok()?).await?
        }
        _ => return None,
    };
    let (seconds, millis) = (at / 1_000_000, at % 1_000_000 / 1_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(format!(
        ": after event {events}, {hours}:{minutes:02}:{seconds:02}.{millis:03} into the session"
    ))
}

/// How many whole events can be read, and the moment of the last one in microseconds.
async fn last_whole(cast: impl tokio::io::AsyncRead + Unpin) -> Option<(u64, u64)> {
    let mut lines = LineReader::open(cast).await.ok()?;
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
    Some((events, at))
}
