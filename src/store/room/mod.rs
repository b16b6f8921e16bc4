//! Room for recordings: what is done when there is none left.
//!
//! A disk that is full must neither let anything run unrecorded nor leave what ran without its end. So some space is
//! kept back (`reserve`) and given up then: the write that found no room is made again, every session is ended, and
//! each has room for its seal. Until there is room again nothing new is recorded but the sessions of a `rescue` role.

mod reserve;
#[cfg(test)]
mod tests;
mod trouble;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tokio::sync::watch;

use self::reserve::Reserve;
pub use self::trouble::Trouble;
use super::{Space, StoreError};

/// One for the daemon; clones are the same. The default one keeps nothing back and watches nothing: for readers.
#[derive(Clone, Debug, Default)]
pub struct Room(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    state_dir: PathBuf,
    reserve: Mutex<Reserve>,
    /// What the reserve holds and what it gives up at once, in bytes: for those who must not wait for the disk.
    reserved: AtomicU64,
    portion: AtomicU64,
    trouble: watch::Sender<Option<Trouble>>,
    failures: AtomicU64,
    low: [AtomicBool; 2],
}

/// What there can be too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes.
    Bytes,
    /// Files and directories.
    Inodes,
}

impl Measure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bytes, Self::Inodes];

    /// As events and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Inodes => "inodes",
        }
    }
}

impl Room {
    /// The room under `state_dir`, which is there. Nothing is kept back before `Room::keep`.
    pub fn new(state_dir: &Path) -> Self {
        Self(Some(Arc::new(Inner {
            state_dir: state_dir.to_owned(),
            reserve: Mutex::new(Reserve::new(state_dir)),
            reserved: AtomicU64::new(0),
            portion: AtomicU64::new(0),
            trouble: watch::Sender::new(None),
            failures: AtomicU64::new(0),
            low: Default::default(),
        })))
    }

    /// The same for files at `path`, if that is on the same disk; otherwise none, for what happens there is not about
    /// recordings, and giving up the reserve would not help it.
    pub fn for_files_at(&self, path: &Path) -> Self {
        let Some(inner) = &self.0 else {
            return Self::default();
        };
        let device = |path: &Path| Some(std::fs::metadata(path).ok()?.dev());
        let there = path.ancestors().find_map(device);
        match there.is_some() && there == device(&inner.state_dir) {
            true => self.clone(),
            false => Self::default(),
        }
    }

    /// Does something that takes room. Where there is none, it is done again with a part of the reserve, for as long
    /// as there is some. `work` must be such that it can be done again after it failed.
    pub(crate) fn with_room<T>(
        &self,
        what: &str,
        work: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        self.again(Trouble::of, what, work)
    }

    /// The same for whoever has the error sorted already.
    pub(crate) fn with_room_in_store<T>(
        &self,
        what: &str,
        work: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.again(Trouble::of_store, what, work)
    }

    fn again<T, E: std::fmt::Display>(
        &self,
        trouble_of: impl Fn(&E) -> Option<Trouble>,
        what: &str,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            let error = match work() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let trouble = trouble_of(&error);
            if let Some(trouble) = trouble {
                self.note(trouble, format_args!("{what}: {error}"));
            }
            if !(trouble == Some(Trouble::NoSpace) && self.give_up()) {
                return Err(error);
            }
        }
    }

    /// Does something that must not take room from those for whom some is kept back: not at all while there is none
    /// but theirs.
    pub(crate) fn without_reserve<T>(
        &self,
        what: &str,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.trouble() == Some(Trouble::NoSpace) {
            return Err(Errno::NOSPC.into());
        }
        work().inspect_err(|error| self.note_error(what, error))
    }

    /// Takes notice of what went wrong, if it means that nothing can be recorded.
    pub(crate) fn note_error(&self, what: &str, error: &io::Error) {
        if let Some(trouble) = Trouble::of(error) {
            self.note(trouble, format_args!("{what}: {error}"));
        }
    }

    fn note(&self, trouble: Trouble, why: std::fmt::Arguments<'_>) {
        let Some(inner) = &self.0 else { return };
        let mut before = None;
        let news = inner.trouble.send_if_modified(|now| {
            before = *now;
            // The first one stands until it is over, because many find out at the same time; but for one after which
            // nobody can be let in at all.
            let worse = matches!(*now, None | Some(Trouble::NoSpace)) && *now != Some(trouble);
            if worse {
                *now = Some(trouble);
            }
            worse
        });
        match (news, before) {
            (true, None) => {
                inner.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    "{trouble} ({why}): open sessions are ended and new ones refused until that is over"
                );
            }
            (true, Some(_)) => tracing::error!("it has come to worse: {trouble} ({why})"),
            (false, _) => {}
        }
    }

    /// Why nothing can be recorded now.
    pub fn trouble(&self) -> Option<Trouble> {
        self.0.as_ref().and_then(|inner| *inner.trouble.borrow())
    }

    /// Follows that.
    pub fn changes(&self) -> Option<watch::Receiver<Option<Trouble>>> {
        self.0.as_ref().map(|inner| inner.trouble.subscribe())
    }

    /// How often recording has become impossible.
    pub fn failures(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |inner| inner.failures.load(Ordering::Relaxed))
    }

    /// Bytes that are kept back now.
    pub fn reserved(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |inner| inner.reserved.load(Ordering::Relaxed))
    }

    /// Whether what is left of the reserve is for the last words of those who are recorded, and for nothing else.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| {
            inner.reserved.load(Ordering::Relaxed) <= inner.portion.load(Ordering::Relaxed)
        })
    }

    /// On a disk that is full already, gives up what an earlier daemon kept back: so that this one can start, and the
    /// rescue role be taken. Blocks.
    pub(crate) fn begin(&self) {
        let Some(inner) = &self.0 else { return };
        if Space::at(&inner.state_dir).is_ok_and(|space| space.is_tight()) {
            self.note(Trouble::NoSpace, format_args!("it is so at the start"));
            self.make_way();
        }
    }

    /// Sees that there is some room for a session that may be opened though there is none. Blocks.
    pub(crate) fn make_way(&self) {
        let Some(inner) = &self.0 else { return };
        let is_tight = || Space::at(&inner.state_dir).is_ok_and(|space| space.is_tight());
        // Each time there is less to give.
        while is_tight() && self.give_up() {}
    }

    /// Gives up part of the reserve. Whether there was any.
    fn give_up(&self) -> bool {
        let Some(inner) = &self.0 else { return false };
        let mut reserve = inner.reserve();
        let freed = reserve.give_up();
        inner.tell(&reserve);
        if freed {
            tracing::warn!("part of the reserve is given up, so that sessions can be sealed");
        }
        freed
    }

    /// Keeps so many bytes back, as far as there is room; and if nothing could be recorded, tries whether that is
    /// over. What has just ended. Blocks.
    pub(crate) fn keep(&self, bytes: u64) -> Option<Trouble> {
        let inner = self.0.as_ref()?;
        let trouble = self.trouble();
        let filled = {
            let mut reserve = inner.reserve();
            let filled = reserve.fill(bytes, trouble);
            inner.tell(&reserve);
            filled
        };
        match filled {
            Ok(true) => {
                let mut over = None;
                inner.trouble.send_if_modified(|now| {
                    over = now.take();
                    over.is_some()
                });
                over
            }
            Ok(false) => None,
            // A disk that is full has no reserve; that is no news by itself.
            Err(error) if Trouble::of(&error) == Some(Trouble::NoSpace) => None,
            Err(error) => {
                self.note_error("keeping a reserve", &error);
                None
            }
        }
    }

    /// How much there is. Blocks.
    pub fn space(&self) -> Option<io::Result<Space>> {
        self.0.as_ref().map(|inner| Space::at(&inner.state_dir))
    }

    /// It has come to be known whether there is little of something left. Whether it was different before.
    pub(crate) fn set_low(&self, what: Measure, low: bool) -> bool {
        self.low(what)
            .is_some_and(|flag| flag.swap(low, Ordering::Relaxed) != low)
    }

    /// Whether there is little of it left.
    pub fn is_low(&self, what: Measure) -> bool {
        self.low(what)
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    fn low(&self, what: Measure) -> Option<&AtomicBool> {
        let [bytes, inodes] = &self.0.as_ref()?.low;
        Some(match what {
            Measure::Bytes => bytes,
            Measure::Inodes => inodes,
        })
    }
}

impl Inner {
    fn reserve(&self) -> MutexGuard<'_, Reserve> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, reserve: &Reserve) {
        self.reserved.store(reserve.bytes(), Ordering::Relaxed);
        self.portion.store(reserve.portion(), Ordering::Relaxed);
    }
}
