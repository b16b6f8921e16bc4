//! Why a stream stops before its time.

use crate::gateway::spdy::SpdyError;
use crate::gateway::websocket::{Channel, ChannelError};
use crate::recording::RecordingError;

/// Which side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Who asked for the stream.
    Client,
    /// The API server.
    Upstream,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "the client",
            Self::Upstream => "the API server",
        })
    }
}

/// Why a stream stops before its time. Whatever it is, nothing more is passed on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It could not be recorded: nothing runs unrecorded.
    #[error(transparent)]
    Unrecorded(#[from] RecordingError),
    /// The session is over.
    #[error("the session ended")]
    SessionOver,
    /// A side went away without a word.
    #[error("{0} went away")]
    Gone(Peer),
    /// Bytes that are no SPDY.
    #[error("{from} sent {error}")]
    Spdy {
        /// Who.
        from: Peer,
        /// What.
        error: SpdyError,
    },
    /// A message that says nothing known.
    #[error("{from} sent {error}")]
    Message {
        /// Who.
        from: Peer,
        /// What.
        error: ChannelError,
    },
    /// Frames that are no WebSocket's, or too long.
    #[error("{from} sent what is no WebSocket: {reason}")]
    WebSocket {
        /// Who.
        from: Peer,
        /// What is wrong.
        reason: String,
    },
    /// Bytes on a channel from the side that only hears it.
    #[error("{from} sent something on the channel {}", channel.as_str())]
    WrongWay {
        /// Who.
        from: Peer,
        /// Which.
        channel: Channel,
    },
    /// A resize that is none.
    #[error("the client sent a terminal size that is none")]
    Resize,
    /// A status of more than 64 KiB.
    #[error("the API server sent a status that is too long")]
    StatusTooLong,
    /// A stream over SPDY that is for nothing known, or for the second time.
    #[error("{from} opened a stream for nothing known")]
    UnknownStream {
        /// Who.
        from: Peer,
    },
    /// More headers for a stream that is open: nothing of Kubernetes sends them.
    #[error("{from} sent headers on an open stream")]
    Headers {
        /// Who.
        from: Peer,
    },
}
