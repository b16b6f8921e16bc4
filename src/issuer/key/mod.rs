//! The keys that tokens are signed with: in a file, or with a process behind a unix socket.

mod jwk;
mod pair;
mod there;

use super::IssuerError;
use crate::config::IssuerKey;

pub use jwk::{Algorithm, Jwk};
pub(super) use pair::Pair;
pub use pair::create_key;

use there::There;

/// A key that signs, or could. No Clone, Display or Serialize.
pub(super) struct SigningKey {
    public: Jwk,
    holder: Holder,
}

enum Holder {
    Here(Pair),
    There(There),
}

impl SigningKey {
    /// Reads a key file, or takes a process at its public key's word: it is asked when the first token is signed.
    pub(super) fn open(source: &IssuerKey) -> Result<Self, IssuerError> {
        Ok(match source {
            IssuerKey::File(path) => {
                let pair = Pair::open(path)?;
                Self {
                    public: pair.public().clone(),
                    holder: Holder::Here(pair),
                }
            }
            IssuerKey::Socket { socket, public_key } => Self {
                public: public_key.clone(),
                holder: Holder::There(There::new(socket.clone())),
            },
        })
    }

    /// `kid`: the key's thumbprint.
    pub(super) fn id(&self) -> &str {
        self.public.id()
    }

    pub(super) fn public(&self) -> &Jwk {
        &self.public
    }

    /// Whether a signature takes some microseconds. What takes longer is not for a thread that others wait for.
    pub(super) fn is_quick(&self) -> bool {
        matches!(&self.holder, Holder::Here(_)) && self.public.algorithm() == Algorithm::Es256
    }

    /// Whether whoever holds it is there. Blocks, for 3 s at most.
    pub(super) fn look(&self) -> Result<(), IssuerError> {
        match &self.holder {
            Holder::Here(_) => Ok(()),
            Holder::There(there) => there.look(&self.public),
        }
    }

    /// As RFC 7518 writes signatures (3.3, 3.4). Blocks, for 3 s at most.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IssuerError> {
        match &self.holder {
            Holder::Here(pair) => pair.sign(message),
            Holder::There(there) => there.sign(message, &self.public),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}
