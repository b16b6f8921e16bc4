//! The signing process of an issuer's key: `bastion-audit issuer signer`.
//!
//! It signs tokens of one issuer, that begin now and end in time, and nothing else. So whoever has the daemon has tokens for as long as
//! they have it, and carries neither the key away nor tokens for next week.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

use super::IssuerError;
use super::key::{Jwk, Pair};
use super::token::Header;

/// The longest that `tokenTtl` can be, in seconds.
const LONGEST: i64 = 600;
/// How far a token's beginning may be from now, in seconds: one asks on the same machine.
const SKEW: i64 = 60;

/// Holds a key, and says what for.
pub struct KeyHolder {
    pair: Pair,
    issuer: String,
}

/// Why something is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// Not the first two parts of one.
    #[error("this is no token")]
    NotAToken,
    /// Its header names another key or algorithm.
    #[error("this token is to be signed by another key")]
    OtherKey,
    /// `iss`.
    #[error("this token is another issuer's")]
    OtherIssuer,
    /// `nbf` and `exp`.
    #[error("this token does not begin now, or lives longer than {LONGEST} s")]
    Times,
    /// The library did not.
    #[error("it could not be signed")]
    Failed,
}

/// What is looked at of a payload.
#[derive(Deserialize)]
struct Looked {
    iss: String,
    nbf: i64,
    exp: i64,
}

impl KeyHolder {
    /// Reads a key file, to sign for the issuer of this URL.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no key, or others can read it.
    pub fn open(path: &Path, issuer: String) -> Result<Self, IssuerError> {
        Ok(Self {
            pair: Pair::open(path)?,
            issuer,
        })
    }

    /// The public half.
    pub fn public(&self) -> &Jwk {
        self.pair.public()
    }

    /// Signs the first two parts of a token.
    ///
    /// # Errors
    ///
    /// If it is none that the daemon would make now.
    pub fn sign(&self, message: &[u8], now: Timestamp) -> Result<Vec<u8>, NotSigned> {
        let text = std::str::from_utf8(message).map_err(|_| NotSigned::NotAToken)?;
        let (header, payload) = text.split_once('.').ok_or(NotSigned::NotAToken)?;
        let json = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| NotSigned::NotAToken)
        };
        let header: serde_json::Value =
            serde_json::from_slice(&json(header)?).map_err(|_| NotSigned::NotAToken)?;
        if serde_json::to_value(Header::of(self.public())).ok() != Some(header) {
            return Err(NotSigned::OtherKey);
        }
        let said: Looked =
            serde_json::from_slice(&json(payload)?).map_err(|_| NotSigned::NotAToken)?;
        if said.iss != self.issuer {
            return Err(NotSigned::OtherIssuer);
        }
        let lives = said.exp.saturating_sub(said.nbf);
        let off = said.nbf.saturating_sub(now.as_second());
        if !(1..=LONGEST).contains(&lives) || !(-SKEW..=SKEW).contains(&off) {
            return Err(NotSigned::Times);
        }
        self.pair.sign(message).map_err(|_| NotSigned::Failed)
    }
}

impl std::fmt::Debug for KeyHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyHolder({})", self.public().id())
    }
}
