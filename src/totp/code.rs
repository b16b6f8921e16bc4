//! What codes are made from, and what was typed. Six digits, SHA-1, 30 s: what every authenticator understands.

use sha2::{Digest as _, Sha256};
use totp_rs::{Algorithm, Builder, Totp};

use super::Hidden;

/// One code's time, in seconds.
const STEP: u64 = 30;
const DIGITS: u8 = 6;
/// Codes before and after the present one that are good too: clocks differ, and typing takes time.
const SKEW: u16 = 1;
/// Bytes that codes are made from (RFC 4226, 4: 160 bits are recommended).
const SECRET: usize = 20;
/// Bytes of a recovery code: too many to guess at any rate, so that a hash without salt will do, and no limit on tries.
const RECOVERY: usize = 10;
/// Recovery codes of one enrolment.
pub(super) const RECOVERY_CODES: usize = 10;
/// The longest answer that is looked at, in bytes.
const LONGEST: usize = 64;

/// What an identity's codes are made from.
#[derive(Clone)]
pub struct Secret(totp_rs::Secret);

/// Not what codes can be made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not base32 of 16 bytes or more")]
pub struct NotASecret;

/// No secret could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no randomness to give")]
pub struct NoRandomness;

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub fn random() -> Result<Self, NoRandomness> {
        random::<SECRET>().map(|bytes| Self(totp_rs::Secret::from(bytes)))
    }

    /// From base32, as [`Secret::base32`] writes it.
    ///
    /// # Errors
    ///
    /// If it is not base32, or too short (RFC 4226, 4: 128 bits at least).
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let secret = totp_rs::Secret::try_from_base32(text).map_err(|_| NotASecret)?;
        let secret = Self(secret);
        secret.totp("x", "x").map(|_| secret).ok_or(NotASecret)
    }

    /// As files and authenticators have it.
    pub fn base32(&self) -> Hidden {
        Hidden::new(self.0.to_base32())
    }

    /// The `otpauth://` URL that authenticators read, from a QR code mostly.
    pub fn url(&self, issuer: &str, account: &str) -> Option<Hidden> {
        let url = self.totp(issuer, account)?.to_url().ok()?;
        Some(Hidden::new(url))
    }

    /// The step that these digits are the code of, if they are one's that is good at `now` (seconds of Unix time). Each comparison takes the same
    /// time whatever is compared.
    pub(super) fn step_of(&self, digits: &str, now: u64) -> Option<u64> {
        self.totp("x", "x")?.check(digits, now)
    }

    /// The code that is good at `now`.
    #[cfg(test)]
    pub(super) fn code_at(&self, now: u64) -> String {
        self.totp("x", "x").unwrap().generate(now).to_string()
    }

    fn totp(&self, issuer: &str, account: &str) -> Option<Totp> {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_skew(SKEW)
            .with_step_duration(STEP)
            .with_secret(self.0.clone())
            .with_issuer(Some(issuer))
            .with_account_name(account)
            .build()
            .ok()
    }
}

/// What somebody typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Digits of an authenticator.
    Digits(Hidden),
    /// What may be a recovery code, by its hash.
    Recovery(String),
    /// Nothing that could be either: no guess.
    Neither,
}

impl Typed {
    /// Spaces and dashes are as people read codes out, and mean nothing.
    pub(super) fn read(text: &str) -> Self {
        if text.len() > LONGEST {
            return Self::Neither;
        }
        let plain = text.chars().filter(|c| !matches!(c, ' ' | '-'));
        let plain = Hidden::new(plain.collect::<String>());
        let code = plain.expose();
        if code.len() == usize::from(DIGITS) && code.bytes().all(|b| b.is_ascii_digit()) {
            return Self::Digits(plain);
        }
        let letters = RECOVERY * 8 / 5;
        if code.len() == letters && code.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Self::Recovery(hash(code));
        }
        Self::Neither
    }
}

/// Recovery codes as they are shown, each with the hash that is kept of it.
pub(super) fn recovery_codes() -> Result<Vec<(Hidden, String)>, NoRandomness> {
    (0..RECOVERY_CODES)
        .map(|_| {
            let code = totp_rs::Secret::from(random::<RECOVERY>()?).to_base32();
            let hash = hash(&code);
            let groups: Vec<&str> = [0, 4, 8, 12]
                .iter()
                .filter_map(|from| code.get(*from..*from + 4))
                .collect();
            Ok((Hidden::new(groups.join("-").to_lowercase()), hash))
        })
        .collect()
}

/// SHA-256, hex.
fn hash(recovery_code: &str) -> String {
    let upper = Hidden::new(recovery_code.to_uppercase());
    let digest = Sha256::digest(upper.expose().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether two hashes are the same, in the same time whatever they are.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}
