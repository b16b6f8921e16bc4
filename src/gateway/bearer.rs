//! What a kubeconfig for a tunnel says to the gateway. It is worthless by itself: it counts on a tunnel that was
//! authenticated as the identity that it names, and keeps another OS user of that person's machine, who finds the
//! forwarded port, out of it. So it may lie in a file for years.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::Name;
use crate::config::secrets::{SecretError, read_secret};
use crate::recording::Secrets;
use crate::replaced;

/// What every bearer begins with: version 1.
const PREFIX: &str = "ba1";
const KEY_BYTES: usize = 32;

/// Why there are no bearers.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// The key cannot be read as the secret that it is.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error(
        "{path}: {reason}; move it away and a new one is made, and kubeconfigs must be fetched again"
    )]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// No key can be made.
    #[error("there is no randomness")]
    NoRandomness,
}

/// Makes and knows bearers.
pub(super) struct Bearers {
    key: hmac::Key,
    path: PathBuf,
    /// The generation that counts, of each identity that ever began a new one.
    generations: Mutex<BTreeMap<Name, u64>>,
    secrets: Secrets,
}

impl Bearers {
    /// Opens the key and the generations in `directory`, which is there; makes a key if there is none.
    pub(super) fn open(directory: &Path, secrets: Secrets) -> Result<Self, BearerError> {
        let key_path = directory.join("bearer.key");
        if !key_path.exists() {
            let mut fresh = zeroize::Zeroizing::new([0; KEY_BYTES]);
            aws_lc_rs::rand::fill(fresh.as_mut_slice()).map_err(|_| BearerError::NoRandomness)?;
            replaced::write(&key_path, fresh.as_slice()).map_err(at(&key_path))?;
        }
        let key = read_secret(&key_path)?;
        if key.len() != KEY_BYTES {
            return Err(BearerError::Unusable {
                path: key_path,
                reason: "not a key of 32 bytes",
            });
        }
        let path = directory.join("generations.json");
        let generations = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|_| BearerError::Unusable {
                path: path.clone(),
                reason: "not a list of generations",
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(at(&path)(source)),
        };
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            path,
            generations: Mutex::new(generations),
            secrets,
        })
    }

    /// The bearer of an identity's present generation. It is a secret from now on.
    pub(super) fn bearer(&self, identity: &Name) -> String {
        let bearer = self.present(identity);
        self.secrets.bearer(identity, bearer.clone());
        bearer
    }

    /// Has an identity's bearer be a secret, whoever has it.
    pub(super) fn known(&self, identity: &Name) {
        self.secrets.bearer(identity, self.present(identity));
    }

    fn present(&self, identity: &Name) -> String {
        let generation = self.generation(identity);
        let tag = hmac::sign(&self.key, message(identity, generation).as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(tag.as_ref());
        format!("{PREFIX}.{identity}.{generation}.{tag}")
    }

    /// Whether it is the present bearer of this identity. Takes the same time for any wrong tag.
    pub(super) fn knows(&self, identity: &Name, bearer: &str) -> bool {
        let mut parts = bearer.split('.');
        let (Some(PREFIX), Some(name), Some(generation), Some(tag), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return false;
        };
        let now = self.generation(identity);
        let Ok(tag) = URL_SAFE_NO_PAD.decode(tag) else {
            return false;
        };
        name == identity.as_str()
            && generation == now.to_string()
            && hmac::verify(&self.key, message(identity, now).as_bytes(), &tag).is_ok()
    }

    /// Begins a new generation: bearers from before count no more, also after a restart. Its number.
    pub(super) fn rotate(&self, identity: &Name) -> Result<u64, BearerError> {
        let mut generations = self.lock();
        let next = generations
            .get(identity)
            .copied()
            .unwrap_or(1)
            .saturating_add(1);
        let mut changed = generations.clone();
        changed.insert(identity.clone(), next);
        let text = serde_json::to_vec(&changed).map_err(|_| BearerError::Unusable {
            path: self.path.clone(),
            reason: "it cannot be written",
        })?;
        replaced::write(&self.path, &text).map_err(at(&self.path))?;
        *generations = changed;
        drop(generations);
        self.known(identity);
        Ok(next)
    }

    fn generation(&self, identity: &Name) -> u64 {
        self.lock().get(identity).copied().unwrap_or(1)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, u64>> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn message(identity: &Name, generation: u64) -> String {
    format!("bastion-audit bearer 1\0{identity}\0{generation}")
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BearerError {
    let path = path.to_owned();
    move |source| BearerError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_bearer_is_one_identitys_and_survives_a_restart_until_it_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let bearers = Bearers::open(dir.path(), Secrets::default()).unwrap();
        let (a, b) = (name("operator-a"), name("operator-b"));
        let first = bearers.bearer(&a);
        assert!(bearers.knows(&a, &first) && !bearers.knows(&b, &first));
        let bearers = Bearers::open(dir.path(), Secrets::default()).unwrap();
        assert!(bearers.knows(&a, &first));
        assert_eq!(bearers.rotate(&a).unwrap(), 2);
        let second = bearers.bearer(&a);
        assert!(!bearers.knows(&a, &first) && bearers.knows(&a, &second));
        assert!(bearers.knows(&b, &bearers.bearer(&b)));
        let bearers = Bearers::open(dir.path(), Secrets::default()).unwrap();
        assert!(!bearers.knows(&a, &first) && bearers.knows(&a, &second));
        // Another bastion's are none.
        let other = tempfile::tempdir().unwrap();
        assert!(
            !Bearers::open(other.path(), Secrets::default())
                .unwrap()
                .knows(&a, &first)
        );
    }

    #[test]
    fn what_is_no_bearer_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let bearers = Bearers::open(dir.path(), Secrets::default()).unwrap();
        let a = name("operator-a");
        let good = bearers.bearer(&a);
        let mut wrong: Vec<String> = [
            "",
            "ba1",
            "ba1.operator-a.1.",
            "ba1.operator-a.1",
            "the-daemon-adds-it",
        ]
        .map(str::to_owned)
        .into();
        wrong.push(format!("{good}."));
        wrong.push(format!(" {good}"));
        wrong.push(good.replace(".1.", ".01."));
        wrong.push(good.replace(".1.", ".2."));
        wrong.push(good.replace("ba1.", "ba2."));
        wrong.push(good.replace("operator-a", "operator-b"));
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            wrong.extend(String::from_utf8(bytes).ok());
        }
        for bearer in wrong {
            assert!(!bearers.knows(&a, &bearer), "{bearer}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        Bearers::open(dir.path(), Secrets::default()).unwrap();
        let key = dir.path().join("bearer.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Bearers::open(dir.path(), Secrets::default()),
            Err(BearerError::Secret(_))
        ));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&key, "short").unwrap();
        assert!(matches!(
            Bearers::open(dir.path(), Secrets::default()),
            Err(BearerError::Unusable { .. })
        ));
    }
}
