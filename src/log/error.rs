//! What is wrong with a log, and what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::signing::SigningError;

/// What to do when a log is not what its own signatures say.
const WAY_OUT: &str = "Put the directory back from a copy. If there is none, move it aside as a whole (it is evidence: keep it) and start again: a new log begins at leaf 0, and whoever holds a checkpoint of the old one will see that";

/// Why something is not in the log, or why a log is not believed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Leaves that a signed checkpoint covers are gone.
    #[error("the log {} has lost {}: {covered} covers {size} leaves, and {held} are there. {WAY_OUT}", directory.display(), span(*held, *size))]
    Gone {
        /// The log.
        directory: PathBuf,
        /// What says that there must be more.
        covered: String,
        /// How many leaves that covers.
        size: u64,
        /// How many are there.
        held: u64,
    },
    /// Leaves were changed, put in or taken out since they were signed.
    #[error("the log {} was changed: {} are not those that {covered} covers. {WAY_OUT}", directory.display(), span(*from, *size))]
    Changed {
        /// The log.
        directory: PathBuf,
        /// What does not fit.
        covered: String,
        /// Up to here everything fits what was signed.
        from: u64,
        /// Up to here something does not.
        size: u64,
    },
    /// A file of the log is damaged or missing, and which leaves that concerns.
    #[error("the log {}: {} {what} ({}). {WAY_OUT}", directory.display(), file.display(), span(*first, *end))]
    Damaged {
        /// The log.
        directory: PathBuf,
        /// The file, below the directory.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// The first leaf that it concerns.
        first: u64,
        /// The first after these.
        end: u64,
    },
    /// A head's signature does not count.
    #[error("the log {}: {place}: {source}. {WAY_OUT}", directory.display())]
    Head {
        /// The log.
        directory: PathBuf,
        /// Where the head stands.
        place: String,
        /// Why.
        #[source]
        source: SigningError,
    },
    /// A head that is signed by a key that no longer, or not yet, signed for this log.
    #[error("the log {}: {place} is signed by {by}, and the key in force there is {expected}. {WAY_OUT}", directory.display())]
    WrongKey {
        /// The log.
        directory: PathBuf,
        /// Where the head stands.
        place: String,
        /// Name and id of the key that signed it.
        by: String,
        /// Name and id of the one that should have.
        expected: String,
    },
    /// A signed note that is no checkpoint of this log.
    #[error("the log {}: {place} is no checkpoint of {origin}", directory.display())]
    NotACheckpoint {
        /// The log.
        directory: PathBuf,
        /// Where the note stands.
        place: String,
        /// Whose it should be.
        origin: String,
    },
    /// No head was ever signed, or none is left.
    #[error("the log {} holds no signed head", directory.display())]
    NoHead {
        /// The log.
        directory: PathBuf,
    },
    /// A leaf that this version does not know.
    #[error("the log {}: leaf {position} is none that this version knows", directory.display())]
    UnknownLeaf {
        /// The log.
        directory: PathBuf,
        /// Which.
        position: u64,
    },
    /// A checkpoint that was kept elsewhere is newer than the log: the log was rolled back.
    #[error("the log {} was rolled back: {witness} covers {size} leaves, and {held} are there: {} are gone", directory.display(), span(*held, *size))]
    RolledBack {
        /// The log.
        directory: PathBuf,
        /// Where the checkpoint was kept.
        witness: String,
        /// How many leaves it covers.
        size: u64,
        /// How many are there.
        held: u64,
    },
    /// A checkpoint that was kept elsewhere is of another history.
    #[error("the log {} is not the one that was: {witness} covers {size} leaves, and the first {size} of this log are others", directory.display())]
    Forked {
        /// The log.
        directory: PathBuf,
        /// Where the checkpoint was kept.
        witness: String,
        /// How many leaves it covers.
        size: u64,
    },
    /// A file or directory could not be read or written.
    #[error("the log: {}: {doing}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The operating system's word.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Another daemon has it.
    #[error("the log {} is in use: another daemon runs on this state directory", directory.display())]
    InUse {
        /// The log.
        directory: PathBuf,
    },
    /// The leaf may be in the log, and is not signed.
    #[error("the log's head cannot be signed: {0}")]
    Signing(#[from] SigningError),
    /// A leaf of ours that is too long. It cannot be.
    #[error("a leaf of the log would be too long")]
    LeafTooLong,
    /// The log's thread is gone, or the daemon is stopping.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    pub(super) fn io(path: &Path, doing: &'static str) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            doing,
            source: Arc::new(source),
        }
    }
}

/// Leaves as people name them.
fn span(from: u64, end: u64) -> String {
    match end.saturating_sub(1) {
        last if last > from => format!("leaves {from} to {last}"),
        _ => format!("leaf {from}"),
    }
}
