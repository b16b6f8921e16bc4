//! The instance's own key: what it signs, with what, and how anybody checks it.
//!
//! A signature is always one on a [C2SP signed note](https://c2sp.org/signed-note) whose first line says what kind of
//! note it is ([`NoteKind`]), so that none can be passed off as another. The private key is a file of ours, or with a
//! process behind a unix socket ([`serve`]), which signs nothing else either.

mod asking;
mod digest;
mod error;
mod file;
mod history;
mod key;
mod note;
mod open;
pub mod serve;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub(crate) use asking::{Answer, Asking};
pub use digest::{Digest, NotADigest};
pub use error::SigningError;
pub use file::{FileSigner, create_key};
pub(crate) use file::{private_directory, private_file};
pub use history::{History, KnownKey};
pub use key::{KeyName, KeyText, NotAKey, PublicKey};
pub use note::{Keys, NoteKind, SignedNote};
pub use open::KeySource;
pub use socket::SocketSigner;

/// Longest text that is signed, in bytes: a recording begins with what is known of its session, the command included.
pub const LONGEST_TEXT: usize = 256 << 10;

/// From asking for a signature to having it, with whatever waits before it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Signatures under way. A full queue makes whoever wants one wait.
const QUEUE: usize = 1024;

/// What holds the private key.
pub trait Signer: Send + Sync + std::fmt::Debug {
    /// Whose signatures these are.
    fn public_key(&self) -> &PublicKey;

    /// An Ed25519 signature (RFC 8032) of these bytes. Blocks, for a few seconds at most.
    fn sign(&self, text: &[u8]) -> Result<[u8; 64], SigningError>;
}

/// A handle to the instance's signer. Cheap to clone; the thread behind it ends with the last one.
#[derive(Clone, Debug)]
pub struct Signing {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    signer: Arc<dyn Signer>,
    /// The key before this one, where it is still at hand: it vouches for its successor.
    previous: Option<FileSigner>,
    /// Every key that this instance has signed with, this one included.
    keys: Keys,
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    text: String,
    done: oneshot::Sender<Result<SignedNote, SigningError>>,
}

impl Signing {
    /// By this signer, with no other key before it.
    pub fn new(signer: Arc<dyn Signer>) -> Result<Self, SigningError> {
        let keys = Keys::new([signer.public_key().clone()]);
        Self::with(signer, None, keys)
    }

    fn with(
        signer: Arc<dyn Signer>,
        previous: Option<FileSigner>,
        keys: Keys,
    ) -> Result<Self, SigningError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let by = Arc::clone(&signer);
        std::thread::Builder::new()
            .name("signing".into())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    // Who no longer waits needs no signature.
                    if !job.done.is_closed() {
                        drop(job.done.send(sign_with(&*by, &job.text)));
                    }
                }
            })
            .map_err(|error| SigningError::Thread(Arc::new(error)))?;
        Ok(Self {
            shared: Arc::new(Shared {
                signer,
                previous,
                keys,
                jobs,
            }),
        })
    }

    /// The key that signs now.
    pub fn key(&self) -> &PublicKey {
        self.shared.signer.public_key()
    }

    /// Every key that this instance has signed with, this one included.
    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// The first line of a note of this instance, without its line feed.
    pub fn first_line(&self, kind: NoteKind) -> String {
        kind.first_line(self.key().name())
    }

    /// Signs a text: lines, of which the first is [`Signing::first_line`] of some kind. Answers within 10 s whatever
    /// holds the key does, and only with a signature that was verified.
    pub async fn sign(&self, text: String) -> Result<SignedNote, SigningError> {
        let (done, signed) = oneshot::channel();
        let exchange = async {
            let job = Job { text, done };
            self.shared
                .jobs
                .send(job)
                .await
                .map_err(|_| SigningError::Closed)?;
            signed.await.map_err(|_| SigningError::Closed)?
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(result) => result,
            Err(_) => Err(SigningError::Slow),
        }
    }

    /// As [`Signing::sign`], for threads of their own: blocks.
    pub fn sign_blocking(&self, text: &str) -> Result<SignedNote, SigningError> {
        sign_with(&*self.shared.signer, text)
    }

    /// That `previous` gave way to the present key, signed by both where the old one is at hand.
    pub(crate) fn sign_succession(
        &self,
        previous: &PublicKey,
        at: jiff::Timestamp,
    ) -> Result<SignedNote, SigningError> {
        let text = format!(
            "{}\n{}\n{}\n{at}\n",
            self.first_line(NoteKind::Key),
            previous.vkey(),
            self.key().vkey()
        );
        let note = self.sign_blocking(&text)?;
        match &self.shared.previous {
            Some(old) if old.public_key() == previous => note.countersigned(old),
            _ => Ok(note),
        }
    }
}

fn sign_with(signer: &dyn Signer, text: &str) -> Result<SignedNote, SigningError> {
    let key = signer.public_key();
    note::check_text(text, |first| NoteKind::of(first, key.name()).is_some())?;
    let signature = signer.sign(text.as_bytes())?;
    SignedNote::made_by(key, text, signature)
}
