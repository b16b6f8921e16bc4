//! Enrolments in force, and the same on disk: which code is accepted, once, and after how many wrong ones none is looked at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::OwnedMutexGuard;

use super::code::{NoRandomness, Typed, is_same, recovery_codes};
use super::file::{Enrolment, Found};
use super::remembered::Remembered;
use super::{Enrolled, Hidden, Listed, MOST, Passed, Secret, TotpFile, TotpFileError};
use crate::clock::to_the_second;
use crate::config::Name;
use crate::config::watch::InForce;
use crate::identity::Identity;
use crate::locks::Target;
use crate::policy;

/// Wrong codes in a row that cost nothing.
const FREE: u32 = 4;
/// The wait after the next one, in seconds; each further one doubles it,
const FIRST_WAIT: i64 = 60;
/// up to here.
const LONGEST_WAIT: i64 = 3600;

/// What checks codes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Codes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One at a time: of two who type the same code at the same time one has it.
    kept: Arc<tokio::sync::Mutex<Kept>>,
    remembered: Mutex<Remembered>,
    in_force: InForce,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// A code that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What goes with the identity from now on.
    pub passed: Passed,
    /// How many recovery codes are left, if it was one.
    pub recovery_left: Option<usize>,
}

/// Why a code was not accepted. May be told to whom it is about, whose key has signed.
#[derive(Debug, thiserror::Error)]
pub enum CodeRefused {
    /// It is not one that is good now.
    #[error("the code is wrong")]
    Wrong,
    /// It was accepted before.
    #[error("the code was used already; wait for the next one")]
    Used,
    /// It was not looked at.
    #[error("too many wrong codes were typed: none is looked at before {}, but for recovery codes", to_the_second(*.until))]
    TooMany {
        /// Until when.
        until: Timestamp,
    },
    /// There is nothing to check it by.
    #[error("nobody is enrolled under this name")]
    NotEnrolled,
    /// It was right, and cannot be kept from being used again.
    #[error("that the code is used up cannot be written down, so it is not accepted: {0}")]
    NotKept(#[source] TotpFileError),
    /// The check died, which is a defect of this program.
    #[error("checking the code died")]
    Died,
}

/// Why somebody is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum NotEnrolled {
    /// They are already.
    #[error("{0} is enrolled already; remove that enrolment first: bastion-audit totp remove {0}")]
    Already(Name),
    /// The code that was to show that their authenticator works.
    #[error("that code is wrong: is the clock of the authenticator right, and this host's?")]
    WrongCode,
    /// There are too many.
    #[error("{MOST} identities are enrolled, which is the limit")]
    TooMany,
    /// No recovery codes could be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The disk does not take it.
    #[error(transparent)]
    File(#[from] TotpFileError),
    /// The write died, which is a defect of this program.
    #[error("writing the enrolment died; restart the daemon and look")]
    Died,
}

/// Why somebody is enrolled after all.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// It is removed now, and was not kept.
    #[error("it is removed now, but a restart of the daemon would bring it back: {0}")]
    UntilRestart(#[source] TotpFileError),
    /// The write died, which is a defect of this program.
    #[error("writing the enrolments died; restart the daemon and look")]
    Died,
}

/// What became of a removal. It is in force at once, whatever the disk says.
#[derive(Debug)]
pub struct Removed {
    /// Whether they were enrolled.
    pub was: bool,
    /// Why a restart would bring it back.
    pub not_kept: Option<NotRemoved>,
}

#[derive(Debug)]
struct Kept {
    file: TotpFile,
    enrolments: BTreeMap<Name, Enrolment>,
    /// Since the last right one. In memory only, of enrolled identities only.
    wrong: BTreeMap<Name, Wrong>,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    times: u32,
    not_before: Timestamp,
}

impl Codes {
    /// Puts the enrolments of a file in force.
    pub fn begin(file: TotpFile, found: Found, in_force: InForce) -> Self {
        let enrolments = found.0.into_iter().map(|one| (one.identity.clone(), one));
        let kept = Kept {
            file,
            enrolments: enrolments.collect(),
            wrong: BTreeMap::new(),
        };
        in_force.change_enrolled(kept.enrolled());
        Self(Arc::new(Inner {
            kept: Arc::new(tokio::sync::Mutex::new(kept)),
            remembered: Mutex::default(),
            in_force,
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// Checks what somebody typed whose key has signed on this connection. An accepted code is used up on disk before this returns.
    ///
    /// # Errors
    ///
    /// Why it is not accepted. Only what may have been a guess counts against further ones.
    pub async fn accept(
        &self,
        identity: &Identity,
        typed: &Hidden,
        now: Timestamp,
        remember: Duration,
    ) -> Result<Accepted, CodeRefused> {
        let (name, typed) = (identity.name().clone(), Typed::read(typed.expose()));
        let check = move |kept: &mut Kept| kept.accept(&name, &typed, now);
        let checked = self.blocking(check).await.unwrap_or(Err(CodeRefused::Died));
        let count = if checked.is_ok() {
            &self.0.accepted
        } else {
            &self.0.refused
        };
        count.fetch_add(1, Ordering::Relaxed);
        let (enrolment, recovery_left) = checked?;
        Ok(Accepted {
            passed: Passed::new(enrolment, now, remember),
            recovery_left,
        })
    }

    /// Has a code count for other connections of theirs. Not of somebody who is locked out: nothing is to be left of it when that is over.
    pub fn remember(&self, identity: &Identity, passed: Passed, now: Timestamp) {
        let mut remembered = self.remembered();
        // Under this lock: who locks somebody out puts that in force before anything is forgotten.
        if policy::locked_out(&self.0.in_force.config(), identity, now).is_ok() {
            remembered.remember(identity, passed, now);
        }
    }

    /// The code that counts for somebody who logs in like this.
    pub fn recall(&self, identity: &Identity, now: Timestamp) -> Option<Passed> {
        let passed = self.remembered().recall(identity, now)?;
        let since = self.0.in_force.config().enrolled.since(identity.name());
        (since == Some(passed.enrolment())).then_some(passed)
    }

    /// Forgets whom a lock keeps out.
    pub fn forget_locked(&self, on: &Target) {
        self.remembered().forget_locked(on);
    }

    /// Whether a code is one of a secret that is to be somebody's.
    ///
    /// # Errors
    ///
    /// If they are enrolled already, or the code is wrong.
    pub fn would_enroll(
        &self,
        identity: &Name,
        secret: &Secret,
        code: &Hidden,
        now: Timestamp,
    ) -> Result<(), NotEnrolled> {
        if self.0.in_force.config().enrolled.since(identity).is_some() {
            return Err(NotEnrolled::Already(identity.clone()));
        }
        step_of(secret, code, now)
            .map(drop)
            .ok_or(NotEnrolled::WrongCode)
    }

    /// Enrolls somebody, on disk and then in force. The recovery codes are known from nowhere else.
    ///
    /// # Errors
    ///
    /// As [`Codes::would_enroll`], and if the disk does not take it.
    pub async fn enroll(
        &self,
        identity: Name,
        secret: Secret,
        code: &Hidden,
        by: String,
        now: Timestamp,
    ) -> Result<Vec<Hidden>, NotEnrolled> {
        let last_step = step_of(&secret, code, now).ok_or(NotEnrolled::WrongCode)?;
        let codes = recovery_codes()?;
        let (shown, recovery): (Vec<Hidden>, Vec<String>) = codes.into_iter().unzip();
        let enrolment = Enrolment {
            identity,
            secret: secret.base32(),
            since: now,
            by,
            last_step,
            recovery,
        };
        let in_force = self.0.in_force.clone();
        let enroll = move |kept: &mut Kept| {
            kept.enroll(enrolment)?;
            in_force.change_enrolled(kept.enrolled());
            Ok(())
        };
        self.blocking(enroll)
            .await
            .unwrap_or(Err(NotEnrolled::Died))?;
        Ok(shown)
    }

    /// Removes an enrolment at once and then from the disk, with what is remembered of codes of it.
    pub async fn remove(&self, identity: &Name) -> Removed {
        let (name, in_force) = (identity.clone(), self.0.in_force.clone());
        let remove = move |kept: &mut Kept| {
            kept.wrong.remove(&name);
            if kept.enrolments.remove(&name).is_none() {
                return (false, None);
            }
            in_force.change_enrolled(kept.enrolled());
            (true, kept.put().err().map(NotRemoved::UntilRestart))
        };
        let (was, not_kept) = self
            .blocking(remove)
            .await
            .unwrap_or((true, Some(NotRemoved::Died)));
        self.remembered().forget(identity);
        Removed { was, not_kept }
    }

    /// Everybody who is enrolled, by name.
    pub async fn list(&self, now: Timestamp) -> Vec<Listed> {
        let kept = self.0.kept.lock().await;
        let listed = kept.enrolments.values().map(|enrolment| Listed {
            identity: enrolment.identity.clone(),
            since: enrolment.since,
            by: enrolment.by.clone(),
            recovery_left: enrolment.recovery.len(),
            not_before: kept.not_before(&enrolment.identity, now),
        });
        listed.collect()
    }

    /// How many codes were accepted and refused since the daemon started.
    pub fn counts(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.0.accepted), count(&self.0.refused))
    }

    /// Off the runtime's threads. Who gives up waiting does not stop it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Kept) -> T + Send + 'static,
    ) -> Option<T> {
        let mut kept: OwnedMutexGuard<Kept> = Arc::clone(&self.0.kept).lock_owned().await;
        tokio::task::spawn_blocking(move || work(&mut kept))
            .await
            .ok()
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The enrolment that it is a code of, and how many recovery codes are left if it was one.
    fn accept(
        &mut self,
        name: &Name,
        typed: &Typed,
        now: Timestamp,
    ) -> Result<(Timestamp, Option<usize>), CodeRefused> {
        let blocked = self.not_before(name, now);
        let enrolment = self
            .enrolments
            .get_mut(name)
            .ok_or(CodeRefused::NotEnrolled)?;
        let recovery_left = match typed {
            Typed::Neither => return Err(CodeRefused::Wrong),
            // Nobody guesses one of these: who has a stolen key and types wrong codes does not keep its owner out.
            Typed::Recovery(hash) => {
                let known = enrolment.recovery.iter().position(|one| is_same(one, hash));
                let known = known.ok_or(CodeRefused::Wrong)?;
                enrolment.recovery.remove(known);
                Some(enrolment.recovery.len())
            }
            Typed::Digits(digits) => {
                if let Some(until) = blocked {
                    return Err(CodeRefused::TooMany { until });
                }
                let secret = Secret::parse(enrolment.secret.expose()).ok();
                let step = secret.and_then(|secret| step_of(&secret, digits, now));
                match step {
                    None => {
                        self.count_wrong(name, now);
                        return Err(CodeRefused::Wrong);
                    }
                    // No guess: it was right once.
                    Some(step) if step <= enrolment.last_step => return Err(CodeRefused::Used),
                    Some(step) => enrolment.last_step = step,
                }
                None
            }
        };
        let since = enrolment.since;
        // Used up already, should this fail.
        self.put().map_err(CodeRefused::NotKept)?;
        self.wrong.remove(name);
        Ok((since, recovery_left))
    }

    fn enroll(&mut self, enrolment: Enrolment) -> Result<(), NotEnrolled> {
        let name = enrolment.identity.clone();
        if self.enrolments.contains_key(&name) {
            return Err(NotEnrolled::Already(name));
        }
        if self.enrolments.len() >= MOST {
            return Err(NotEnrolled::TooMany);
        }
        self.enrolments.insert(name.clone(), enrolment);
        self.put().inspect_err(|_| {
            self.enrolments.remove(&name);
        })?;
        Ok(())
    }

    fn count_wrong(&mut self, name: &Name, now: Timestamp) {
        let times = self.wrong.get(name).map_or(0, |wrong| wrong.times);
        let times = times.saturating_add(1);
        let not_before = now.saturating_add(wait(times)).unwrap_or(now);
        let wrong = Wrong { times, not_before };
        self.wrong.insert(name.clone(), wrong);
    }

    /// When a code of theirs is looked at again, if none is now.
    fn not_before(&self, name: &Name, now: Timestamp) -> Option<Timestamp> {
        let wrong = self.wrong.get(name)?;
        // A clock that was set back must not make it days.
        let longest = now
            .saturating_add(SignedDuration::from_secs(LONGEST_WAIT))
            .unwrap_or(now);
        (now < wrong.not_before).then_some(wrong.not_before.min(longest))
    }

    fn enrolled(&self) -> Enrolled {
        let enrolled = self.enrolments.values();
        let enrolled = enrolled.map(|one| (one.identity.clone(), one.since));
        Enrolled(Arc::new(enrolled.collect()))
    }

    fn put(&self) -> Result<(), TotpFileError> {
        self.file.put(self.enrolments.values().cloned().collect())
    }
}

/// After so many wrong codes in a row.
fn wait(times: u32) -> SignedDuration {
    let Some(doublings) = times.checked_sub(FREE + 1) else {
        return SignedDuration::ZERO;
    };
    let seconds = FIRST_WAIT
        .checked_shl(doublings.min(16))
        .unwrap_or(i64::MAX);
    SignedDuration::from_secs(seconds.min(LONGEST_WAIT))
}

fn step_of(secret: &Secret, code: &Hidden, now: Timestamp) -> Option<u64> {
    let Typed::Digits(digits) = Typed::read(code.expose()) else {
        return None;
    };
    let now = u64::try_from(now.as_second()).ok()?;
    secret.step_of(digits.expose(), now)
}
