//! Keeps checkpoints where a hand on this log does not reach: only they prove that its end was not cut off.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::head::Head;
use super::{EvidenceLog, LogError};

/// `spec.log.witness`: where new checkpoints go, besides the log's own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Appended to a file (0600 when new), each checkpoint followed by an empty line; meant to lie on another machine.
    pub file: Option<PathBuf>,
    /// To the daemon's own log, at level INFO under the target `bastion_audit::checkpoint`, in one line.
    pub daemon_log: bool,
    /// At most this often.
    pub every: Duration,
}

impl Default for Witness {
    fn default() -> Self {
        Self {
            file: None,
            daemon_log: false,
            every: Duration::from_secs(60),
        }
    }
}

impl Witness {
    /// Follows a log until it is closed, and keeps its last checkpoint too. A file that cannot be written is told of and
    /// tried again with the next checkpoint: a share that is gone must not stop the bastion.
    pub async fn follow(self, log: EvidenceLog) {
        let mut heads = log.checkpoints();
        // Not to keep the log's thread alive.
        drop(log);
        if self.file.is_none() && !self.daemon_log {
            return;
        }
        let mut kept = None;
        loop {
            let head = Arc::clone(&heads.borrow_and_update());
            if kept != Some(head.size()) && self.keep(&head).await {
                kept = Some(head.size());
            }
            if wait(&mut heads, self.every).await.is_err() {
                let last = Arc::clone(&heads.borrow());
                if kept != Some(last.size()) {
                    self.keep(&last).await;
                }
                return;
            }
        }
    }

    async fn keep(&self, head: &Arc<Head>) -> bool {
        if self.daemon_log {
            let note = head.note().as_str();
            tracing::info!(target: "bastion_audit::checkpoint", size = head.size(), note, "the log's head");
        }
        let Some(file) = self.file.clone() else {
            return true;
        };
        let head = Arc::clone(head);
        // A share may hang; that must hold up nobody else.
        let kept = tokio::task::spawn_blocking(move || append(&file, &head)).await;
        match kept {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!("the log's checkpoint was not kept: {error}");
                false
            }
            Err(_) => false,
        }
    }
}

/// Until there is a newer head, and no sooner than `every`. An error: there will be none.
async fn wait(
    heads: &mut watch::Receiver<Arc<Head>>,
    every: Duration,
) -> Result<(), watch::error::RecvError> {
    let mut over = heads.clone();
    tokio::select! {
        () = tokio::time::sleep(every) => {}
        // The log was closed: nothing more comes, and its last head must not be late.
        () = closed(&mut over) => {}
    }
    heads.changed().await
}

async fn closed(heads: &mut watch::Receiver<Arc<Head>>) {
    while heads.changed().await.is_ok() {}
}

/// The notes in a file of checkpoints that follow each other, whoever put them there. A last one without an end is left
/// out: it was being written.
pub fn witness_notes(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(file);
    let (mut notes, mut note) = (Vec::new(), String::new());
    for line in text.split_inclusive('\n') {
        let signs = line.starts_with("\u{2014} ");
        let after_signatures = note
            .lines()
            .last()
            .is_some_and(|it| it.starts_with('\u{2014}'));
        if after_signatures && !signs {
            notes.push(std::mem::take(&mut note));
        }
        if !note.is_empty() || !line.trim().is_empty() {
            note.push_str(line);
        }
    }
    if note.ends_with('\n') {
        notes.push(note);
    }
    notes
}

fn append(path: &Path, head: &Head) -> Result<(), LogError> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(LogError::io(path, "opening"))?;
    let note = format!("{}\n", head.note().as_str());
    file.write_all(note.as_bytes())
        .and_then(|()| file.sync_data())
        .map_err(LogError::io(path, "writing"))
}
