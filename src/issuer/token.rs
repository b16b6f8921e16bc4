//! Tokens: who, for which cluster, in which session, until when.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;

use super::{Issuer, IssuerError};
use crate::config::Name;
use crate::mint::Credential;
use crate::session::SessionId;

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

impl Issuer {
    /// Signs a token that is good from now on, for the configured time.
    ///
    /// # Errors
    ///
    /// If the system has no randomness, or its clock is beyond all bounds.
    pub fn sign(&self, claims: &Claims<'_>, now: Timestamp) -> Result<Signed, IssuerError> {
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
        let header = serde_json::json!({"alg": "ES256", "typ": "JWT", "kid": self.key_id()});
        let payload = serde_json::to_vec(&payload).map_err(|_| IssuerError::Sign)?;
        // Whole from the start: a text that grows leaves copies behind that nobody wipes.
        let mut token = String::with_capacity(512 + payload.len() * 2);
        URL_SAFE_NO_PAD.encode_string(header.to_string(), &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.signing.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Signed {
            credential: Credential::new(token),
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
