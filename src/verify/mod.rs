//! Whether recordings are what they were, and whether all of them are there. Offline: nothing but files and public keys.

mod entries;
mod heads;
mod place;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

pub use self::entries::{Entries, Entry, InLog};
pub use self::heads::{Heads, Held};
pub use self::report::{json_lines, text};
use crate::log::Head;
use crate::recording::check::{Checked, Problem, check};
use crate::recording::{Checkpoint, Recordings, Standing};
use crate::session::SessionId;
use crate::signing::{Digest, Keys, NoteKind, SignedNote};
use crate::store::{Span, StoreError};

/// What one recording came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Which.
    pub session: SessionId,
    /// What it is, by its own checkpoints.
    pub state: State,
    /// Why it is interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many checkpoints there are.
    pub checkpoints: u64,
    /// Bytes that they cover.
    pub bytes: u64,
    /// Until when they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The head of the log that its manifest carries, if it may be one: signed by the key that was in force then.
    #[serde(
        rename = "logSize",
        skip_serializing_if = "Option::is_none",
        serialize_with = "report::size"
    )]
    pub log_head: Option<Head>,
    /// Everything that is wrong; nothing if the recording is what it was.
    #[serde(serialize_with = "report::sentences")]
    pub problems: Vec<Finding>,
}

/// What a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Its end is on record.
    Complete,
    /// Nobody saw its end.
    Interrupted,
    /// It is not closed: it goes on, or the next start of the daemon closes it.
    Open,
    /// The log knows it, and it is not in the store.
    Missing,
    /// It was deleted, as the log says.
    Deleted,
    /// What is there does not say.
    Unknown,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Within the recording.
    #[error("{problem}{}", .place.as_deref().unwrap_or_default())]
    Recording {
        /// What.
        problem: Problem,
        /// Where in the session that is, if it can be said.
        place: Option<String>,
    },
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The log does not know it.
    #[error("it is not in the log: nothing says that it was ever recorded here")]
    NotInLog,
    /// The log knows it, and it is gone.
    #[error("the log says that it was begun (leaf {0}), and it is not in the store")]
    Missing(u64),
    /// It was deleted, and is there.
    #[error("the log says that it was deleted (leaf {0}), and it is in the store")]
    Back(u64),
    /// Its beginning is another one than the log's.
    #[error("its first checkpoint is not the one in the log (leaf {0})")]
    OtherBeginning(u64),
    /// Its end is another one than the log's.
    #[error("the checkpoint that closes it is not the one in the log (leaf {0})")]
    OtherEnd(u64),
    /// The log says how it was packed, and that was otherwise.
    #[error("the checkpoint over its packed files is not in the log")]
    OtherPacking,
    /// The log says that it was closed, and it is not.
    #[error("the log says that it was closed (leaf {0}), and it is not closed")]
    Reopened(u64),
    /// It is closed, and the log does not say so.
    #[error(
        "it is closed, and the log does not say so: the next start of the daemon enters it, if it was the daemon that closed it"
    )]
    NotEntered,
    /// Its manifest carries something else than a head of the log.
    #[error(
        "manifest.json: the head of the log in it is none, or is signed by no key that is known here"
    )]
    NoHead,
    /// The head of the log in its manifest is signed by a key that was not in force at its place in the log.
    #[error(
        "manifest.json: the head of the log in it covers {size} leaves and is signed by {by}, and by this log the key in force there is {expected}: it was signed again, or the log was"
    )]
    HeadKey {
        /// How many leaves it covers.
        size: u64,
        /// Name and id of the key.
        by: String,
        /// Those of the one that should have.
        expected: String,
    },
    /// Signed by a key that was not in force when it was begun, or closed.
    #[error("it is signed by {by}, and the key in force then was {expected}: it was signed again")]
    OtherKey {
        /// Name and id of the key.
        by: String,
        /// Those of the one that should have.
        expected: String,
    },
}

/// Times that a recording is looked at which is not sound: somebody may be sealing or packing it at this moment.
const LOOKS: usize = 3;

/// Verifies one recording; against the log, where one is given.
pub async fn recording(
    recordings: &Recordings,
    session: SessionId,
    keys: &Keys,
    log: Option<&Entries>,
) -> Result<Verdict, StoreError> {
    let mut verdict = look(recordings, session, keys, log).await?;
    for _ in 1..LOOKS {
        if verdict.problems.is_empty() {
            break;
        }
        let again = look(recordings, session, keys, log).await?;
        let same = again.problems == verdict.problems;
        verdict = again;
        if same {
            break;
        }
    }
    Ok(verdict)
}

async fn look(
    recordings: &Recordings,
    session: SessionId,
    keys: &Keys,
    log: Option<&Entries>,
) -> Result<Verdict, StoreError> {
    let in_log = log.and_then(|log| log.of(session));
    if let Some(deletion) = log.and_then(|log| log.deletion_under_way(session)) {
        // An outage of the object store may cut it short for hours.
        let mut verdict = Verdict::of(session, State::Deleted);
        verdict.reason = Some(format!("{} (not all of it is gone yet)", deletion.why));
        return Ok(verdict);
    }
    let stored = match recordings.open(session).await {
        Ok(stored) => stored,
        Err(StoreError::NotFound(_)) => return Ok(absent(session, in_log)),
        Err(error) => return Err(error),
    };
    let signer = |note: &str| signed_by(note, keys);
    let checked = match check(session, stored.files(), &signer).await {
        Ok(checked) => checked,
        // Also where the store failed: one file that cannot be opened hides no other recording.
        Err(error) => {
            let mut verdict = Verdict::of(session, State::Unknown);
            verdict
                .problems
                .push(Finding::Unreadable(error.to_string()));
            return Ok(verdict);
        }
    };
    let mut verdict = Verdict::of(session, state(&checked));
    verdict.checkpoints = checked.checkpoints;
    let sizes = checked.files.values().map(|(bytes, _)| *bytes);
    verdict.bytes = sizes.fold(0, u64::saturating_add);
    verdict.until = checked.last.as_ref().map(|last| last.statement.at);
    if let Some(Standing::Interrupted { reason, .. }) =
        checked.closed.as_ref().map(|it| &it.statement.standing)
    {
        verdict.reason = Some(reason.clone());
    }
    let mut places = place::Places::of(&stored);
    for problem in &checked.problems {
        let place = places.find(problem).await;
        verdict.problems.push(Finding::Recording {
            problem: problem.clone(),
            place,
        });
    }
    if let Some(note) = &checked.log_head {
        match Head::kept(note.as_bytes(), keys) {
            Some(head) => carry(head, log, &mut verdict),
            None => verdict.problems.push(Finding::NoHead),
        }
    }
    if let Some(log) = log {
        against_log(&checked, in_log, log, keys, &mut verdict.problems);
    }
    Ok(verdict)
}

/// Every recording that is in the store, and every one that the log knows, oldest first.
pub async fn sessions(
    recordings: &Recordings,
    log: Option<&Entries>,
) -> Result<BTreeSet<SessionId>, StoreError> {
    let mut all: BTreeSet<SessionId> = recordings
        .list(Span::default())
        .await?
        .into_iter()
        .collect();
    all.extend(log.into_iter().flat_map(Entries::sessions));
    Ok(all)
}

impl Verdict {
    /// Whether what is wrong may come of a log that was read before the daemon added to it.
    pub fn may_be_early(&self) -> bool {
        self.problems.iter().any(|it| {
            matches!(
                it,
                Finding::NotInLog
                    | Finding::NotEntered
                    | Finding::Reopened(_)
                    | Finding::OtherEnd(_)
                    | Finding::OtherPacking
                    | Finding::Missing(_)
                    | Finding::HeadKey { .. }
            )
        })
    }

    fn of(session: SessionId, state: State) -> Self {
        Self {
            session,
            state,
            reason: None,
            checkpoints: 0,
            bytes: 0,
            until: None,
            log_head: None,
            problems: Vec::new(),
        }
    }
}

fn absent(session: SessionId, in_log: Option<&InLog>) -> Verdict {
    let Some(in_log) = in_log else {
        let mut verdict = Verdict::of(session, State::Unknown);
        verdict
            .problems
            .push(Finding::Unreadable("there is no such recording".to_owned()));
        return verdict;
    };
    if let Some(deleted) = &in_log.deleted {
        let mut verdict = Verdict::of(session, State::Deleted);
        verdict.reason = Some(deleted.why.clone());
        return verdict;
    }
    let mut verdict = Verdict::of(session, State::Missing);
    verdict
        .problems
        .push(Finding::Missing(in_log.first_position()));
    verdict
}

fn state(checked: &Checked) -> State {
    match checked.closed.as_ref().map(|it| &it.statement.standing) {
        Some(Standing::Sealed { .. }) => State::Complete,
        Some(_) => State::Interrupted,
        None if checked.last.is_some() => State::Open,
        None => State::Unknown,
    }
}

fn against_log(
    checked: &Checked,
    in_log: Option<&InLog>,
    log: &Entries,
    keys: &Keys,
    findings: &mut Vec<Finding>,
) {
    let Some(in_log) = in_log else {
        findings.push(Finding::NotInLog);
        return;
    };
    if let Some(deleted) = &in_log.deleted {
        findings.push(Finding::Back(deleted.position));
    }
    let (Some(first), Some(opened)) = (&checked.first, &in_log.opened) else {
        if in_log.opened.is_none() {
            findings.push(Finding::NotInLog);
        }
        return;
    };
    if !is_note(first, &opened.note) {
        findings.push(Finding::OtherBeginning(opened.position));
    }
    by_whom(first, opened.position, log, keys, findings);
    match (&checked.closed, in_log.closed.last()) {
        (Some(closed), Some(_)) => {
            let known = in_log
                .closed
                .iter()
                .any(|entry| is_note(closed, &entry.note));
            if !known {
                let last = in_log.closed.last().map_or(0, |entry| entry.position);
                findings.push(Finding::OtherEnd(last));
                by_whom(closed, last, log, keys, findings);
            }
        }
        (Some(_), None) => findings.push(Finding::NotEntered),
        (None, Some(entry)) => findings.push(Finding::Reopened(entry.position)),
        (None, None) => {}
    }
    // In the sealed form it may be there all the same: packed again after a crash. Of half of a packed one the log knows nothing.
    if let Some(last) = &checked.last
        && matches!(
            last.statement.standing,
            Standing::Packed { .. } | Standing::Packing { .. }
        )
        && !in_log.packed.iter().any(|note| is_note(last, note))
    {
        findings.push(Finding::OtherPacking);
    }
}

/// A head that a key signed that was not in force then says nothing of the log.
fn carry(head: Head, log: Option<&Entries>, verdict: &mut Verdict) {
    let expected = log.and_then(|log| log.key_of_head(head.size()));
    let by: Vec<String> = head.note().by().iter().map(|key| key.label()).collect();
    match expected {
        Some(expected) if !by.iter().any(|by| by == expected) => {
            verdict.problems.push(Finding::HeadKey {
                size: head.size(),
                by: by.join(", "),
                expected: expected.to_owned(),
            });
        }
        _ => verdict.log_head = Some(head),
    }
}

/// Whether a checkpoint is signed by the key that was in force when the leaf about it was entered.
fn by_whom(
    checkpoint: &Checkpoint,
    position: u64,
    log: &Entries,
    keys: &Keys,
    findings: &mut Vec<Finding>,
) {
    if let (Some(by), Some(expected)) = (signed_by(&checkpoint.note, keys), log.key_at(position))
        && by != expected
    {
        let expected = expected.to_owned();
        findings.push(Finding::OtherKey { by, expected });
    }
}

fn is_note(checkpoint: &Checkpoint, note: &Digest) -> bool {
    Digest::of(checkpoint.note.as_bytes()) == *note
}

/// The key that signed a checkpoint, if that is one of `keys`.
fn signed_by(note: &str, keys: &Keys) -> Option<String> {
    let note = SignedNote::verify(note.as_bytes(), keys).ok()?;
    if note.kind() != Some(NoteKind::Recording) {
        return None;
    }
    note.by().first().map(|key| key.label())
}
