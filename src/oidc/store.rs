//! Sign-ons in force, and the same on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::file::Found;
use super::{SignOn, SignOnFile, SignOnFileError, SignOns};
use crate::config::Name;
use crate::config::watch::InForce;

/// At once.
pub(super) const MOST: usize = 10_000;
/// Of one identity: of more the oldest goes.
const MOST_OF_ONE: usize = 16;

/// What keeps sign-ons. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SignOnStore {
    kept: Arc<tokio::sync::Mutex<Kept>>,
    in_force: InForce,
}

#[derive(Debug)]
struct Kept {
    file: SignOnFile,
    by_key: BTreeMap<String, SignOn>,
}

/// Why a provider's word is not kept, and so does not count.
#[derive(Debug, thiserror::Error)]
pub enum NotBound {
    /// There are too many.
    #[error("{MOST} keys are signed on, which is the limit")]
    TooMany,
    /// The disk does not take it.
    #[error(transparent)]
    File(#[from] SignOnFileError),
    /// The write died, which is a defect of this program.
    #[error("writing the sign-on died; restart the daemon and look")]
    Died,
}

/// Why somebody is signed on after all.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// It is removed now, and was not kept.
    #[error("it is removed now, but a restart of the daemon would bring it back: {0}")]
    UntilRestart(#[source] SignOnFileError),
    /// The write died, which is a defect of this program.
    #[error("writing the sign-ons died; restart the daemon and look")]
    Died,
}

/// Whose sign-ons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of one key, `SHA256:...`.
    Key(String),
    /// Of all keys of an identity.
    Identity(Name),
}

impl Whose {
    fn is(&self, sign_on: &SignOn) -> bool {
        match self {
            Self::Key(fingerprint) => sign_on.fingerprint == *fingerprint,
            Self::Identity(name) => sign_on.identity == *name,
        }
    }
}

/// What became of a removal. It is in force at once, whatever the disk says.
#[derive(Debug)]
pub struct Removed {
    /// Which.
    pub sign_ons: Vec<SignOn>,
    /// Why a restart would bring them back.
    pub not_kept: Option<NotRemoved>,
}

impl SignOnStore {
    /// Puts the sign-ons of a file in force.
    pub fn begin(file: SignOnFile, found: Found, in_force: InForce) -> Self {
        let by_key = found
            .0
            .into_iter()
            .map(|one| (one.fingerprint.clone(), one));
        let kept = Kept {
            file,
            by_key: by_key.collect(),
        };
        in_force.change_sign_ons(kept.in_force());
        Self {
            kept: Arc::new(tokio::sync::Mutex::new(kept)),
            in_force,
        }
    }

    /// Has a provider's word count, on disk and then in force. What counted for that key before counts no more.
    ///
    /// # Errors
    ///
    /// If the disk does not take it, or there are too many.
    pub async fn bind(&self, sign_on: SignOn, now: Timestamp) -> Result<(), NotBound> {
        let in_force = self.in_force.clone();
        let bind = move |kept: &mut Kept| {
            let mut changed = kept.by_key.clone();
            changed.retain(|_, one| now < one.until);
            changed.remove(&sign_on.fingerprint);
            make_way(&mut changed, &sign_on.identity);
            if changed.len() >= MOST {
                return Err(NotBound::TooMany);
            }
            changed.insert(sign_on.fingerprint.clone(), sign_on);
            kept.file.put(changed.values().cloned().collect())?;
            kept.by_key = changed;
            in_force.change_sign_ons(kept.in_force());
            Ok(())
        };
        self.blocking(bind).await.unwrap_or(Err(NotBound::Died))
    }

    /// Removes sign-ons at once, and then from the disk.
    pub async fn remove(&self, whose: Whose) -> Removed {
        let in_force = self.in_force.clone();
        let remove = move |kept: &mut Kept| {
            let (gone, left): (Vec<SignOn>, Vec<SignOn>) = std::mem::take(&mut kept.by_key)
                .into_values()
                .partition(|one| whose.is(one));
            let left = left.into_iter().map(|one| (one.fingerprint.clone(), one));
            kept.by_key = left.collect();
            if gone.is_empty() {
                return (gone, None);
            }
            in_force.change_sign_ons(kept.in_force());
            let put = kept.file.put(kept.by_key.values().cloned().collect());
            (gone, put.err().map(NotRemoved::UntilRestart))
        };
        let (sign_ons, not_kept) = self
            .blocking(remove)
            .await
            .unwrap_or((Vec::new(), Some(NotRemoved::Died)));
        Removed { sign_ons, not_kept }
    }

    /// Those whose time is not over, by identity and then by key.
    pub async fn list(&self, now: Timestamp) -> Vec<SignOn> {
        let kept = self.kept.lock().await;
        let standing = kept.by_key.values().filter(|one| now < one.until);
        let mut listed: Vec<SignOn> = standing.cloned().collect();
        listed.sort_by(|one, other| one.identity.cmp(&other.identity));
        listed
    }

    /// Off the runtime's threads. Who gives up waiting does not stop it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Kept) -> T + Send + 'static,
    ) -> Option<T> {
        let mut kept: OwnedMutexGuard<Kept> = Arc::clone(&self.kept).lock_owned().await;
        tokio::task::spawn_blocking(move || work(&mut kept))
            .await
            .ok()
    }
}

impl Kept {
    fn in_force(&self) -> SignOns {
        SignOns::these(self.by_key.values().cloned())
    }
}

/// Whoever comes with one key after the other does not fill the file.
fn make_way(by_key: &mut BTreeMap<String, SignOn>, identity: &Name) {
    let mut own: Vec<(Timestamp, String)> = by_key
        .values()
        .filter(|one| one.identity == *identity)
        .map(|one| (one.since, one.fingerprint.clone()))
        .collect();
    own.sort();
    let too_many = (own.len() + 1).saturating_sub(MOST_OF_ONE);
    for (_, fingerprint) in own.into_iter().take(too_many) {
        by_key.remove(&fingerprint);
    }
}
