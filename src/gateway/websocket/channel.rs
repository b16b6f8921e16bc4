//! The channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`: a message's first byte says which.

use bytes::{Buf, Bytes};
use tokio_tungstenite::tungstenite::Message;

use super::Subprotocol;

/// One of the five.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// To the command.
    Stdin,
    /// From the command, or its terminal.
    Stdout,
    /// From the command.
    Stderr,
    /// How it ended: a `metav1.Status` as JSON.
    Error,
    /// To the terminal: `{"Width":80,"Height":24}`.
    Resize,
}

impl Channel {
    const ALL: [Self; 5] = [
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Error,
        Self::Resize,
    ];

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Error => 3,
            Self::Resize => 4,
        }
    }

    /// By its number.
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The `streamType` of the same over SPDY.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Resize => "resize",
        }
    }

    /// By its `streamType`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// Whether it goes to the command; the others come from it.
    pub fn is_input(self) -> bool {
        matches!(self, Self::Stdin | Self::Resize)
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Bytes of a channel. May be none: some servers greet like that.
    Data(Channel, Bytes),
    /// A channel ends; only in v5.
    End(Channel),
}

/// A message that says nothing we know. It ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Nothing, not even a channel.
    #[error("a message without a channel")]
    Empty,
    /// None of the five.
    #[error("a message on the unknown channel {0}")]
    Unknown(u8),
    /// The signal that ends a channel, with something else than its number.
    #[error("a close signal that names no channel")]
    Close,
    /// Neither data nor anything that ought to come here.
    #[error("a frame outside of any message")]
    Frame,
}

/// Channel 255 of v5 ends the channel whose number follows.
const CLOSE: u8 = 255;

/// What a message of data says; `None` for the WebSocket's own: pings, pongs, close.
pub fn decode(protocol: Subprotocol, message: &Message) -> Result<Option<Said>, ChannelError> {
    let mut payload = match message {
        Message::Binary(bytes) => bytes.clone(),
        // Python's client says so what it has as text. API servers take both for the same bytes.
        Message::Text(text) => Bytes::from(text.clone()),
        Message::Frame(_) => return Err(ChannelError::Frame),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return Ok(None),
    };
    let first = payload.try_get_u8().map_err(|_| ChannelError::Empty)?;
    if first == CLOSE && protocol == Subprotocol::V5 {
        return match payload.as_ref() {
            [number] => match Channel::numbered(*number) {
                Some(channel) => Ok(Some(Said::End(channel))),
                None => Err(ChannelError::Close),
            },
            _ => Err(ChannelError::Close),
        };
    }
    match Channel::numbered(first) {
        Some(channel) => Ok(Some(Said::Data(channel, payload))),
        None => Err(ChannelError::Unknown(first)),
    }
}

impl Said {
    /// The message that says it.
    pub fn encode(&self) -> Message {
        Message::Binary(match self {
            Self::Data(channel, payload) => {
                let mut bytes = Vec::with_capacity(payload.len() + 1);
                bytes.push(channel.number());
                bytes.extend_from_slice(payload);
                bytes.into()
            }
            Self::End(channel) => vec![CLOSE, channel.number()].into(),
        })
    }
}
