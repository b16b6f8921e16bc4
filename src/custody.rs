//! What becomes of recordings once they are closed: shipped, held, deleted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{Audit, AuditError, Event};
use crate::clock::Clock;
use crate::config::Config;
use crate::log::{EvidenceLog, Leaf};
use crate::recording::Notary;
use crate::replay::Marks;
use crate::session::SessionId;
use crate::store::retention::{self, Deleted, Evidence, Holds, KeepError, Keeper, Remote};
use crate::store::s3::{Bucket, BucketError, S3Store};
use crate::store::ship::{self, Pace, ShipError, Shipper, Waiting};
use crate::store::{FsStore, RecordingStore, Span, StoreError};
use crate::supervise::Supervisor;

/// Longest reason that somebody gives, in bytes.
const LONGEST_REASON: usize = 500;

/// Why recordings cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The bucket cannot be opened.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The local store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue cannot be read.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// It is not deleted, not held, not released.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// It could not be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Without a reason nobody will know why.
    #[error("give a reason: one line, at most {LONGEST_REASON} bytes")]
    Reason,
}

/// Looks after closed recordings.
#[derive(Debug)]
pub struct Custody {
    keeper: Arc<Keeper>,
    shipper: Option<Arc<Shipper>>,
    audit: Audit,
    supervisor: Supervisor,
    state_dir: PathBuf,
}

/// What keeps the recordings under `state_dir`, by what is on disk: for who is not the daemon. `ships`: there is an object
/// store.
pub async fn marks_on_disk(state_dir: &Path, ships: bool) -> Result<Marks, CustodyError> {
    let unshipped = if ships {
        let here = FsStore::new(state_dir).list(Span::default()).await?;
        let acknowledged = ship::acknowledged_on_disk(state_dir).await?;
        let waits = |session: &SessionId| !acknowledged.contains_key(session);
        here.into_iter().filter(waits).collect()
    } else {
        BTreeSet::new()
    };
    Ok(Marks {
        ships,
        unshipped,
        holds: Holds::new(state_dir).all().await?,
    })
}

impl Custody {
    /// Opens the store that `config` names behind `local`, and what looks after it. Nothing is shipped or deleted before
    /// [`Self::spawn`].
    pub async fn open(
        config: &Config,
        local: &FsStore,
        log: &EvidenceLog,
        notary: &Arc<dyn Notary>,
        audit: &Audit,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Arc<dyn RecordingStore>), CustodyError> {
        let state_dir = &config.bastion.state_dir;
        let mut store: Arc<dyn RecordingStore> = Arc::new(local.clone());
        let mut remote = None;
        if let Some(s3) = &config.bastion.recordings.s3 {
            let bucket = Arc::new(Bucket::open(s3, Arc::clone(clock))?);
            let shipper = Shipper::open(
                state_dir,
                local.clone(),
                Arc::clone(&bucket),
                s3.keep_local,
                Arc::clone(clock),
                audit.clone(),
                Pace::default(),
            )
            .await?;
            store = Arc::new(S3Store::new(local.clone(), Arc::clone(&bucket)));
            remote = Some(Remote {
                bucket,
                shipper: Arc::new(shipper),
            });
        }
        let shipper = remote.as_ref().map(|remote| Arc::clone(&remote.shipper));
        let supervisor = match &shipper {
            Some(shipper) => shipper.supervisor().clone(),
            None => Supervisor::new(audit.clone()),
        };
        let evidence = Arc::new(OnRecord {
            log: log.clone(),
            notary: Arc::clone(notary),
            audit: audit.clone(),
        });
        let keeper = Keeper::new(
            state_dir,
            Arc::clone(&store),
            local.clone(),
            remote,
            evidence,
            Arc::clone(clock),
        );
        keeper.prepare().await?;
        let custody = Self {
            keeper: Arc::new(keeper),
            shipper,
            audit: audit.clone(),
            supervisor,
            state_dir: state_dir.clone(),
        };
        Ok((custody, store))
    }

    /// Ships, and deletes what is over; what dies of it is told of and begun again. Ends when what is returned is dropped.
    pub fn spawn(&self, config: watch::Receiver<Arc<Config>>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if let Some(shipper) = &self.shipper {
            let shipper = Arc::clone(shipper);
            let run = move || Arc::clone(&shipper).run();
            tasks.spawn(self.supervisor.clone().run(ship::TASK, run));
        }
        let keeper = Arc::clone(&self.keeper);
        let run = move || {
            let config = config.clone();
            let retention = move || config.borrow().bastion.recordings.retention.clone();
            Arc::clone(&keeper).run(retention)
        };
        tasks.spawn(self.supervisor.clone().run(retention::TASK, run));
        tasks
    }

    /// What begins the daemon's tasks again.
    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// How often each task has died.
    pub fn deaths(&self) -> Vec<(&'static str, u64)> {
        self.supervisor.deaths()
    }

    /// What keeps recordings, and what they wait for.
    pub async fn marks(&self) -> Result<Marks, CustodyError> {
        marks_on_disk(&self.state_dir, self.shipper.is_some()).await
    }

    /// Whether closed recordings are shipped.
    pub fn ships(&self) -> bool {
        self.shipper.is_some()
    }

    /// What the object store does not have yet, oldest first.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.shipper
            .as_ref()
            .map(|shipper| shipper.waiting())
            .unwrap_or_default()
    }

    /// Holds a recording until it is released. `false` if it was held already.
    pub async fn hold(
        &self,
        session: SessionId,
        who: &str,
        reason: &str,
    ) -> Result<bool, CustodyError> {
        check_reason(reason)?;
        let changed = self.keeper.hold(session, who, reason).await?;
        if changed {
            let event = Event::RecordingHeld {
                session,
                who,
                reason,
            };
            self.audit.emit(event).await?;
        }
        Ok(changed)
    }

    /// Ends a hold. `false` if there was none.
    pub async fn release(&self, session: SessionId, who: &str) -> Result<bool, CustodyError> {
        if !self.keeper.is_held(session).await? {
            return Ok(false);
        }
        // First: a hold that ends unseen is worse than one that was said to end and did not.
        let event = Event::RecordingReleased { session, who };
        self.audit.emit(event).await?;
        Ok(self.keeper.release(session).await?)
    }

    /// Deletes a recording.
    pub async fn delete(
        &self,
        session: SessionId,
        who: &str,
        reason: &str,
    ) -> Result<(), CustodyError> {
        check_reason(reason)?;
        Ok(self.keeper.delete(session, who, reason).await?)
    }
}

fn check_reason(reason: &str) -> Result<(), CustodyError> {
    let fine = !reason.trim().is_empty()
        && reason.len() <= LONGEST_REASON
        && !reason.chars().any(char::is_control);
    if fine {
        Ok(())
    } else {
        Err(CustodyError::Reason)
    }
}

/// Deletions in the log of recordings, and among the audit events.
#[derive(Debug)]
struct OnRecord {
    log: EvidenceLog,
    notary: Arc<dyn Notary>,
    audit: Audit,
}

#[async_trait]
impl Evidence for OnRecord {
    async fn deleted(&self, deleted: &Deleted) -> Result<(), String> {
        let leaf = Leaf::Deleted {
            session: deleted.session,
            at: deleted.at,
            who: deleted.who.clone(),
            why: deleted.why.clone(),
        };
        let appended = self.log.append(leaf).await;
        appended.map_err(|error| error.to_string())?;
        let event = Event::RecordingDeleted {
            session: deleted.session,
            who: &deleted.who,
            reason: &deleted.why,
        };
        let emitted = self.audit.emit(event).await;
        emitted.map_err(|error| error.to_string())
    }

    fn is_ours(&self, note: &str) -> bool {
        self.notary.is_ours(note)
    }
}
