//! Private keys: read from PEM, made, and signing.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::super::IssuerError;
use super::{Algorithm, Jwk};
use crate::config::secrets::read_secret;
use crate::signing::private_file;

/// A private key with its public half. No Clone, Debug, Display or Serialize.
pub(in crate::issuer) struct Pair {
    secret: Secret,
    public: Jwk,
}

enum Secret {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Pair {
    /// Reads a PEM file: PKCS#8, SEC 1 or PKCS#1. The key says by what algorithm it signs.
    pub(in crate::issuer) fn open(path: &Path) -> Result<Self, IssuerError> {
        let text = read_secret(path)?;
        Self::parse(&text).ok_or_else(|| IssuerError::NotAKey {
            path: path.to_owned(),
        })
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let secret = Zeroizing::new(der.secret_der().to_vec());
        let ec = || EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret);
        match der {
            PrivateKeyDer::Pkcs1(_) => Self::rsa(RsaKeyPair::from_der(&secret).ok()?),
            PrivateKeyDer::Sec1(_) => Self::ec(ec().ok()?),
            _ => match ec() {
                Ok(pair) => Self::ec(pair),
                Err(_) => Self::rsa(RsaKeyPair::from_pkcs8(&secret).ok()?),
            },
        }
    }

    fn ec(pair: EcdsaKeyPair) -> Option<Self> {
        Some(Self {
            public: Jwk::of_point(pair.public_key().as_ref())?,
            secret: Secret::Ec(pair),
        })
    }

    fn rsa(pair: RsaKeyPair) -> Option<Self> {
        let (n, e) = modulus_and_exponent(pair.public_key().as_ref())?;
        Some(Self {
            public: Jwk::of_numbers(n, e)?,
            secret: Secret::Rsa(pair),
        })
    }

    pub(in crate::issuer) fn public(&self) -> &Jwk {
        &self.public
    }

    /// ES256: R and S, 32 bytes each. RS256: as long as the modulus.
    pub(in crate::issuer) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IssuerError> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Ec(pair) => {
                let signature = pair.sign(&random, message);
                let signature = signature.map_err(|_| IssuerError::Sign)?;
                Ok(signature.as_ref().to_vec())
            }
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| IssuerError::Sign)?;
                Ok(signature)
            }
        }
    }

    /// A new one, and its PKCS#8.
    fn generate(algorithm: Algorithm) -> Option<(Self, Zeroizing<Vec<u8>>)> {
        match algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
                let der = Zeroizing::new(pair.to_pkcs8v1().ok()?.as_ref().to_vec());
                Some((Self::ec(pair)?, der))
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa3072).ok()?;
                let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
                let der = Zeroizing::new(der.as_ref().to_vec());
                Some((Self::rsa(pair)?, der))
            }
        }
    }
}

/// `RSAPublicKey` (RFC 8017, A.1.1): a sequence of two positive integers.
fn modulus_and_exponent(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, rest) = element(0x30, der)?;
    let (n, more) = element(2, sequence)?;
    let (e, none) = element(2, more)?;
    let whole = rest.is_empty() && none.is_empty();
    let positive = |number| <[u8]>::strip_prefix(number, &[0]).unwrap_or(number);
    whole.then_some((positive(n), positive(e)))
}

/// The content of a DER element that begins with this tag, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 | 0x82 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Makes a key file (0600, PKCS#8 in PEM), on stable storage when this returns, and answers its public half. What is there is
/// never overwritten. An RSA key has 3072 bits.
///
/// # Errors
///
/// If there is a file already, or none can be made.
pub fn create_key(path: &Path, algorithm: Algorithm) -> Result<Jwk, IssuerError> {
    let (pair, der) = Pair::generate(algorithm).ok_or(IssuerError::Sign)?;
    let encoded = Zeroizing::new(STANDARD.encode(der.as_slice()));
    let mut pem = Zeroizing::new(String::with_capacity(4096));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        pem.push_str(rest);
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    private_file(path, pem.as_bytes()).map_err(|source| IssuerError::Io {
        path: path.to_owned(),
        doing: "making the key",
        source,
    })?;
    Ok(pair.public)
}
