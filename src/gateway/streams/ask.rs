//! What a request for a stream asks, and the opening handshake with either side.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Version};

use super::refused::Refused;
use crate::gateway::request_info::is_true;
use crate::gateway::websocket::{Asked, Offer, Subprotocol};

/// `X-Stream-Protocol-Version`: what is spoken inside SPDY.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// `Upgrade` of SPDY.
const SPDY: &str = "SPDY/3.1";

/// The one protocol for channels over SPDY that everybody has spoken since 2016.
const CHANNELS: &str = "v4.channel.k8s.io";

/// The one protocol for port-forwards.
const PORT_FORWARD: &str = "portforward.k8s.io";

/// The kinds of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// `pods/exec`.
    Exec,
    /// `pods/attach`.
    Attach,
    /// `pods/portforward`.
    PortForward,
}

impl StreamKind {
    /// By the subresource of pods.
    pub fn of(subresource: &str) -> Option<Self> {
        match subresource {
            "exec" => Some(Self::Exec),
            "attach" => Some(Self::Attach),
            "portforward" => Some(Self::PortForward),
            _ => None,
        }
    }
}

/// Whether a request wants to leave HTTP, in whatever words.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) || has_token(headers, "upgrade")
}

/// A request for a stream, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What for.
    pub kind: StreamKind,
    /// Whether the process has a terminal, as the API server reads it.
    pub tty: bool,
    /// The container; `None` if it is left to the API server.
    pub container: Option<String>,
    /// The command, every argument in its order. Empty but for an exec.
    pub command: Vec<String>,
    transport: Transport,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Transport {
    WebSocket(Offer),
    Spdy,
}

impl Ask {
    /// Reads a request of which [`wants_upgrade`] holds. `query` is decoded and in its order. What the client says
    /// about itself is not looked at.
    pub fn parse(
        kind: StreamKind,
        method: &Method,
        version: Version,
        headers: &HeaderMap,
        query: &[(String, String)],
    ) -> Result<Self, Refused> {
        if version != Version::HTTP_11 || !has_token(headers, "upgrade") {
            return Err(Refused::NoUpgrade);
        }
        let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
        if headers.contains_key(TRANSFER_ENCODING) || !matches!(length, None | Some(b"0")) {
            return Err(Refused::Body);
        }
        let first = |name: &str| query.iter().find(|(known, _)| known == name);
        Ok(Self {
            kind,
            tty: first("tty").is_some_and(|(_, value)| is_true(value)),
            container: first("container")
                .map(|(_, value)| value.clone())
                .filter(|name| !name.is_empty()),
            command: query
                .iter()
                .filter(|(name, _)| kind == StreamKind::Exec && name == "command")
                .map(|(_, value)| value.clone())
                .collect(),
            transport: Transport::parse(kind, method, headers)?,
        })
    }

    /// The protocol as the index of requests has it.
    pub fn protocol(&self) -> &'static str {
        match &self.transport {
            Transport::WebSocket(offer) => offer
                .subprotocols()
                .first()
                .map_or("websocket", |s| s.as_str()),
            Transport::Spdy => SPDY,
        }
    }

    /// Opens the same towards the API server: a handshake of our own.
    pub fn upstream(&self) -> Result<Opening, Refused> {
        match &self.transport {
            Transport::WebSocket(offer) => {
                let asked = Asked::new(offer.subprotocols())?;
                Ok(Opening {
                    headers: asked.headers()?,
                    asked: Some(asked),
                    kind: self.kind,
                })
            }
            Transport::Spdy => {
                let mut headers = upgrade_to(SPDY);
                headers.insert(
                    STREAM_PROTOCOL,
                    HeaderValue::from_static(inside_spdy(self.kind)),
                );
                Ok(Opening {
                    headers,
                    asked: None,
                    kind: self.kind,
                })
            }
        }
    }

    /// The headers of the 101 to the client, once the API server has agreed.
    pub fn answer(&self, agreed: Agreed) -> Result<HeaderMap, Refused> {
        match (&self.transport, agreed) {
            (Transport::WebSocket(offer), Agreed::Channels(subprotocol)) => {
                Ok(offer.answer(subprotocol)?)
            }
            (Transport::WebSocket(offer), Agreed::Tunnel) => {
                Ok(offer.answer(Subprotocol::PortForward)?)
            }
            (Transport::Spdy, Agreed::SpdyChannels | Agreed::SpdyPortForward) => {
                let mut headers = upgrade_to(SPDY);
                headers.insert(
                    STREAM_PROTOCOL,
                    HeaderValue::from_static(inside_spdy(self.kind)),
                );
                Ok(headers)
            }
            _ => Err(Refused::UpstreamProtocol),
        }
    }
}

impl Transport {
    fn parse(kind: StreamKind, method: &Method, headers: &HeaderMap) -> Result<Self, Refused> {
        let mut upgrades = headers.get_all(UPGRADE).iter();
        let (Some(to), None) = (upgrades.next(), upgrades.next()) else {
            return Err(Refused::NoUpgrade);
        };
        if to.as_bytes().eq_ignore_ascii_case(b"websocket") {
            if method != Method::GET {
                return Err(Refused::Method);
            }
            let spoken = match kind {
                StreamKind::Exec | StreamKind::Attach => Subprotocol::CHANNELS,
                StreamKind::PortForward => &[Subprotocol::PortForward],
            };
            return Ok(Self::WebSocket(Offer::parse(headers, spoken)?));
        }
        if !to.as_bytes().eq_ignore_ascii_case(SPDY.as_bytes()) {
            return Err(Refused::Upgrade);
        }
        if method != Method::POST && method != Method::GET {
            return Err(Refused::Method);
        }
        let spoken = inside_spdy(kind);
        let offered = headers
            .get_all(STREAM_PROTOCOL)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .any(|name| name.trim() == spoken);
        if offered {
            Ok(Self::Spdy)
        } else {
            Err(Refused::StreamProtocol { spoken })
        }
    }
}

/// An opening request of ours on its way to the API server.
#[derive(Debug)]
pub struct Opening {
    headers: HeaderMap,
    asked: Option<Asked>,
    kind: StreamKind,
}

/// What the API server agreed to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// Channels over a WebSocket.
    Channels(Subprotocol),
    /// A port-forward's SPDY inside a WebSocket.
    Tunnel,
    /// Channels over SPDY.
    SpdyChannels,
    /// A port-forward over SPDY.
    SpdyPortForward,
}

impl Opening {
    /// The headers that make the request an opening one. Nothing of the client's own handshake may go with them.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Reads the headers of a 101. Any other answer is for the client as it is.
    pub fn answered(&self, headers: &HeaderMap) -> Result<Agreed, Refused> {
        let wanted = if self.asked.is_some() {
            "websocket"
        } else {
            SPDY
        };
        let upgraded = headers
            .get(UPGRADE)
            .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()));
        if !upgraded {
            return Err(Refused::UpstreamProtocol);
        }
        if let Some(asked) = &self.asked {
            return Ok(match asked.answered(headers).map_err(Refused::Upstream)? {
                Subprotocol::PortForward => Agreed::Tunnel,
                channels @ (Subprotocol::V4 | Subprotocol::V5) => Agreed::Channels(channels),
            });
        }
        let mut chosen = headers.get_all(STREAM_PROTOCOL).iter();
        match (chosen.next(), chosen.next()) {
            (Some(chosen), None) if chosen == inside_spdy(self.kind) => Ok(match self.kind {
                StreamKind::PortForward => Agreed::SpdyPortForward,
                StreamKind::Exec | StreamKind::Attach => Agreed::SpdyChannels,
            }),
            _ => Err(Refused::UpstreamProtocol),
        }
    }
}

fn inside_spdy(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::PortForward => PORT_FORWARD,
        StreamKind::Exec | StreamKind::Attach => CHANNELS,
    }
}

fn upgrade_to(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
