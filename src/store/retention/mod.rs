//! When recordings go: by age and role, or by an administrator's word; never what is held, never what is not closed and, if
//! there is a bucket, acknowledged.
//!
//! A deletion is on record before the files go: what was there, who wanted it gone and why outlives the recording. One
//! that a crash or an outage cut short is finished later, without being asked for again.

mod deletion;
mod error;
mod hold;
mod proof;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

pub use deletion::under_way;
pub use error::{KeepError, NotDeleted};
pub use hold::{Hold, Holds};

use self::deletion::Deletions;
use super::s3::Bucket;
use super::settled::settled;
use super::ship::Shipper;
use super::{FsStore, RecordingStore, Span, StoreError};
use crate::clock::Clock;
use crate::config::{Retention, show_age};
use crate::recording::{Manifest, ReadError};
use crate::session::SessionId;

/// What it is called where it is told that it died.
pub const TASK: &str = "retention";

/// How often ages are looked at.
const EVERY: Duration = Duration::from_secs(3600);

/// Puts deletions on record, for good, before they are done, and knows what the daemon signed.
#[async_trait]
pub trait Evidence: Send + Sync + std::fmt::Debug {
    /// When this returns, the record survives a power cut. If it fails, nothing is deleted.
    async fn deleted(&self, deleted: &Deleted) -> Result<(), String>;

    /// Whether one of this daemon's keys, the present one or an earlier one, signed this checkpoint.
    fn is_ours(&self, note: &str) -> bool;
}

/// A recording that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Which one.
    pub session: SessionId,
    /// When it was decided.
    pub at: Timestamp,
    /// Who wanted it gone: `retention`, or `uid N`.
    pub who: String,
    /// Why.
    pub why: String,
}

/// Keeps recordings until they may go.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<dyn RecordingStore>,
    local: FsStore,
    remote: Option<Remote>,
    holds: Holds,
    deletions: Deletions,
    evidence: Arc<dyn Evidence>,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    /// One decision at a time: a hold that was answered is a hold that counts.
    deciding: tokio::sync::Mutex<()>,
    ages: Mutex<std::collections::BTreeMap<SessionId, Age>>,
}

/// The bucket, and what brings recordings there.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where they lie.
    pub bucket: Arc<Bucket>,
    /// Who knows which of those that are here it has.
    pub shipper: Arc<Shipper>,
}

/// What a closed recording's age is reckoned from. It does not change, so each is read once.
#[derive(Clone, Debug)]
struct Age {
    closed: Timestamp,
    role: crate::config::Name,
}

impl Keeper {
    /// Reads nothing yet. `store` is where recordings are read from, `local` and `remote` where they lie.
    pub fn new(
        state_dir: &Path,
        store: Arc<dyn RecordingStore>,
        local: FsStore,
        remote: Option<Remote>,
        evidence: Arc<dyn Evidence>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            local,
            remote,
            holds: Holds::new(state_dir),
            deletions: Deletions::new(state_dir),
            evidence,
            started: clock.now(),
            clock,
            deciding: tokio::sync::Mutex::default(),
            ages: Mutex::default(),
        }
    }

    /// Looks at ages now and then until it is dropped, by what `retention` says at the time.
    pub async fn run(self: Arc<Self>, retention: impl Fn() -> Retention + Send) {
        loop {
            self.finish().await;
            if let Err(error) = self.pass(&retention()).await {
                tracing::warn!(%error, "the ages of recordings could not be looked at");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Deletes everything whose time is over. How many went.
    pub async fn pass(&self, retention: &Retention) -> Result<usize, KeepError> {
        let now = self.clock.now();
        let before = |age: Duration| {
            let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
            now.saturating_sub(age).ok()
        };
        // What was begun later cannot be older. Without any rule, nothing is even looked at.
        let Some(until) = retention.shortest().and_then(before) else {
            return Ok(0);
        };
        let span = Span {
            since: None,
            until: Some(until),
        };
        let mut gone = 0_usize;
        for session in self.store.list(span).await? {
            let Some(age) = self.age(session).await? else {
                continue;
            };
            let Some(keep) = retention.of(&age.role) else {
                continue;
            };
            if before(keep).is_none_or(|limit| age.closed > limit) {
                continue;
            }
            let why = format!(
                "{} after it was closed, for role {}",
                show_age(keep),
                age.role
            );
            match self.delete(session, "retention", &why).await {
                Ok(()) => gone = gone.saturating_add(1),
                Err(KeepError::Not(reason @ NotDeleted::Unproven { .. })) => {
                    tracing::error!("{reason}");
                }
                Err(KeepError::Not(reason)) => tracing::debug!(%session, "it stays: {reason}"),
                Err(error) => tracing::warn!(%session, "it could not be deleted: {error}"),
            }
        }
        Ok(gone)
    }

    async fn age(&self, session: SessionId) -> Result<Option<Age>, KeepError> {
        if let Some(age) = self.ages().get(&session) {
            return Ok(Some(age.clone()));
        }
        match self.manifest(session).await {
            Ok(Some(manifest)) => {
                let age = Age {
                    closed: manifest.closed,
                    role: manifest.session.role,
                };
                self.ages().insert(session, age.clone());
                Ok(Some(age))
            }
            Ok(None) => Ok(None),
            Err(KeepError::Read(ReadError::Store(StoreError::NotFound(_)))) => Ok(None),
            Err(KeepError::Not(reason)) => {
                tracing::error!("{reason}");
                Ok(None)
            }
            Err(KeepError::Read(error @ ReadError::Manifest(_))) => {
                // Whoever cannot be asked how old it is, stays.
                tracing::warn!(%session, "it stays: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What the daemon signed, of a recording that has come to rest.
    async fn manifest(&self, session: SessionId) -> Result<Option<Manifest>, KeepError> {
        let files = self.store.open(session).await.map_err(ReadError::from)?;
        match settled(&*files, self.started, self.clock.now()).await? {
            // Read anew: what is obeyed is what was proven.
            Some(_) => proof::proven(session, &*files, &*self.evidence)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    fn ages(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<SessionId, Age>> {
        self.ages
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
