//! Public keys as RFC 7517 writes them, of two kinds: P-256 (RFC 7518, 6.2.1) and RSA (6.3.1).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Bytes of the smallest and of the largest modulus: 2048 and 8192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// How tokens are signed (RFC 7518, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, for API servers that know no other.
    Rs256,
}

impl Algorithm {
    /// As tokens name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The public half of a signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    #[serde(flatten)]
    numbers: Numbers,
    alg: Algorithm,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kty")]
enum Numbers {
    #[serde(rename = "EC")]
    Ec {
        crv: &'static str,
        x: String,
        y: String,
    },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
}

impl Jwk {
    /// Of the coordinates of a point on P-256, base64url. None if there is no such point.
    pub fn ec(x: &str, y: &str) -> Option<Self> {
        let coordinate = |text: &str| decoded(text).filter(|bytes| bytes.len() == 32);
        Self::of_point(&[vec![4], coordinate(x)?, coordinate(y)?].concat())
    }

    /// Of a modulus of 2048 to 8192 bits and an exponent, base64url. None if they are none.
    pub fn rsa(n: &str, e: &str) -> Option<Self> {
        Self::of_numbers(&decoded(n)?, &decoded(e)?)
    }

    /// Of an uncompressed point (SEC 1, 2.3.3): 4, X and Y.
    pub(super) fn of_point(point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
        let (x, y) = (encoded(x), encoded(y));
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
        // RFC 7638: these members, in this order, without a space.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let crv = "P-256";
        Some(Self::new(
            Numbers::Ec { crv, x, y },
            Algorithm::Es256,
            &members,
        ))
    }

    /// Of a modulus and an exponent, the highest byte first.
    pub(super) fn of_numbers(n: &[u8], e: &[u8]) -> Option<Self> {
        let fine = MODULUS.contains(&n.len()) && (1..=8).contains(&e.len());
        if !fine || n.first() == Some(&0) || e.first() == Some(&0) {
            return None;
        }
        let components = RsaPublicKeyComponents { n, e };
        components
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .ok()?;
        let (n, e) = (encoded(n), encoded(e));
        let members = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        Some(Self::new(Numbers::Rsa { n, e }, Algorithm::Rs256, &members))
    }

    fn new(numbers: Numbers, alg: Algorithm, members: &str) -> Self {
        Self {
            numbers,
            alg,
            usage: "sig",
            kid: encoded(&Sha256::digest(members)),
        }
    }

    /// `kid`: the key's thumbprint (RFC 7638).
    pub fn id(&self) -> &str {
        &self.kid
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.alg
    }

    /// Length of a signature, in bytes.
    pub(in crate::issuer) fn signature_length(&self) -> usize {
        match &self.numbers {
            Numbers::Ec { .. } => 64,
            Numbers::Rsa { n, .. } => decoded(n).map_or(0, |n| n.len()),
        }
    }

    /// Whether that is a signature of it.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.numbers {
            Numbers::Ec { x, y, .. } => {
                let (Some(x), Some(y)) = (decoded(x), decoded(y)) else {
                    return false;
                };
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [vec![4], x, y].concat())
                    .verify(message, signature)
                    .is_ok()
            }
            Numbers::Rsa { n, e } => {
                let (Some(n), Some(e)) = (decoded(n), decoded(e)) else {
                    return false;
                };
                RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                    .is_ok()
            }
        }
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
