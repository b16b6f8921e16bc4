//! Who can read an encrypted recording.

use std::io::{self, BufRead, Write};
use std::str::FromStr;

use age::stream::{StreamReader, StreamWriter};

use super::error::RecordingError;

/// Who can read what the daemon records, and the daemon cannot: at least one public key of age or ssh-ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients(Vec<Recipient>);

/// A public key as it is written: `age1...` or `ssh-ed25519 AAAA...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(String);

/// A text that is no public key that recordings are encrypted to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no recipient: write the public key of an age identity (age1..., from age-keygen) or an ssh-ed25519 public key"
)]
pub struct NotARecipient;

impl FromStr for Recipient {
    type Err = NotARecipient;

    fn from_str(text: &str) -> Result<Self, NotARecipient> {
        let text = text.trim();
        Self::key(text).map(|_| Self(text.to_owned()))
    }
}

impl Recipient {
    fn key(text: &str) -> Result<Box<dyn age::Recipient + Send + Sync>, NotARecipient> {
        if let Ok(key) = text.parse::<age::x25519::Recipient>() {
            return Ok(Box::new(key));
        }
        match text.parse::<age::ssh::Recipient>() {
            Ok(key @ age::ssh::Recipient::SshEd25519(..)) => Ok(Box::new(key)),
            // No RSA, for the reason that host keys have.
            Ok(age::ssh::Recipient::SshRsa(..)) | Err(_) => Err(NotARecipient),
        }
    }
}

impl Recipients {
    /// `None` of nobody: what nobody can read is not recorded that way.
    pub fn new(recipients: Vec<Recipient>) -> Option<Self> {
        (!recipients.is_empty()).then_some(Self(recipients))
    }

    /// A writer whose output stock `age -d` reads with a private key of any of them.
    pub(crate) fn encrypt<W: Write>(&self, output: W) -> Result<StreamWriter<W>, RecordingError> {
        let keys: Vec<_> = self
            .0
            .iter()
            .map(|recipient| Recipient::key(&recipient.0))
            .collect::<Result<_, _>>()
            .map_err(|_| RecordingError::Recipients)?;
        let keys = keys.iter().map(|key| &**key as &dyn age::Recipient);
        age::Encryptor::with_recipients(keys)
            .map_err(|_| RecordingError::Recipients)?
            .wrap_output(output)
            .map_err(RecordingError::Encrypt)
    }
}

/// What was encrypted to somebody whose private key this is.
pub(super) fn decrypted<R: BufRead>(
    input: R,
    identities: &[Box<dyn age::Identity + Send + Sync>],
) -> io::Result<StreamReader<R>> {
    let decryptor = age::Decryptor::new_buffered(input).map_err(io::Error::other)?;
    let identities = identities.iter().map(|it| &**it as &dyn age::Identity);
    decryptor.decrypt(identities).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => io::Error::other(
            "none of the identities given belongs to a recipient of this recording",
        ),
        error => io::Error::other(error),
    })
}
