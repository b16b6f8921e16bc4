//! The daemon's end of the signer's socket.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::asking::{Answer, Asking};
use super::{PublicKey, Signer, SigningError};

/// Signs by asking a process that holds the key.
#[derive(Debug)]
pub struct SocketSigner {
    asking: Asking,
    key: PublicKey,
}

impl SocketSigner {
    /// Asks at `socket`, for signatures by `key`. Nothing is connected to before the first.
    pub fn new(socket: PathBuf, key: PublicKey) -> Self {
        Self {
            asking: Asking::new(socket),
            key,
        }
    }
}

impl Signer for SocketSigner {
    fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; 64], SigningError> {
        let socket = || self.asking.socket().to_owned();
        let lied = || SigningError::Lied {
            by: self.key.label(),
        };
        match self.asking.ask(text, 64) {
            Ok(Answer::Signed(signature)) => signature.try_into().map_err(|_| lied()),
            Ok(Answer::Refused(reason)) => Err(SigningError::Refused {
                socket: socket(),
                reason,
            }),
            Ok(Answer::NotUnderstood) => Err(lied()),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(SigningError::Slow),
            Err(source) => Err(SigningError::Gone {
                socket: socket(),
                source: Arc::new(source),
            }),
        }
    }
}
