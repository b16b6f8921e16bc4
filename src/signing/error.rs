//! Why something is not signed, or not by whom it should be.

use std::path::PathBuf;
use std::sync::Arc;

use super::{LONGEST_TEXT, NotAKey, PublicKey};
use crate::config::secrets::SecretError;

/// Why there is no signature, or none that counts.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SigningError {
    /// The text is none of the notes that an instance signs.
    #[error("this is no note that the instance signs: its first line is '{0}'")]
    NotOurs(String),
    /// Not lines of text as a note has them.
    #[error(
        "this is no text of a note: lines of UTF-8 without control characters, at most {LONGEST_TEXT} bytes"
    )]
    NotAText,
    /// Not a signed note.
    #[error("this is no signed note (c2sp.org/signed-note)")]
    NotANote,
    /// Nobody whose key is known signed it.
    #[error("no known key signed this note; it says that it is by {by}")]
    Unknown {
        /// Names and ids, as the note has them.
        by: String,
    },
    /// It says that a known key signed it, and that key did not sign this text.
    #[error("the signature by {by} is not one of this text: one of the two was changed")]
    False {
        /// Name and id of the key.
        by: String,
    },
    /// The key file cannot be read, or others can read it.
    #[error(transparent)]
    Secret(Arc<SecretError>),
    /// What the key file holds.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: NotAKey,
    },
    /// A key of another instance.
    #[error("the signing key {} is that of {}, and this instance is {instance}; make one with: bastion-audit log new-key FILE", key.vkey(), key.name())]
    OfAnother {
        /// The key.
        key: Box<PublicKey>,
        /// What it should be called.
        instance: String,
    },
    /// The key that was made at the first start is not there any more.
    #[error("{} is gone, and this instance has signed with it: put it back, or make a new key with 'bastion-audit log new-key FILE' and name it as spec.signing.key", path.display())]
    Lost {
        /// The key file.
        path: PathBuf,
    },
    /// A line of the history of keys cannot be read.
    #[error("{}:{line}: this is no key with the moment since when it is used: put the file back from a copy; without its line, what that key signed cannot be verified here", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A file could not be read, made or written.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The operating system's word.
        source: Arc<std::io::Error>,
    },
    /// The signing process cannot be reached, or went away in mid-answer.
    #[error("the signer at {} does not answer: {source}; is 'bastion-audit signer' running there?", socket.display())]
    Gone {
        /// Its socket.
        socket: PathBuf,
        /// The operating system's word.
        source: Arc<std::io::Error>,
    },
    /// The signing process says no.
    #[error("the signer at {} refuses: {reason}", socket.display())]
    Refused {
        /// Its socket.
        socket: PathBuf,
        /// Its sentence, cut and made printable.
        reason: String,
    },
    /// What came back is not a signature by the key that it should be.
    #[error(
        "what signs for {by} answered with something that is no signature of that key over what was asked"
    )]
    Lied {
        /// Name and id of the key.
        by: String,
    },
    /// No answer in time.
    #[error("no signature in time: what holds the signing key is slow or hangs")]
    Slow,
    /// The thread that signs could not be started.
    #[error("starting the thread that signs: {0}")]
    Thread(Arc<std::io::Error>),
    /// The system gave no randomness.
    #[error("no key could be made: the system has no randomness to give")]
    NoRandomness,
    /// The daemon is stopping.
    #[error("signing is closed")]
    Closed,
}

impl SigningError {
    pub(super) fn io(
        path: &std::path::Path,
        doing: &'static str,
    ) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            doing,
            source: Arc::new(source),
        }
    }
}
