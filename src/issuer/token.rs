//! Tokens: who, for which cluster, in which session, until when.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;

use super::{Algorithm, Issuer, IssuerError, Jwk};
use crate::config::Name;
use crate::mint::Credential;
use crate::session::SessionId;

/// From wanting a signature to having it, with whatever waits before it.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is claimed of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims<'a> {
    /// `aud`: the cluster that it is for.
    pub audience: &'a str,
    /// `sub`: the identity.
    pub identity: &'a Name,
    /// `groups`: of the role, without the prefix.
    pub groups: Vec<&'a str>,
    /// `sid`: the session.
    pub session: SessionId,
}

/// A token as signed.
#[derive(Debug)]
pub struct Signed {
    /// The token itself.
    pub credential: Credential,
    /// Its id, which no other has.
    pub jti: String,
    /// From then on it is refused.
    pub expires: Timestamp,
}

/// The payload (RFC 7519, 4.1; `sid` of OpenID Connect Front-Channel Logout 1.0). `nbf` is there because the bound on the
/// lifetime counts from it: API servers refuse tokens of the future by it, and look at `iat` not at all.
#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    groups: &'a [&'a str],
    sid: SessionId,
    jti: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// What a token's header says (RFC 7515, 4.1).
#[derive(Serialize)]
pub(super) struct Header<'a> {
    alg: Algorithm,
    typ: &'static str,
    kid: &'a str,
}

impl<'a> Header<'a> {
    pub(super) fn of(key: &'a Jwk) -> Self {
        Self {
            alg: key.algorithm(),
            typ: "JWT",
            kid: key.id(),
        }
    }
}

/// All of a token but its signature.
struct Unsigned {
    text: String,
    jti: String,
    expires: Timestamp,
}

impl Unsigned {
    fn signed(mut self, signature: &[u8]) -> Signed {
        self.text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut self.text);
        Signed {
            credential: Credential::new(self.text),
            jti: self.jti,
            expires: self.expires,
        }
    }
}

impl Issuer {
    /// Signs a token that is good from now on, for the configured time. What takes longer than some microseconds is done elsewhere, for 4 s
    /// at most.
    ///
    /// # Errors
    ///
    /// If whoever holds the key does not sign, the system has no randomness, or its clock is beyond all bounds.
    pub async fn sign(&self, claims: &Claims<'_>, now: Timestamp) -> Result<Signed, IssuerError> {
        let unsigned = self.unsigned(claims, now)?;
        if self.signing.is_quick() {
            let signature = self.signing.sign(unsigned.text.as_bytes())?;
            return Ok(unsigned.signed(&signature));
        }
        let signing = Arc::clone(&self.signing);
        let places = Arc::clone(&self.places);
        let work = async {
            let place = places.acquire_owned().await;
            let place = place.map_err(|_| IssuerError::Sign)?;
            let signed = tokio::task::spawn_blocking(move || {
                let _place = place;
                let signature = signing.sign(unsigned.text.as_bytes())?;
                Ok(unsigned.signed(&signature))
            });
            signed.await.map_err(|_| IssuerError::Sign)?
        };
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(signed) => signed,
            Err(_) => Err(IssuerError::Busy),
        }
    }

    fn unsigned(&self, claims: &Claims<'_>, now: Timestamp) -> Result<Unsigned, IssuerError> {
        let jti = new_id()?;
        let begins = now.as_second();
        let ends = begins.saturating_add(self.ttl.as_secs().into());
        let payload = Payload {
            iss: &self.url,
            aud: claims.audience,
            sub: claims.identity.as_str(),
            groups: &claims.groups,
            sid: claims.session,
            jti: &jti,
            iat: begins,
            nbf: begins,
            exp: ends,
        };
        let header = Header::of(self.signing.public());
        let header = serde_json::to_vec(&header).map_err(|_| IssuerError::Sign)?;
        let payload = serde_json::to_vec(&payload).map_err(|_| IssuerError::Sign)?;
        // Whole from the start: a text that grows leaves copies behind that nobody wipes.
        let mut text = String::with_capacity(2048 + payload.len() * 2);
        URL_SAFE_NO_PAD.encode_string(header, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        Ok(Unsigned {
            text,
            jti,
            expires: Timestamp::from_second(ends).map_err(|_| IssuerError::Sign)?,
        })
    }
}

/// 128 bits, hexadecimal.
fn new_id() -> Result<String, IssuerError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IssuerError::Sign)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
