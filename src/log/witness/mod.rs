//! Keeps checkpoints where a hand on this log does not reach: only they prove that its end was not cut off.

mod error;
mod following;
mod places;
mod standing;
#[cfg(test)]
mod tests;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

pub use error::WitnessError;
pub use standing::{Failing, Standing, WitnessKind, Witnesses};
pub use webhook::Webhook;

use self::following::Follower;
use self::places::Place;
use self::webhook::Caller;
use super::EvidenceLog;
use crate::audit::Audit;
use crate::clock::Clock;

/// `spec.log.witness`: where new checkpoints go, besides the log's own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Appended to a file (0600 when new), each checkpoint followed by an empty line; meant to lie on another machine.
    pub file: Option<PathBuf>,
    /// To the daemon's own log, at level INFO under the target `bastion_audit::checkpoint`, in one line.
    pub daemon_log: bool,
    /// To the syslog daemon behind this socket, in one line: a JSON string.
    pub syslog: Option<PathBuf>,
    /// Posted to a server.
    pub webhook: Option<Webhook>,
    /// At most this often.
    pub every: Duration,
}

impl Default for Witness {
    fn default() -> Self {
        Self {
            file: None,
            daemon_log: false,
            syslog: None,
            webhook: None,
            every: Duration::from_secs(60),
        }
    }
}

impl Witness {
    /// Follows a log until it is closed, and keeps its last checkpoint too. What cannot be kept is told of once, and tried
    /// again for as long as it takes, with whichever checkpoint is the newest by then: a place that is gone must not stop the
    /// bastion, and none of them waits for another.
    pub async fn follow(
        self,
        log: EvidenceLog,
        audit: Audit,
        clock: Arc<dyn Clock>,
        witnesses: Witnesses,
    ) {
        let heads = log.checkpoints();
        // Not to keep the log's thread alive.
        drop(log);
        let places = self.places(&clock);
        join_all(places.into_iter().map(|place| {
            let follower = Follower {
                place,
                every: self.every,
                audit: audit.clone(),
                clock: Arc::clone(&clock),
                witnesses: witnesses.clone(),
            };
            follower.follow(heads.clone())
        }))
        .await;
    }

    /// What can be found out about each place without writing there: what it is, or why it cannot be used. Blocks.
    pub fn check(
        &self,
        clock: &Arc<dyn Clock>,
    ) -> Vec<(WitnessKind, Result<String, WitnessError>)> {
        let places = self.places(clock);
        let checked = places.iter().map(|place| (place.kind(), place.check()));
        checked.collect()
    }

    fn places(&self, clock: &Arc<dyn Clock>) -> Vec<Place> {
        let file = self.file.clone().map(Place::File);
        let daemon_log = self.daemon_log.then_some(Place::DaemonLog);
        let syslog = self.syslog.clone().map(|socket| Place::Syslog {
            socket,
            clock: Arc::clone(clock),
        });
        let webhook = self
            .webhook
            .clone()
            .map(|it| Place::Webhook(Caller::new(it)));
        [file, daemon_log, syslog, webhook]
            .into_iter()
            .flatten()
            .collect()
    }
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
