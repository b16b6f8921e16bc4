//! The opening handshake (RFC 6455, 4), each side of it for itself: the client's key never reaches the API server.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};

use super::Subprotocol;

/// Every accept is a digest of a key and this (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The most subprotocols that a client may offer.
const MAX_OFFERED: usize = 16;

/// Why a handshake is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not the one version there is.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// No key, several, or none of 16 bytes.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64, once")]
    Key,
    /// No subprotocol was offered.
    #[error("a WebSocket needs a subprotocol here: {expected}")]
    NoSubprotocol {
        /// What would do.
        expected: String,
    },
    /// Only ones that are not spoken here.
    #[error("none of the subprotocols offered is spoken here; offer {expected}")]
    Subprotocols {
        /// What would do.
        expected: String,
    },
    /// The server's answer is no answer to our key.
    #[error("the API server's Sec-WebSocket-Accept does not answer our key")]
    Accept,
    /// The server chose none of the subprotocols that we offered.
    #[error("the API server chose no subprotocol that was offered")]
    Chosen,
    /// The server agreed to an extension that we did not offer.
    #[error("the API server wants a WebSocket extension that was not offered")]
    Extension,
    /// There is no randomness for a key.
    #[error("no randomness for a key")]
    Randomness,
}

/// What a client's opening request offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    accept: String,
    subprotocols: Vec<Subprotocol>,
}

impl Offer {
    /// Reads a request's headers, of which `Upgrade: websocket` is known already. `spoken` are the subprotocols
    /// that will do.
    pub fn parse(headers: &HeaderMap, spoken: &[Subprotocol]) -> Result<Self, HandshakeError> {
        if once(headers, SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(HandshakeError::Version);
        }
        let key = once(headers, SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
        if STANDARD.decode(key).map(|key| key.len()) != Ok(16) {
            return Err(HandshakeError::Key);
        }
        let names = || spoken.iter().map(|s| s.as_str()).collect::<Vec<_>>();
        let offered: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .take(MAX_OFFERED)
            .collect();
        if offered.is_empty() {
            return Err(HandshakeError::NoSubprotocol {
                expected: names().join(" or "),
            });
        }
        let mut subprotocols = Vec::new();
        for name in offered {
            if let Some(known) = Subprotocol::parse(name)
                && spoken.contains(&known)
                && !subprotocols.contains(&known)
            {
                subprotocols.push(known);
            }
        }
        if subprotocols.is_empty() {
            return Err(HandshakeError::Subprotocols {
                expected: names().join(" or "),
            });
        }
        Ok(Self {
            accept: accept_of(key),
            subprotocols,
        })
    }

    /// Those that the client offered and we speak, the client's favourite first. Never empty.
    pub fn subprotocols(&self) -> &[Subprotocol] {
        &self.subprotocols
    }

    /// The headers of the 101 that takes it.
    pub fn answer(&self, chosen: Subprotocol) -> Result<HeaderMap, HandshakeError> {
        let mut headers = HeaderMap::new();
        let accept = HeaderValue::from_str(&self.accept).map_err(|_| HandshakeError::Key)?;
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(chosen.as_str()),
        );
        Ok(headers)
    }
}

/// An opening request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    key: String,
    subprotocols: Vec<Subprotocol>,
}

impl Asked {
    /// With a key of its own.
    pub fn new(subprotocols: &[Subprotocol]) -> Result<Self, HandshakeError> {
        let mut key = [0; 16];
        rand::fill(&mut key).map_err(|_| HandshakeError::Randomness)?;
        Ok(Self {
            key: STANDARD.encode(key),
            subprotocols: subprotocols.to_vec(),
        })
    }

    /// The headers of the request.
    pub fn headers(&self) -> Result<HeaderMap, HandshakeError> {
        let mut headers = HeaderMap::new();
        let key = HeaderValue::from_str(&self.key).map_err(|_| HandshakeError::Key)?;
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, key);
        let names: Vec<_> = self.subprotocols.iter().map(|s| s.as_str()).collect();
        let names = HeaderValue::from_str(&names.join(", ")).map_err(|_| HandshakeError::Chosen)?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, names);
        Ok(headers)
    }

    /// Reads the headers of a 101, of which `Upgrade: websocket` is known already: the subprotocol that the server
    /// chose.
    pub fn answered(&self, headers: &HeaderMap) -> Result<Subprotocol, HandshakeError> {
        if once(headers, SEC_WEBSOCKET_ACCEPT) != Some(accept_of(&self.key).as_str()) {
            return Err(HandshakeError::Accept);
        }
        if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err(HandshakeError::Extension);
        }
        once(headers, SEC_WEBSOCKET_PROTOCOL)
            .and_then(Subprotocol::parse)
            .filter(|chosen| self.subprotocols.contains(chosen))
            .ok_or(HandshakeError::Chosen)
    }
}

/// What answers a key: SHA-1 proves nothing here, but that the other side speaks WebSocket.
pub fn accept_of(key: &str) -> String {
    STANDARD.encode(digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{GUID}").as_bytes(),
    ))
}

fn once(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Some(only.to_str().ok()?.trim()),
        _ => None,
    }
}
