//! Legal holds: `stateDir/holds/ULID.json`.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Keeper;
use super::error::{KeepError, NotDeleted};
use crate::session::SessionId;
use crate::store::StoreError;
use crate::store::papers::Papers;

/// Why a recording must not go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Who said so.
    pub who: String,
    /// Why.
    pub reason: String,
}

/// All holds under a state directory.
#[derive(Clone, Debug)]
pub struct Holds(Papers);

impl Holds {
    /// Nothing is touched yet.
    pub fn new(state_dir: &Path) -> Self {
        Self(Papers::new(state_dir.join("holds")))
    }

    /// All of them.
    pub async fn all(&self) -> Result<BTreeMap<SessionId, Hold>, KeepError> {
        blocking(self, Self::list).await
    }

    fn list(&self) -> Result<BTreeMap<SessionId, Hold>, StoreError> {
        let mut found = BTreeMap::new();
        for session in self.0.ids()? {
            if let Some(hold) = self.of(session)? {
                found.insert(session, hold);
            }
        }
        Ok(found)
    }

    /// The one on a recording. A hold that cannot be understood still holds.
    pub(super) fn of(&self, session: SessionId) -> Result<Option<Hold>, StoreError> {
        if let Some(hold) = self.0.read(session)? {
            return Ok(Some(hold));
        }
        Ok(self.0.ids()?.contains(&session).then(|| Hold {
            since: session.opened(),
            who: "nobody who is known any more".to_owned(),
            reason: "the hold's document is damaged".to_owned(),
        }))
    }
}

impl Keeper {
    /// Holds a recording, and the streams that are part of it, until it is released. `false` if it was held already.
    pub async fn hold(
        &self,
        session: SessionId,
        who: &str,
        reason: &str,
    ) -> Result<bool, KeepError> {
        let _deciding = self.deciding.lock().await;
        // It must be there: a hold on a slip of the pen would protect nothing.
        drop(self.store.open(session).await?);
        let hold = Hold {
            since: self.clock.now(),
            who: who.to_owned(),
            reason: reason.to_owned(),
        };
        blocking(&self.holds, move |holds| match holds.of(session)? {
            Some(_) => Ok(false),
            None => holds.0.write(session, &hold).map(|()| true),
        })
        .await
    }

    /// Whether it is held itself.
    pub async fn is_held(&self, session: SessionId) -> Result<bool, KeepError> {
        blocking(&self.holds, move |holds| Ok(holds.of(session)?.is_some())).await
    }

    /// Ends a hold. `false` if there was none.
    pub async fn release(&self, session: SessionId) -> Result<bool, KeepError> {
        let _deciding = self.deciding.lock().await;
        blocking(&self.holds, move |holds| {
            let held = holds.of(session)?.is_some();
            holds.0.remove(session)?;
            Ok(held)
        })
        .await
    }

    /// Refuses what is held, or part of what is.
    pub(super) async fn not_held(
        &self,
        session: SessionId,
        parent: Option<SessionId>,
    ) -> Result<(), KeepError> {
        let held = blocking(&self.holds, move |holds| {
            for held in [Some(session), parent].into_iter().flatten() {
                if let Some(hold) = holds.of(held)? {
                    return Ok(Some((held, hold)));
                }
            }
            Ok(None)
        })
        .await?;
        match held {
            None => Ok(()),
            Some((session, hold)) => Err(NotDeleted::Held {
                session,
                since: hold.since,
                who: hold.who,
                reason: hold.reason,
            }
            .into()),
        }
    }
}

pub(super) async fn blocking<S: Clone + Send + 'static, T: Send + 'static>(
    of: &S,
    work: impl FnOnce(&S) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, KeepError> {
    let of = of.clone();
    let done = tokio::task::spawn_blocking(move || work(&of)).await;
    Ok(done.map_err(|_| StoreError::WriterGone)??)
}
