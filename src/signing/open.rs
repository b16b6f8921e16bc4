//! From the configuration to a signer, with the keys that came before it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::file::private_directory;
use super::{
    FileSigner, History, KeyName, PublicKey, Signer, Signing, SigningError, SocketSigner,
    create_key,
};
use crate::config::Name;

/// Below the state directory.
pub(super) const DIRECTORY: &str = "signing";
/// The key that is made where the configuration names none.
const KEY: &str = "key";

/// `spec.signing`: what holds the private key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// `stateDir/signing/key`, made at the first start.
    #[default]
    Own,
    /// A key file.
    File {
        /// It, absolute.
        key: PathBuf,
        /// The key file before it, absolute: it vouches for this one once.
        previous: Option<PathBuf>,
    },
    /// A process behind a unix socket.
    Socket {
        /// The socket, absolute.
        socket: PathBuf,
        /// The key that it must sign with.
        public_key: PublicKey,
        /// The key file before it, absolute.
        previous: Option<PathBuf>,
    },
}

impl KeySource {
    /// The files that it names: nobody but the daemon may see them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let (first, previous) = match self {
            Self::Own => (None, None),
            Self::File { key, previous } => (Some(key), previous.as_ref()),
            Self::Socket {
                socket, previous, ..
            } => (Some(socket), previous.as_ref()),
        };
        first.into_iter().chain(previous)
    }
}

impl Signing {
    /// Opens what the configuration names, making a key where it names none and none was ever used, and adds the key to
    /// the history. Blocks.
    pub fn open(
        state_dir: &Path,
        instance: &Name,
        source: &KeySource,
        now: Timestamp,
    ) -> Result<Self, SigningError> {
        let name = KeyName::of(instance);
        let directory = state_dir.join(DIRECTORY);
        private_directory(&directory).map_err(SigningError::io(&directory, "making it"))?;
        let mut history = History::read(state_dir)?;
        let own = directory.join(KEY);
        let signer = signer(source, &own, &name, &history)?;
        let key = signer.public_key().clone();
        if *key.name() != name {
            return Err(SigningError::OfAnother {
                key: Box::new(key),
                instance: name.to_string(),
            });
        }
        let mut before = history.known().iter().rev().map(|known| &known.key);
        let before = before.find(|known| **known != key).cloned();
        let previous = match before {
            Some(before) => previous_signer(source, &own, &before)?,
            None => None,
        };
        history.add(&key, now)?;
        Self::with(signer, previous, history.keys())
    }
}

fn signer(
    source: &KeySource,
    own: &Path,
    name: &KeyName,
    history: &History,
) -> Result<Arc<dyn Signer>, SigningError> {
    Ok(match source {
        KeySource::Own => {
            if !own.exists() {
                // A new key in its place would look like a rotation that somebody wanted.
                if !history.known().is_empty() {
                    return Err(SigningError::Lost {
                        path: own.to_owned(),
                    });
                }
                let key = create_key(own, name)?;
                tracing::info!("a signing key was made; its public half: {}", key.vkey());
            }
            Arc::new(FileSigner::open(own)?)
        }
        KeySource::File { key, .. } => Arc::new(FileSigner::open(key)?),
        KeySource::Socket {
            socket, public_key, ..
        } => Arc::new(SocketSigner::new(socket.clone(), public_key.clone())),
    })
}

/// The key before the present one, if it is where the configuration says or where this instance made it.
fn previous_signer(
    source: &KeySource,
    own: &Path,
    before: &PublicKey,
) -> Result<Option<FileSigner>, SigningError> {
    let named = match source {
        KeySource::Own => None,
        KeySource::File { previous, .. } | KeySource::Socket { previous, .. } => {
            previous.as_deref()
        }
    };
    if let Some(path) = named {
        // What the configuration names must be readable; it may have vouched long ago and for another key.
        let signer = FileSigner::open(path)?;
        return Ok(Some(signer).filter(|signer| signer.public_key() == before));
    }
    if !own.exists() {
        return Ok(None);
    }
    let signer = FileSigner::open(own)?;
    Ok(Some(signer).filter(|signer| signer.public_key() == before))
}
