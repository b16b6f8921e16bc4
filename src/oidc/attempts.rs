//! Attempts to sign on that are under way: one link each, for one connection whose client has signed.
//!
//! What is drawn for one is good once: a link leads to a provider a few times, a state comes back once, from the browser that was sent with it, and a code is
//! typed into the ssh that the link was made for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::secret::{self, Key, NoRandomness};
use super::{Said, SignOnCounts};
use crate::clock;
use crate::config::Name;
use crate::messages::Peer;
use crate::server::Source;
use crate::totp::Hidden;

/// At once. Each has a connection, so there are seldom so many.
const MOST: usize = 1024;
/// Of those whose key is nobody's: what is left is for others.
const MOST_OF_STRANGERS: usize = 256;
const MOST_OF_A_SOURCE: usize = 16;
/// By the device flow, where each asks a provider every few seconds,
const MOST_BY_DEVICE: usize = 128;
/// and of one identity.
const MOST_BY_DEVICE_OF_ONE: usize = 4;
/// From the link to the code.
pub(crate) const LIFE: Duration = Duration::from_secs(5 * 60);
/// How often a link leads to a provider.
const SENDS: u8 = 5;
/// Wrong codes.
const WRONG: u8 = 3;

/// For whom a provider is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where ssh is.
    pub peer: Peer,
    /// The key that has signed there.
    pub fingerprint: String,
    /// The login name that was asked for, escaped and cut.
    pub principal: String,
    /// Whose key that is; `None`: nobody's.
    pub identity: Option<Name>,
    /// When.
    pub began: Timestamp,
}

/// Attempts under way, and what came of those before. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    open: Arc<Mutex<Open>>,
    counts: SignOnCounts,
}

/// No more attempts can be begun now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// By anybody.
    #[error("too many people are about to sign in; try again in a few minutes")]
    All,
    /// From there.
    #[error("too many people are about to sign in from where you are; try again in a few minutes")]
    Source,
    /// By the same identity, by the device flow.
    #[error(
        "you are about to sign in too often; end the other logins, or try again in a few minutes"
    )]
    Identity,
    /// It is too late for anything.
    #[error("the time to sign in is over; log in again")]
    Late,
    /// No link can be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// An attempt that was begun.
#[derive(Debug)]
pub struct Begun {
    /// Whose it is.
    pub ticket: Ticket,
    /// The last part of its link.
    pub link: Hidden,
}

/// An attempt's own connection has it. What is dropped is over.
#[derive(Debug)]
pub struct Ticket {
    attempts: Attempts,
    id: u64,
}

/// What came of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// It is right: this is what the provider said. The attempt is over.
    Right(Box<Said>),
    /// It is not.
    Wrong,
    /// There is none yet.
    TooEarly,
    /// No code is looked at any more.
    Over,
}

/// Why a browser gets no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Closed {
    #[error("this link is not good, or not any more")]
    NoLink,
    #[error("this link was used too often")]
    TooOften,
    #[error("this link has shown its code already")]
    Done,
    #[error("ssh waits for a code that is typed at the provider, and no more for this link")]
    AnotherWay,
    #[error("this was not begun here, or was used already")]
    NoState,
    #[error("this was begun in another browser")]
    AnotherBrowser,
    #[error(transparent)]
    NoRandomness(NoRandomness),
}

/// With what a browser is sent to a provider.
pub(super) struct Sending {
    pub(super) state: Hidden,
    pub(super) nonce: Hidden,
    pub(super) verifier: Hidden,
    /// A cookie.
    pub(super) browser: Hidden,
}

/// A browser that came back from a provider.
pub(super) struct Returned {
    pub(super) id: u64,
    pub(super) asked: Asked,
    pub(super) provider: Name,
    pub(super) nonce: Hidden,
    pub(super) verifier: Hidden,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: BTreeMap<u64, Attempt>,
}

struct Attempt {
    asked: Asked,
    source: Source,
    ends: Instant,
    link: Key,
    sends: u8,
    wrong: u8,
    stage: Stage,
}

enum Stage {
    /// Nobody was sent anywhere, or nothing came of it.
    Waiting,
    /// A browser is at a provider.
    Sent {
        state: Key,
        browser: Key,
        provider: Name,
        nonce: Hidden,
        verifier: Hidden,
    },
    /// It is back, and the provider is asked.
    Back,
    /// It shows a code.
    Said { code: Hidden, said: Box<Said> },
    /// The link is not used: a code of the provider's is, which a connection waits for itself.
    Device,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Attempts {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// If there are too many.
    pub fn begin(&self, asked: Asked, source: Source) -> Result<Begun, Full> {
        let now = clock::monotonic();
        let link = secret::random()?;
        let mut open = self.open();
        open.all.retain(|_, attempt| now < attempt.ends);
        let count = |of: &dyn Fn(&Attempt) -> bool| open.all.values().filter(|one| of(one)).count();
        let strangers = |one: &Attempt| one.asked.identity.is_none();
        if open.all.len() >= MOST
            || (asked.identity.is_none() && count(&strangers) >= MOST_OF_STRANGERS)
        {
            return Err(Full::All);
        }
        if count(&|one| one.source == source) >= MOST_OF_A_SOURCE {
            return Err(Full::Source);
        }
        let id = open.next;
        open.next = open.next.wrapping_add(1);
        let attempt = Attempt {
            asked,
            source,
            ends: now + LIFE,
            link: Key::of(link.expose()),
            sends: 0,
            wrong: 0,
            stage: Stage::Waiting,
        };
        open.all.insert(id, attempt);
        let attempts = self.clone();
        Ok(Begun {
            ticket: Ticket { attempts, id },
            link,
        })
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        let now = clock::monotonic();
        let open = self.open();
        open.all.values().filter(|one| now < one.ends).count()
    }

    /// What came of all of them since the start.
    pub fn counts(&self) -> &SignOnCounts {
        &self.counts
    }

    /// For whom a link is.
    pub(super) fn of_link(&self, link: &str) -> Result<Asked, Closed> {
        self.open().by_link(link).map(|one| one.asked.clone())
    }

    /// Has a browser sent to a provider by a link. Whoever was sent before is not waited for any more.
    pub(super) fn send(&self, link: &str, provider: &Name) -> Result<(Asked, Sending), Closed> {
        let draw = || secret::random().map_err(Closed::NoRandomness);
        let sending = Sending {
            state: draw()?,
            nonce: draw()?,
            verifier: draw()?,
            browser: draw()?,
        };
        let mut open = self.open();
        let attempt = open.by_link(link)?;
        match attempt.stage {
            Stage::Waiting | Stage::Sent { .. } => {}
            Stage::Back | Stage::Said { .. } => return Err(Closed::Done),
            Stage::Device => return Err(Closed::AnotherWay),
        }
        if attempt.sends >= SENDS {
            return Err(Closed::TooOften);
        }
        attempt.sends += 1;
        attempt.stage = Stage::Sent {
            state: Key::of(sending.state.expose()),
            browser: Key::of(sending.browser.expose()),
            provider: provider.clone(),
            nonce: sending.nonce.clone(),
            verifier: sending.verifier.clone(),
        };
        Ok((attempt.asked.clone(), sending))
    }

    /// A browser is back at a provider's page. Its state is used up, whatever comes of it; at another provider's it is none.
    pub(super) fn returned(
        &self,
        state: &str,
        browser: &str,
        at: &str,
    ) -> Result<Returned, Closed> {
        let (wanted, now) = (Key::of(state), clock::monotonic());
        let mut open = self.open();
        let found = open.all.iter_mut().find(|(_, attempt)| {
            now < attempt.ends
                && matches!(
                    &attempt.stage,
                    Stage::Sent { state, provider, .. }
                        if state.is(&wanted) && provider.as_str() == at
                )
        });
        let (id, attempt) = found.ok_or(Closed::NoState)?;
        let stage = std::mem::replace(&mut attempt.stage, Stage::Waiting);
        let Stage::Sent {
            browser: sent,
            provider,
            nonce,
            verifier,
            ..
        } = stage
        else {
            return Err(Closed::NoState);
        };
        if !sent.is(&Key::of(browser)) {
            return Err(Closed::AnotherBrowser);
        }
        attempt.stage = Stage::Back;
        Ok(Returned {
            id: *id,
            asked: attempt.asked.clone(),
            provider,
            nonce,
            verifier,
        })
    }

    /// The provider has said who it is: the code that the browser shows. `None`: nobody waits for one any more.
    pub(super) fn said(&self, id: u64, said: Said) -> Option<Hidden> {
        let code = secret::code().ok()?;
        let mut open = self.open();
        let attempt = open.standing(id)?;
        if !matches!(attempt.stage, Stage::Back) {
            return None;
        }
        attempt.stage = Stage::Said {
            code: code.clone(),
            said: Box::new(said),
        };
        Some(code)
    }

    /// As long as this is held the provider is asked. Then the link may be tried again, unless it has said who it is.
    pub(super) fn asking(&self, id: u64) -> Asking {
        Asking {
            attempts: self.clone(),
            id,
        }
    }

    fn not_said(&self, id: u64) {
        if let Some(attempt) = self.open().standing(id)
            && matches!(attempt.stage, Stage::Back)
        {
            attempt.stage = Stage::Waiting;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn by_link(&mut self, link: &str) -> Result<&mut Attempt, Closed> {
        let (wanted, now) = (Key::of(link), clock::monotonic());
        self.all
            .values_mut()
            .find(|one| now < one.ends && one.link.is(&wanted))
            .ok_or(Closed::NoLink)
    }

    fn standing(&mut self, id: u64) -> Option<&mut Attempt> {
        let now = clock::monotonic();
        self.all.get_mut(&id).filter(|one| now < one.ends)
    }
}

/// A provider is asked who has come back.
pub(super) struct Asking {
    attempts: Attempts,
    id: u64,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.attempts.not_said(self.id);
    }
}

impl Ticket {
    /// What was typed into this attempt's ssh. A right code is good once; after a few wrong ones none is looked at.
    pub fn typed(&self, typed: &Hidden) -> Typed {
        let mut open = self.attempts.open();
        let Some(attempt) = open.standing(self.id) else {
            return Typed::Over;
        };
        let Stage::Said { code, said } = &attempt.stage else {
            return Typed::TooEarly;
        };
        if attempt.wrong >= WRONG {
            return Typed::Over;
        }
        if !secret::is_code(code, typed) {
            attempt.wrong += 1;
            let last = attempt.wrong >= WRONG;
            if last {
                open.all.remove(&self.id);
            }
            return if last { Typed::Over } else { Typed::Wrong };
        }
        let said = said.clone();
        open.all.remove(&self.id);
        Typed::Right(said)
    }

    /// Signs in by the device flow instead: the link is of no use from now on. When the attempt ends.
    pub(crate) fn by_device(&self) -> Result<Instant, Full> {
        let mut open = self.attempts.open();
        let identity = match open.standing(self.id) {
            Some(attempt) => attempt.asked.identity.clone(),
            None => return Err(Full::Late),
        };
        let now = clock::monotonic();
        let others = open.all.values().filter(|one| now < one.ends);
        let others: Vec<&Attempt> = others
            .filter(|one| matches!(one.stage, Stage::Device))
            .collect();
        if others.len() >= MOST_BY_DEVICE {
            return Err(Full::All);
        }
        let own = others.iter().filter(|one| one.asked.identity == identity);
        if own.count() >= MOST_BY_DEVICE_OF_ONE {
            return Err(Full::Identity);
        }
        let attempt = open.standing(self.id).ok_or(Full::Late)?;
        attempt.stage = Stage::Device;
        Ok(attempt.ends)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.attempts.open().all.remove(&self.id);
    }
}
