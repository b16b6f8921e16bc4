//! Why a stream is not opened.

use crate::gateway::websocket::HandshakeError;

/// Why a stream is not opened. It goes to the client as a Kubernetes `Status`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No upgrade, or none that HTTP/1.1 knows.
    #[error("this needs HTTP/1.1 with Connection: Upgrade, and one protocol in Upgrade")]
    NoUpgrade,
    /// An upgrade to something else.
    #[error("only upgrades to websocket and SPDY/3.1 are taken")]
    Upgrade,
    /// A WebSocket opens with GET, SPDY with POST.
    #[error("not a method that opens a stream")]
    Method,
    /// The request has a body.
    #[error("a request that opens a stream has no body")]
    Body,
    /// Of the protocols inside SPDY, none that we speak was offered.
    #[error("X-Stream-Protocol-Version must offer {spoken}")]
    StreamProtocol {
        /// What would do.
        spoken: &'static str,
    },
    /// The client's opening handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The API server's side of the handshake.
    #[error("the API server's answer cannot be taken: {0}")]
    Upstream(#[source] HandshakeError),
    /// The API server changed to a protocol that was not asked for.
    #[error("the API server changed to a protocol that was not asked for")]
    UpstreamProtocol,
}

impl Refused {
    /// The HTTP status that says it.
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Upstream(_) | Self::UpstreamProtocol => http::StatusCode::BAD_GATEWAY,
            Self::Method => http::StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade
            | Self::Upgrade
            | Self::Body
            | Self::StreamProtocol { .. }
            | Self::Handshake(_) => http::StatusCode::BAD_REQUEST,
        }
    }
}
