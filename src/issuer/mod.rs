//! The daemon as an OpenID Connect issuer for its clusters.
//!
//! Where an API server can be told to trust it (`--authentication-config`), an operator is there under their own name,
//! and the daemon needs no right in the cluster at all. What it may claim is bounded by a file that it cannot edit:
//! [`authentication_config`] writes it.
//!
//! Tokens are JSON Web Tokens (RFC 7519) signed with ES256, or RS256 where the key is one of RSA (RFC 7518, 3.4 and 3.3), which takes
//! `aws-lc-rs` and no crate of its own. The documents are those of OpenID Connect Discovery 1.0 and RFC 7517.

mod authentication;
mod documents;
mod error;
mod holder;
mod key;
mod listener;
mod published;
#[cfg(test)]
mod tests;
mod token;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::config::{CredentialTtl, IssuerSettings};

pub use authentication::{SESSION, authentication_config, groups_of};
pub use documents::Documents;
pub use error::IssuerError;
pub use holder::{KeyHolder, NotSigned};
pub use key::{Algorithm, Jwk, create_key};
pub use listener::DocumentServer;
pub use published::check_published;
pub use token::{Claims, Signed};

use key::SigningKey;

/// Signatures under way that take longer than some microseconds.
const AT_ONCE: usize = 16;

/// What the API server puts before every name and group of ours, so that none can be one of its own.
pub const PREFIX: &str = "ssh:";

/// A name or group as it is in the cluster.
pub fn prefixed(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Who signs, with what.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    ttl: CredentialTtl,
    signing: Arc<SigningKey>,
    places: Arc<Semaphore>,
    documents: Documents,
}

impl Issuer {
    /// Reads the keys, after making sure that only the daemon and root can. A process that holds one is not asked yet.
    ///
    /// # Errors
    ///
    /// If one cannot be read or is no key for ES256 or RS256.
    pub fn open(settings: &IssuerSettings) -> Result<Self, IssuerError> {
        let mut keys = Vec::new();
        for source in &settings.signing_keys {
            let key = SigningKey::open(source)?;
            if keys.iter().any(|other: &SigningKey| other.id() == key.id()) {
                let path = source.path().clone();
                return Err(IssuerError::Twice { path });
            }
            keys.push(key);
        }
        let documents = Documents::new(settings, &keys);
        let signing = keys.into_iter().next().ok_or(IssuerError::NoKey)?;
        Ok(Self {
            url: settings.url.clone(),
            ttl: settings.token_ttl,
            signing: Arc::new(signing),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            documents,
        })
    }

    /// `iss`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is published: where its keys are, and which.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Whether the key that signs is at hand, or with a process that answers. Blocks, for 3 s at most.
    ///
    /// # Errors
    ///
    /// If that process does not answer, or signs what is no token.
    pub fn look(&self) -> Result<(), IssuerError> {
        self.signing.look()
    }

    /// The id of the key that signs.
    pub fn key_id(&self) -> &str {
        self.signing.id()
    }
}

/// The issuer in force. Cheap to clone; a configuration that changes replaces it for all.
#[derive(Clone, Debug, Default)]
pub struct Issuing(Arc<Mutex<Current>>);

#[derive(Debug, Default)]
struct Current {
    settings: Option<IssuerSettings>,
    issuer: Option<Arc<Issuer>>,
}

impl Issuing {
    /// Takes settings over. The same ones again change nothing: key files are read when they are named, not when they change.
    ///
    /// # Errors
    ///
    /// As [`Issuer::open`]; what was in force stays.
    pub fn update(&self, settings: Option<&IssuerSettings>) -> Result<(), IssuerError> {
        if self.lock().settings.as_ref() == settings {
            return Ok(());
        }
        let issuer = settings.map(Issuer::open).transpose()?.map(Arc::new);
        if let Some(issuer) = &issuer {
            tracing::info!(
                key = issuer.key_id(),
                issuer = issuer.url(),
                "tokens are signed with this key"
            );
        }
        *self.lock() = Current {
            settings: settings.cloned(),
            issuer,
        };
        Ok(())
    }

    /// The issuer, if there is one.
    pub fn issuer(&self) -> Option<Arc<Issuer>> {
        self.lock().issuer.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
