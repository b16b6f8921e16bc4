//! ES256 keys: ECDSA on P-256 with SHA-256, as RFC 7518 writes signatures and RFC 7517 public keys.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::IssuerError;
use crate::config::secrets::read_secret;
use crate::signing::private_file;

/// A private key. No Clone, Display or Serialize.
pub(super) struct SigningKey {
    pair: EcdsaKeyPair,
    public: Jwk,
}

/// The public half (RFC 7517, RFC 7518 6.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Jwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
    x: String,
    y: String,
}

impl SigningKey {
    /// Reads a PEM file: PKCS#8 or SEC 1.
    pub(super) fn open(path: &Path) -> Result<Self, IssuerError> {
        let text = read_secret(path)?;
        Self::parse(&text).ok_or_else(|| IssuerError::NotAKey {
            path: path.to_owned(),
        })
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let der = Zeroizing::new(PrivateKeyDer::from_pem_slice(pem).ok()?);
        let pair =
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der());
        Self::new(pair.ok()?)
    }

    pub(super) fn new(pair: EcdsaKeyPair) -> Option<Self> {
        let public = Jwk::of(pair.public_key().as_ref())?;
        Some(Self { pair, public })
    }

    /// `kid`: the key's thumbprint.
    pub(super) fn id(&self) -> &str {
        &self.public.kid
    }

    pub(super) fn public(&self) -> &Jwk {
        &self.public
    }

    /// R and S, 32 bytes each (RFC 7518, 3.4).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IssuerError> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|_| IssuerError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl Jwk {
    /// Of an uncompressed point (SEC 1, 2.3.3): 4, X and Y.
    fn of(point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
        let encoded = |coordinate: &[u8]| URL_SAFE_NO_PAD.encode(coordinate);
        let (x, y) = (encoded(x), encoded(y));
        // RFC 7638: these members, in this order, without a space.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Some(Self {
            kty: "EC",
            crv: "P-256",
            alg: "ES256",
            usage: "sig",
            kid: encoded(&Sha256::digest(members)),
            x,
            y,
        })
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

/// Makes a key file (0600, PKCS#8 in PEM), on stable storage when this returns, and answers the key's id. What is there is
/// never overwritten.
///
/// # Errors
///
/// If there is a file already, or none can be made.
pub fn create_key(path: &Path) -> Result<String, IssuerError> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let pair = pair.map_err(|_| IssuerError::Sign)?;
    let der = pair.to_pkcs8v1().map_err(|_| IssuerError::Sign)?;
    let encoded = Zeroizing::new(STANDARD.encode(der.as_ref()));
    let mut pem = Zeroizing::new(String::with_capacity(512));
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
    let key = SigningKey::new(pair).ok_or(IssuerError::Sign)?;
    Ok(key.id().to_owned())
}
