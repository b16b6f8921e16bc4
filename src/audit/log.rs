//! The audit log: one writer thread, a chain through all lines, a signed head for each second in which there are any.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Event;
use super::chain::{Link, STATE, State};
use super::file::{End, LogFile, WRITING};
use super::heads::{Heads, Signed};
use super::moved::moved_away;
use crate::clock::{self, Clock};
use crate::lane::{self, Next, Receiver, lane};
use crate::signing::{Digest, Signing, SigningError};
use crate::store::room::Room;

/// Lines under way to the disk. A full queue makes whoever wants to write wait.
const QUEUE: usize = 1024;
/// The longest that a line waits for the head over it.
const HEAD_EVERY: Duration = Duration::from_secs(1);
/// How often a head that is under way is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest that lines may stay unsigned because the signer fails. After that nothing is allowed any more.
const UNSIGNED_MOST: Duration = Duration::from_secs(60);
/// What the last head may take when the daemon stops.
const LAST_HEAD: Duration = Duration::from_secs(12);

/// Why an event is not on record.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The file could not be opened or written.
    #[error("audit log {path}: {reason}; free space or fix its permissions")]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        reason: String,
    },
    /// It is on record, but nobody has signed for the record for too long.
    #[error("the audit log has not been signed for {} s, so nothing is allowed: {why}", UNSIGNED_MOST.as_secs())]
    Unsigned {
        /// What the signer said last.
        why: SigningError,
    },
    /// No space is left but what is kept back, and that is not for events of this kind.
    #[error("no space is left in the audit log for events of strangers")]
    NotOwed,
    /// The writer is gone; the daemon is stopping.
    #[error("the audit log is closed")]
    Closed,
    /// The event could not be serialized.
    #[error("an audit event could not be written as JSON: {0}")]
    Json(String),
}

impl AuditError {
    pub(super) fn write(path: &Path, error: &std::io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }
}

/// A handle to the audit log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    asks: lane::Sender<Ask>,
    stamp: Stamp,
    signed: watch::Receiver<Option<Link>>,
}

#[derive(Debug)]
enum Ask {
    Line {
        event: Vec<u8>,
        /// On a full disk it may take what is kept back.
        owed: bool,
        written: oneshot::Sender<Result<(), AuditError>>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// What every event is stamped with.
#[derive(Clone, Debug)]
struct Stamp {
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
}

/// An event as it stands in the file, but for its place in the chain.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stamped<'a> {
    v: u8,
    time: jiff::Timestamp,
    instance: &'a str,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl Stamp {
    fn on(&self, event: &Event<'_>, time: jiff::Timestamp) -> Result<Vec<u8>, AuditError> {
        stamped(&self.instance, event, time)
    }
}

pub(super) fn stamped(
    instance: &str,
    event: &Event<'_>,
    time: jiff::Timestamp,
) -> Result<Vec<u8>, AuditError> {
    let stamped = Stamped {
        v: 1,
        time,
        instance,
        event,
    };
    serde_json::to_vec(&stamped).map_err(|error| AuditError::Json(error.to_string()))
}

impl Audit {
    /// Opens the log for appending (0600 when new), goes on with its chain where `state_dir` and the file say that it is,
    /// and starts its writer, which ends with the last handle. What finds no space gets some of `room`.
    pub fn open(
        path: &Path,
        state_dir: &Path,
        instance: &str,
        signing: Signing,
        clock: Arc<dyn Clock>,
        room: Room,
    ) -> Result<Self, AuditError> {
        let stamp = Stamp {
            clock,
            instance: instance.into(),
        };
        let (heads, signed) = Heads::start(signing, path)?;
        let writer = Writer::open(path, state_dir, stamp.clone(), heads, room)?;
        let (asks, queue) = lane(QUEUE);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&queue))
            .map_err(|error| AuditError::write(path, &error))?;
        Ok(Self {
            asks,
            stamp,
            signed,
        })
    }

    /// Puts an event on record. Returns once it has reached the kernel.
    pub async fn emit(&self, event: Event<'_>) -> Result<(), AuditError> {
        let owed = event.is_owed();
        let event = self.stamp.on(&event, self.stamp.clock.now())?;
        let (written, answer) = oneshot::channel();
        self.asks
            .send(Ask::Line {
                event,
                owed,
                written,
            })
            .await
            .map_err(|_| AuditError::Closed)?;
        answer.await.map_err(|_| AuditError::Closed)?
    }

    /// Puts an event on record that tells of something that has happened already: a failure cannot undo
    /// it, so it is told to `tracing`.
    pub async fn tell(&self, event: Event<'_>) {
        match self.emit(event).await {
            // That the disk is full was said, and the event is in the daemon's own log.
            Ok(()) | Err(AuditError::NotOwed) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// The last line that is signed for, once there is one; all up to it is on stable storage.
    pub fn signed(&self) -> watch::Receiver<Option<Link>> {
        self.signed.clone()
    }

    /// Ends the log with a head over all of it. Nothing can be written any more, by whatever handle.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.asks.send(Ask::Close { done }).await.is_ok() {
            // A thread that died has nothing more to do.
            drop(closed.await);
        }
    }
}

/// Owned by the log's thread.
pub(super) struct Writer {
    file: LogFile,
    state: State,
    state_path: PathBuf,
    stamp: Stamp,
    at: Link,
    /// What a crash left at the file's end, to be told before anything else.
    torn: End,
    heads: Heads,
    /// Since when there are lines that no head covers.
    unsigned: Option<Instant>,
    /// When a head may next be asked for.
    due: Instant,
    failure: Option<SigningError>,
    room: Room,
}

impl Writer {
    fn open(
        path: &Path,
        state_dir: &Path,
        stamp: Stamp,
        heads: Heads,
        room: Room,
    ) -> Result<Self, AuditError> {
        let state_path = state_dir.join(STATE);
        let (state, kept) =
            State::open(&state_path).map_err(|error| AuditError::write(&state_path, &error))?;
        let (file, mut end) = LogFile::open(path, room.for_files_at(path))?;
        if end.link.is_none() && end.torn.is_empty() && kept.is_some() {
            // The file says it better than what stands beside it: a power cut may have taken the end of either.
            let known = |end: &End| end.link.is_some_and(|it| it.seq >= state.synced());
            end = moved_away(path).filter(known).unwrap_or(end);
        }
        let at = match (end.link, kept) {
            (Some(link), Some(kept)) if link.seq < state.synced() => {
                tracing::error!(
                    "audit log {}: it ends with event {}, and {} are known to have been on stable storage: what is missing was taken away",
                    path.display(),
                    link.seq,
                    state.synced()
                );
                kept
            }
            (Some(link), _) => link,
            // It was moved away, or never was.
            (None, kept) => kept.unwrap_or(Link::START),
        };
        let now = clock::monotonic();
        Ok(Self {
            file,
            state,
            state_path,
            stamp,
            at,
            torn: end,
            heads,
            unsigned: (at != Link::START).then_some(now),
            due: now,
            failure: None,
            room,
        })
    }

    fn run(mut self, asks: &Receiver<Ask>) {
        let closed = loop {
            match asks.next(self.next_chore()) {
                Next::Item(Ask::Line {
                    event,
                    owed,
                    written,
                }) => {
                    let mut result = self.append(&event, owed);
                    if result.is_ok() {
                        result = self.still_signed();
                    }
                    // The asker may be gone; the line is written all the same.
                    drop(written.send(result));
                }
                Next::Item(Ask::Close { done }) => break Some(done),
                Next::Nothing => {}
                Next::Closed => break None,
            }
            self.chores();
        };
        self.last_head();
        if let Some(done) = closed {
            // Who no longer waits for the end needs no word of it.
            done.send(()).ok();
        }
    }

    fn append(&mut self, event: &[u8], owed: bool) -> Result<(), AuditError> {
        if !owed && self.file.is_full() {
            let event = String::from_utf8_lossy(event);
            tracing::info!(target: "bastion_audit::audit", "not in the full audit log: {event}");
            return Err(AuditError::NotOwed);
        }
        if let Some(end) = self.file.ready()? {
            self.torn = end;
        }
        if !self.torn.torn.is_empty() {
            self.tell_of_torn()?;
        }
        let (line, link) = self.at.line(event);
        self.put(b"", line, link, owed)
    }

    /// A line that was never finished stays as it is, and the next one says so.
    fn tell_of_torn(&mut self) -> Result<(), AuditError> {
        let (bytes, sha256) = (self.torn.torn.len(), Digest::of(&self.torn.torn));
        let event = Event::AuditTorn { bytes, sha256 };
        let event = self.stamp.on(&event, self.stamp.clock.now())?;
        let (line, link) = self.at.line(&event);
        let before: &[u8] = if self.torn.open { b"\n" } else { b"" };
        self.put(before, line, link, true)?;
        self.torn = End::default();
        Ok(())
    }

    fn put(
        &mut self,
        before: &[u8],
        mut line: Vec<u8>,
        link: Link,
        owed: bool,
    ) -> Result<(), AuditError> {
        tracing::info!(target: "bastion_audit::audit", "{}", String::from_utf8_lossy(&line));
        line.push(b'\n');
        let bytes = if before.is_empty() {
            line
        } else {
            [before, &line].concat()
        };
        self.file.append(&bytes, owed)?;
        self.at = link;
        self.unsigned.get_or_insert_with(clock::monotonic);
        self.room
            .with_room(WRITING, || self.state.reached(link))
            .map_err(|error| AuditError::write(&self.state_path, &error))
    }

    fn still_signed(&self) -> Result<(), AuditError> {
        match (&self.failure, self.unsigned) {
            (Some(why), Some(since)) if clock::monotonic() - since > UNSIGNED_MOST => {
                Err(AuditError::Unsigned { why: why.clone() })
            }
            _ => Ok(()),
        }
    }

    fn next_chore(&self) -> Option<Duration> {
        if self.heads.is_under_way() {
            return Some(LOOK_EVERY);
        }
        self.unsigned?;
        Some(self.due.saturating_duration_since(clock::monotonic()))
    }

    fn chores(&mut self) {
        if let Some(result) = self.heads.poll() {
            self.signed(result);
        }
        let now = clock::monotonic();
        if self.unsigned.is_some() && !self.heads.is_under_way() && self.due <= now {
            self.due = now + HEAD_EVERY;
            let at = self.stamp.clock.now();
            if let Some(file) = self.file.handle() {
                self.heads.ask(file, self.at, at);
            }
        }
    }

    /// Puts a head on record, which came while other lines were written perhaps.
    fn signed(&mut self, result: Result<Signed, SigningError>) {
        let written = match result {
            Ok(signed) => self.put_head(&signed),
            Err(error) => {
                tracing::error!("the audit log cannot be signed: {error}");
                self.failure = Some(error);
                return;
            }
        };
        if let Err(error) = written {
            tracing::error!("{error}");
        }
    }

    fn put_head(&mut self, signed: &Signed) -> Result<(), AuditError> {
        let all = signed.over == self.at;
        self.state.synced_to(signed.over.seq);
        let note = signed.note.as_str();
        let event = self.stamp.on(&Event::AuditHead { note }, signed.at)?;
        // The head's own line needs no head: it stands for itself.
        let unsigned = self.unsigned;
        self.append(&event, true)?;
        self.failure = None;
        self.unsigned = if all {
            None
        } else {
            unsigned.map(|_| clock::monotonic())
        };
        self.heads.tell(signed.over);
        Ok(())
    }

    fn last_head(&mut self) {
        let deadline = clock::monotonic() + LAST_HEAD;
        self.due = clock::monotonic();
        while self.unsigned.is_some() && clock::monotonic() < deadline {
            self.chores();
            if self.failure.is_some() {
                return;
            }
            self.due = clock::monotonic();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::clock::ManualClock;
    use jiff::Timestamp;

    /// With its state in a directory of its own.
    fn audit(path: &Path) -> Audit {
        let state = tempfile::tempdir().unwrap().keep();
        Audit::open(
            path,
            &state,
            "main",
            crate::signing::testing::signing(),
            Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
            Room::default(),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn an_event_is_one_line_with_version_time_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        audit(&path).emit(Event::DaemonStopped {}).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let event: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(event["v"], 1);
        assert_eq!(event["event"], "daemon.stopped");
        assert_eq!(event["time"], "1970-01-01T00:00:00Z");
        assert_eq!(event["instance"], "main");
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[tokio::test]
    async fn a_rotated_log_is_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = audit(&path);
        audit.emit(Event::DaemonStopped {}).await.unwrap();
        std::fs::rename(&path, dir.path().join("audit.jsonl.1")).unwrap();
        audit.emit(Event::DaemonStopped {}).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        // Among them may be the head, which comes by itself.
        assert_eq!(text.matches("daemon.stopped").count(), 1, "{text}");
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error() {
        let audit = audit(Path::new("/dev/full"));
        let error = audit.emit(Event::DaemonStopped {}).await.unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }

    /// A writer without its thread.
    pub(in crate::audit) fn writer(directory: &Path, signing: Signing) -> Writer {
        let path = directory.join("audit.jsonl");
        let stamp = Stamp {
            clock: Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
            instance: "main".into(),
        };
        let (heads, _) = Heads::start(signing, &path).unwrap();
        Writer::open(&path, directory, stamp, heads, Room::default()).unwrap()
    }

    impl Writer {
        pub(in crate::audit) fn event(&mut self) -> Result<(), AuditError> {
            self.append(br#"{"v":1,"event":"daemon.stopped"}"#, true)?;
            self.still_signed()
        }

        pub(in crate::audit) fn has_failed(&self) -> bool {
            self.failure.is_some()
        }

        pub(in crate::audit) fn until(&mut self, done: impl Fn(&Self) -> bool) {
            for _ in 0..1000 {
                if done(self) {
                    return;
                }
                self.chores();
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("it never came to that");
        }

        pub(in crate::audit) fn unsigned_for(&mut self, time: Duration) {
            self.unsigned = self.unsigned.map(|since| since - time);
        }
    }
}
