//! What is drawn for one attempt, and how what comes back is compared with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::totp::Hidden;

/// Bytes of a link, a state, a nonce and a cookie.
const BYTES: usize = 32;
/// Letters of a code: consonants, so that no words come of it and none looks like another or like a digit (RFC 8628, 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// 20^8 are 34 bits, and three tries.
const CODE: usize = 8;
/// The longest answer that is looked at, in bytes.
const LONGEST: usize = 64;

/// The system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no randomness to give")]
pub struct NoRandomness;

/// What something secret is found by: comparing these tells nothing of the secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// In the same time whatever they are.
    pub(super) fn is(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// 256 bits, as they may stand in a URL.
pub(super) fn random() -> Result<Hidden, NoRandomness> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(Hidden::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// A code as it is shown: `WDJB-MJHT`.
pub(super) fn code() -> Result<Hidden, NoRandomness> {
    let mut code = String::new();
    while code.len() < CODE + 1 {
        let mut bytes = [0; 1];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        // 240 is a multiple of 20: none of the letters comes more often than another.
        let Some(byte) = bytes.first().filter(|byte| **byte < 240) else {
            continue;
        };
        if code.len() == CODE / 2 {
            code.push('-');
        }
        let letter = LETTERS.get(usize::from(byte % 20)).copied();
        code.extend(letter.map(char::from));
    }
    Ok(Hidden::new(code))
}

/// Whether what was typed is this code, in the same time whatever it is. Case, spaces and dashes are as people type them.
pub(super) fn is_code(code: &Hidden, typed: &Hidden) -> bool {
    if typed.expose().len() > LONGEST {
        return false;
    }
    let plain = |text: &Hidden| {
        let letters = text.expose().chars().filter(|c| !matches!(c, ' ' | '-'));
        Hidden::new(letters.collect::<String>().to_ascii_uppercase())
    };
    let (code, typed) = (plain(code), plain(typed));
    Key::of(code.expose()).is(&Key::of(typed.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_typed_as_people_type() {
        let code = code().unwrap();
        let shown = code.expose();
        assert_eq!(shown.len(), 9, "{shown}");
        assert!(shown.bytes().all(|b| b == b'-' || LETTERS.contains(&b)));
        let (one, other) = shown.split_once('-').unwrap();
        for typed in [
            shown.to_owned(),
            shown.to_lowercase(),
            format!(" {one}{other} "),
            format!("{one} - {other}"),
        ] {
            assert!(is_code(&code, &Hidden::new(typed)));
        }
        for wrong in ["", "-", one, &format!("{shown}B"), &"B".repeat(100)] {
            assert!(!is_code(&code, &Hidden::new(wrong)), "{wrong}");
        }
        assert_ne!(self::code().unwrap(), code);
    }
}
