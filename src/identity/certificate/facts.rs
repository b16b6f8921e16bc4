//! What is told of a certificate, in audit events and recordings.

use jiff::Timestamp;
use russh::keys::{Certificate, HashAlg};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Name};

/// The longest text of a certificate that is told, in characters. It is in every checkpoint of a recording, and those are bounded.
const MAX_TEXT: usize = 128;
/// Principals that are told.
const MAX_TOLD: usize = 8;

/// What a certificate says of itself. Of one that proved nobody all but the key is what its maker wanted it to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFacts {
    /// The CertificateAuthority whose key signed it, by name; none if it is of none.
    pub authority: Option<Name>,
    /// The key that signed it, `SHA256:...`.
    pub signed_by: String,
    /// Its serial in decimal digits; text, because it may be beyond what readers of JSON hold exactly.
    pub serial: String,
    /// Its key id, escaped, at most 128 characters.
    pub key_id: String,
    /// Its principals, escaped, at most 128 characters each, the first 8.
    pub principals: Vec<String>,
    /// When it ends; none if it never does.
    pub valid_before: Option<Timestamp>,
}

impl CertificateFacts {
    /// Of a certificate, under a configuration.
    pub fn of(config: &Config, certificate: &Certificate) -> Self {
        let authority = config.authority_of(certificate.signature_key());
        Self {
            authority: authority.map(|authority| authority.name.clone()),
            signed_by: certificate
                .signature_key()
                .fingerprint(HashAlg::Sha256)
                .to_string(),
            serial: certificate.serial().to_string(),
            key_id: shown(certificate.key_id()),
            principals: certificate
                .valid_principals()
                .iter()
                .take(MAX_TOLD)
                .map(|principal| shown(principal))
                .collect(),
            valid_before: moment(certificate.valid_before()),
        }
    }
}

impl std::fmt::Display for CertificateFacts {
    /// `certificate 7 of corp (key id jane)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let authority = self.authority.as_ref().map_or("nobody known", Name::as_str);
        write!(f, "certificate {} of {authority}", self.serial)?;
        if !self.key_id.is_empty() {
            write!(f, " (key id {})", self.key_id)?;
        }
        Ok(())
    }
}

/// A certificate's text without control characters, and bounded.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .flat_map(char::escape_debug)
        .take(MAX_TEXT)
        .collect()
}

/// Seconds since 1970; none if they are beyond every calendar, as OpenSSH's "forever" is.
pub(super) fn moment(seconds: u64) -> Option<Timestamp> {
    let seconds = i64::try_from(seconds).ok()?;
    Timestamp::from_second(seconds).ok()
}
