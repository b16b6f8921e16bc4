//! WebSockets (RFC 6455) as Kubernetes uses them: the opening handshake of both sides, and the channels inside.
//!
//! Frames are `tungstenite`'s. Extensions are never agreed to, so that every frame means what it says.

mod channel;
mod handshake;
#[cfg(test)]
mod tests;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

pub use channel::{Channel, ChannelError, Said, decode};
pub use handshake::{Asked, HandshakeError, Offer, accept_of};

/// The longest message. What Kubernetes' own sides send has 32 KiB; Python's client sends what it is given at once.
pub const MAX_MESSAGE: usize = 4 << 20;

/// What is read, and written, at once.
const BUFFER: usize = 128 * 1024;

/// What is spoken inside a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// Channels, each of which can be closed (KEP-4006).
    V5,
    /// Channels.
    V4,
    /// SPDY/3.1 in binary messages, for a port-forward (KEP-4006).
    PortForward,
}

impl Subprotocol {
    /// The channel protocols that are spoken, the better one first.
    pub const CHANNELS: &[Self] = &[Self::V5, Self::V4];

    /// Its name in `Sec-WebSocket-Protocol`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::PortForward => "SPDY/3.1+portforward.k8s.io",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::V5, Self::V4, Self::PortForward]
            .into_iter()
            .find(|known| known.as_str() == name)
    }
}

/// The side that took the connection.
pub async fn server<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await
}

/// The side that made the connection.
pub async fn client<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    WebSocketStream::from_raw_socket(io, Role::Client, Some(config())).await
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        // Pongs to a side that only pings and never reads end here.
        .max_write_buffer_size(MAX_MESSAGE + 2 * BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}
