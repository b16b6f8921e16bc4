//! Why a peer's bytes are no SPDY that we take. Each ends the connection.

use super::frame::StreamId;

/// Why bytes are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    /// Another version of the protocol, or no SPDY at all.
    #[error("it speaks SPDY version {0}, not 3")]
    Version(u16),
    /// A control frame of an unknown type.
    #[error("a control frame of the unknown type {0}")]
    UnknownFrame(u16),
    /// A control frame that is longer than we take.
    #[error("a control frame of {length} bytes; at most {limit} are taken")]
    FrameTooLong {
        /// As announced.
        length: usize,
        /// Our limit.
        limit: usize,
    },
    /// A control frame whose length does not fit its type.
    #[error("a {kind} frame with a length of {length}")]
    FrameLength {
        /// Which type.
        kind: &'static str,
        /// As announced.
        length: usize,
    },
    /// Flags that the frame's type does not have.
    #[error("a {kind} frame with the flags {flags:#04x}")]
    Flags {
        /// Which type.
        kind: &'static str,
        /// As sent.
        flags: u8,
    },
    /// Stream 0, or the reserved bit.
    #[error("a {kind} frame for no possible stream")]
    NoStream {
        /// Which type.
        kind: &'static str,
    },
    /// A header block that is not zlib, or needs another dictionary, or ended.
    #[error("a header block that cannot be inflated")]
    Inflate,
    /// A header block that inflates to more than we take: a zlib bomb.
    #[error("a header block of more than {limit} bytes")]
    HeadersTooLong {
        /// Our limit.
        limit: usize,
    },
    /// Too many headers in a block.
    #[error("{count} headers in a block; at most {limit} are taken")]
    TooManyHeaders {
        /// As announced.
        count: u32,
        /// Our limit.
        limit: u32,
    },
    /// A header block whose lengths do not fit.
    #[error("a header block with lengths that do not fit")]
    HeaderLengths,
    /// A header's name is empty, not in lower case, or not a name.
    #[error("a header whose name is none")]
    HeaderName,
    /// The same header twice.
    #[error("a header twice in a block")]
    DuplicateHeader,
    /// Headers that could not be compressed. Ours, so it should not happen.
    #[error("headers that cannot be compressed")]
    Deflate,
    /// A frame that is too long for its 24 bits of length. Ours, so it should not happen.
    #[error("a frame that is too long to be sent")]
    Unsendable,
    /// A setting value out of its range, or too many settings.
    #[error("settings that cannot be")]
    Settings,
    /// A window update of nothing, or beyond 2^31 - 1.
    #[error("a window of stream {0} that cannot be")]
    Window(StreamId),
    /// A new stream with an id of the other side's parity, or not above the last.
    #[error("a new stream with the id {0}, which cannot be")]
    StreamOrder(StreamId),
    /// More streams at once than we carry.
    #[error("more than {0} streams at once")]
    TooManyStreams(usize),
    /// A frame for a stream that was never opened.
    #[error("a {kind} frame for stream {stream}, which was never opened")]
    NeverOpened {
        /// Which type.
        kind: &'static str,
        /// Which stream.
        stream: StreamId,
    },
    /// A reply from the side that opened the stream.
    #[error("a reply to its own stream {0}")]
    Reply(StreamId),
}
