//! The private keys by which clients know this host.

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{HashAlg, PrivateKey};
use zeroize::Zeroizing;

use russh::keys::ssh_key::Algorithm;

/// Usable host keys, each of another algorithm.
#[derive(Clone)]
pub struct HostKeys(Vec<PrivateKey>);

/// Why a host key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// None was given.
    #[error(
        "no host key: clients could not tell this host from another; make one with `ssh-keygen -t ed25519 -N '' -f FILE`"
    )]
    Missing,
    /// Not an OpenSSH private key.
    #[error("{path}: not a private key in OpenSSH format (`ssh-keygen -p -f FILE` rewrites others): {reason}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It has a passphrase.
    #[error("{path}: has a passphrase, and the daemon nobody to ask: remove it with `ssh-keygen -p -N '' -f FILE`", path = path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// Of a kind that is not served.
    #[error("{path}: {algorithm} keys are not served: use ed25519 or ecdsa (`ssh-keygen -t ed25519 -N '' -f FILE`)", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Its algorithm.
        algorithm: String,
    },
    /// Two of one algorithm.
    #[error("{path}: a second {algorithm} key: clients are shown only one of each algorithm", path = path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// Its algorithm.
        algorithm: String,
    },
}

impl HostKeys {
    /// Parses the contents of host key files, each with its path for errors.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a Path, Zeroizing<Vec<u8>>)>,
    ) -> Result<Self, HostKeyError> {
        let mut keys: Vec<PrivateKey> = Vec::new();
        for (path, bytes) in files {
            let key = host_key(path, &bytes)?;
            if keys
                .iter()
                .any(|known| known.algorithm() == key.algorithm())
            {
                return Err(HostKeyError::Duplicate {
                    path: path.to_owned(),
                    algorithm: key.algorithm().to_string(),
                });
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(HostKeyError::Missing);
        }
        Ok(Self(keys))
    }

    /// `SHA256:...` of each key, as clients show it, with its algorithm.
    pub fn fingerprints(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|key| {
            (
                key.algorithm().to_string(),
                key.public_key().fingerprint(HashAlg::Sha256).to_string(),
            )
        })
    }

    /// The keys themselves, as [`parse`](Self::parse) reads them.
    pub(crate) fn to_openssh(
        &self,
    ) -> impl Iterator<Item = Result<Zeroizing<String>, ssh_key::Error>> + '_ {
        self.0.iter().map(|key| key.to_openssh(LineEnding::LF))
    }

    pub(super) fn private_keys(&self) -> &[PrivateKey] {
        &self.0
    }
}

impl std::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.fingerprints()).finish()
    }
}

fn host_key(path: &Path, bytes: &[u8]) -> Result<PrivateKey, HostKeyError> {
    let key = PrivateKey::from_openssh(bytes).map_err(|error| HostKeyError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => {}
        other => {
            return Err(HostKeyError::Unsupported {
                path: path.to_owned(),
                algorithm: other.to_string(),
            });
        }
    }
    if key.is_encrypted() {
        return Err(HostKeyError::Encrypted {
            path: path.to_owned(),
        });
    }
    Ok(key)
}
