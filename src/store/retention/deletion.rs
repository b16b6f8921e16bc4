//! A deletion, step by step: `stateDir/deletions/ULID.json` says how far it is.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{KeepError, NotDeleted};
use super::hold::blocking;
use super::{Deleted, Keeper};
use crate::recording::ReadError;
use crate::session::SessionId;
use crate::store::papers::Papers;
use crate::store::{Part, RecordingStore, StoreError};

/// Those that are not done.
#[derive(Clone, Debug)]
pub(super) struct Deletions(Papers);

/// One that is not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    at: Timestamp,
    who: String,
    why: String,
    /// It is on record: from here on there is no way back.
    recorded: bool,
}

impl Deletions {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(Papers::new(state_dir.join("deletions")))
    }

    fn ids(&self) -> Result<BTreeSet<SessionId>, StoreError> {
        self.0.ids()
    }
}

/// The deletions under a state directory that were begun and are not finished: for who is not the daemon. Blocks.
pub fn under_way(state_dir: &Path) -> Result<BTreeSet<SessionId>, StoreError> {
    Deletions::new(state_dir).ids()
}

impl Keeper {
    /// Deletes a recording, after it was put on record that, by whom and why. An error after that is an outage: the rest is
    /// done when it is over.
    pub async fn delete(&self, session: SessionId, who: &str, why: &str) -> Result<(), KeepError> {
        let _deciding = self.deciding.lock().await;
        self.may_go(session).await?;
        let intent = Intent {
            at: self.clock.now(),
            who: who.to_owned(),
            why: why.to_owned(),
            recorded: false,
        };
        self.note(session, &intent).await?;
        self.carry_out(session, intent).await
    }

    /// Keeps what an earlier daemon had begun to delete from being shipped again. Before anything is shipped.
    pub async fn prepare(&self) -> Result<(), KeepError> {
        self.local.finish_removals().await?;
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        for session in blocking(&self.deletions, Deletions::ids).await? {
            remote.shipper.deleting(session);
        }
        Ok(())
    }

    /// Finishes what was begun and cut short.
    pub async fn finish(&self) {
        let begun = match blocking(&self.deletions, Deletions::ids).await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::error!(%error, "the deletions that were begun cannot be looked at");
                return;
            }
        };
        for session in begun {
            if let Err(error) = self.finish_one(session).await {
                tracing::warn!(%session, "its deletion is not finished yet: {error}");
            }
        }
    }

    async fn finish_one(&self, session: SessionId) -> Result<(), KeepError> {
        let _deciding = self.deciding.lock().await;
        let read = move |deletions: &Deletions| deletions.0.read::<Intent>(session);
        let Some(intent) = blocking(&self.deletions, read).await? else {
            return Ok(());
        };
        if !intent.recorded {
            // Nothing was done yet. What was decided then must hold now, too.
            match self.may_go(session).await {
                Ok(()) => {}
                Err(KeepError::Not(reason)) => {
                    tracing::info!(%session, "its deletion was begun and is given up: {reason}");
                    return self.strike_out(session).await;
                }
                Err(KeepError::Read(ReadError::Store(StoreError::NotFound(_)))) => {
                    return self.strike_out(session).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.carry_out(session, intent).await
    }

    async fn may_go(&self, session: SessionId) -> Result<(), KeepError> {
        let Some(manifest) = self.manifest(session).await? else {
            return Err(NotDeleted::Open(session).into());
        };
        let parent = manifest.session.parent.map(|parent| parent.session);
        self.not_held(session, parent).await?;
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        match self.local.open(session).await {
            // Only the bucket has it: it was acknowledged before the local copy went.
            Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) if remote.shipper.is_acknowledged(session) => Ok(()),
            Ok(_) => Err(NotDeleted::NotShipped(session).into()),
        }
    }

    async fn carry_out(&self, session: SessionId, mut intent: Intent) -> Result<(), KeepError> {
        if !intent.recorded {
            let deleted = Deleted {
                session,
                at: intent.at,
                who: intent.who.clone(),
                why: intent.why.clone(),
            };
            if let Err(why) = self.evidence.deleted(&deleted).await {
                self.strike_out(session).await?;
                return Err(KeepError::Evidence(why));
            }
            intent.recorded = true;
            self.note(session, &intent).await?;
        }
        self.remove(session).await?;
        self.ages().remove(&session);
        self.strike_out(session).await
    }

    async fn remove(&self, session: SessionId) -> Result<(), KeepError> {
        if let Some(remote) = &self.remote {
            remote.shipper.deleting(session);
            // The manifest first: without it there is no recording for anybody.
            for part in Part::ALL.into_iter().rev() {
                let key = remote.bucket.key(session, part);
                remote.bucket.delete(&key).await?;
            }
        }
        self.local.remove(session).await?;
        if let Some(remote) = &self.remote {
            remote.shipper.deleted(session).await?;
        }
        Ok(())
    }

    async fn note(&self, session: SessionId, intent: &Intent) -> Result<(), KeepError> {
        let intent = intent.clone();
        blocking(&self.deletions, move |deletions| {
            deletions.0.write(session, &intent)
        })
        .await
    }

    async fn strike_out(&self, session: SessionId) -> Result<(), KeepError> {
        blocking(&self.deletions, move |deletions| {
            deletions.0.remove(session)
        })
        .await
    }
}
