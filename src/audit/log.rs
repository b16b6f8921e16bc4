//! The audit log's file: one writer thread, reopened when it was rotated away.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::Event;
use crate::clock::Clock;

/// Lines under way to the disk. A full queue makes whoever wants to write wait.
const QUEUE: usize = 1024;

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
    /// The writer is gone; the daemon is stopping.
    #[error("the audit log is closed")]
    Closed,
    /// The event could not be serialized.
    #[error("an audit event could not be written as JSON: {0}")]
    Json(String),
}

/// A handle to the audit log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    lines: mpsc::Sender<Line>,
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
}

#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    written: oneshot::Sender<Result<(), AuditError>>,
}

/// An event as it stands in the file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stamped<'a> {
    v: u8,
    time: jiff::Timestamp,
    instance: &'a str,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl Audit {
    /// Opens the log for appending (0600 when new) and starts its writer, which ends with the last handle.
    pub fn open(path: &Path, instance: &str, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        let mut log = LogFile::open(path)?;
        let (lines, mut queue) = mpsc::channel::<Line>(QUEUE);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || {
                while let Some(line) = queue.blocking_recv() {
                    // The asker may be gone; the line is written all the same.
                    drop(line.written.send(log.append(&line.text)));
                }
            })
            .map_err(|error| AuditError::Write {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            lines,
            clock,
            instance: instance.into(),
        })
    }

    /// Puts an event on record. Returns once it has reached the kernel.
    pub async fn emit(&self, event: Event<'_>) -> Result<(), AuditError> {
        let stamped = Stamped {
            v: 1,
            time: self.clock.now(),
            instance: &self.instance,
            event: &event,
        };
        let mut text =
            serde_json::to_vec(&stamped).map_err(|error| AuditError::Json(error.to_string()))?;
        tracing::info!(target: "bastion_audit::audit", "{}", String::from_utf8_lossy(&text));
        text.push(b'\n');
        let (written, answer) = oneshot::channel();
        self.lines
            .send(Line { text, written })
            .await
            .map_err(|_| AuditError::Closed)?;
        answer.await.map_err(|_| AuditError::Closed)?
    }

    /// Puts an event on record that tells of something that has happened already: a failure cannot undo
    /// it, so it is told to `tracing`.
    pub async fn tell(&self, event: Event<'_>) {
        if let Err(error) = self.emit(event).await {
            tracing::error!("{error}");
        }
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// The last write failed, perhaps in mid-line: the next line must not be glued to its beginning.
    torn: bool,
}

impl LogFile {
    fn open(path: &Path) -> Result<Self, AuditError> {
        let (file, torn) = open_append(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            torn,
        })
    }

    fn append(&mut self, line: &[u8]) -> Result<(), AuditError> {
        self.follow_rotation()?;
        let write = |mut file: &File, torn: bool| {
            if torn {
                file.write_all(b"\n")?;
            }
            file.write_all(line)
        };
        let written = write(&self.file, self.torn);
        self.torn = written.is_err();
        written.map_err(|error| failed(&self.path, &error))
    }

    /// logrotate renames the file: whoever reads the path wants the new one.
    fn follow_rotation(&mut self) -> Result<(), AuditError> {
        let open = self
            .file
            .metadata()
            .map_err(|error| failed(&self.path, &error))?;
        let same = std::fs::metadata(&self.path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino()));
        if !same {
            (self.file, self.torn) = open_append(&self.path)?;
        }
        Ok(())
    }
}

/// The file, and whether it ends in mid-line: the daemon before this one may have died of a full disk.
fn open_append(path: &Path) -> Result<(File, bool), AuditError> {
    let open = || {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut last = *b"\n";
        if let Some(at) = file.metadata()?.len().checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        Ok((file, last != *b"\n"))
    };
    open().map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> AuditError {
    AuditError::Write {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use jiff::Timestamp;

    fn audit(path: &Path) -> Audit {
        Audit::open(
            path,
            "main",
            Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
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
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[tokio::test]
    async fn a_line_that_an_earlier_daemon_did_not_finish_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, "{\"v\":1,\"ti").unwrap();
        audit(&path).emit(Event::DaemonStopped {}).await.unwrap();
        audit(&path).emit(Event::DaemonStopped {}).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(text.lines().filter(whole).count(), 2, "{text}");
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error() {
        let audit = audit(Path::new("/dev/full"));
        let error = audit.emit(Event::DaemonStopped {}).await.unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }
}
