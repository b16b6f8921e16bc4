//! A key behind a unix socket: `bastion-audit issuer signer` has it, and the daemon asks for each token's signature.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::super::IssuerError;
use super::Jwk;
use crate::signing::{Answer, Asking};

/// Whoever holds the key.
pub(super) struct There(Asking);

impl There {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self(Asking::new(socket))
    }

    /// Only a signature that `public` verifies counts.
    pub(super) fn sign(&self, message: &[u8], public: &Jwk) -> Result<Vec<u8>, IssuerError> {
        match self.ask(message, public)? {
            Answer::Signed(signature) if public.verifies(message, &signature) => Ok(signature),
            Answer::Signed(_) | Answer::NotUnderstood => Err(self.lied()),
            Answer::Refused(reason) => Err(IssuerError::SignerRefused {
                socket: self.0.socket().to_owned(),
                reason,
            }),
        }
    }

    /// Whether somebody is there who does not sign just anything.
    pub(super) fn look(&self, public: &Jwk) -> Result<(), IssuerError> {
        match self.ask(b"this is no token", public)? {
            Answer::Refused(_) => Ok(()),
            Answer::Signed(_) | Answer::NotUnderstood => Err(self.lied()),
        }
    }

    fn ask(&self, message: &[u8], public: &Jwk) -> Result<Answer, IssuerError> {
        let socket = || self.0.socket().to_owned();
        self.0
            .ask(message, public.signature_length())
            .map_err(|error| match error.kind() {
                ErrorKind::TimedOut => IssuerError::SignerSlow { socket: socket() },
                _ => IssuerError::SignerGone {
                    socket: socket(),
                    source: error,
                },
            })
    }

    fn lied(&self) -> IssuerError {
        IssuerError::SignerLied {
            socket: self.0.socket().to_owned(),
        }
    }
}
