//! What the frames of SPDY/3.1 say.

use bytes::Bytes;

use super::headers::Headers;

/// The number of a stream: 31 bits, odd from the client, even from the server.
pub type StreamId = u32;

/// The largest stream id, and the largest window.
pub(super) const MAX_31: u32 = 0x7fff_ffff;

/// Why a stream is ended at once (SPDY/3, 2.6.3), as far as we say so ourselves.
pub mod rst {
    /// A stream that is not wanted.
    pub const REFUSED_STREAM: u32 = 3;
    /// No longer needed.
    pub const CANCEL: u32 = 5;
}

/// One frame; of data, as much as has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its id.
        stream: StreamId,
        /// The stream that it belongs to; 0 for none.
        associated: StreamId,
        /// 0 (highest) to 7.
        priority: u8,
        /// The opener sends nothing on it.
        fin: bool,
        /// The other side sends nothing on it.
        unidirectional: bool,
        /// What it is for.
        headers: Headers,
    },
    /// Takes a stream that the other side opened.
    SynReply {
        /// Which.
        stream: StreamId,
        /// Nothing more follows on it.
        fin: bool,
        /// What is said about it.
        headers: Headers,
    },
    /// Ends a stream at once.
    RstStream {
        /// Which.
        stream: StreamId,
        /// Why: one of [`rst`], or another.
        status: u32,
    },
    /// Settings of the connection.
    Settings {
        /// Forget the ones that were kept before.
        clear: bool,
        /// In their order.
        settings: Vec<Setting>,
    },
    /// Asks for the same back, or is that.
    Ping(u32),
    /// No new streams are taken.
    GoAway {
        /// The last one that was.
        last: StreamId,
        /// Why: 0 if all is well.
        status: u32,
    },
    /// More headers for a stream.
    Headers {
        /// Which.
        stream: StreamId,
        /// Nothing more follows on it.
        fin: bool,
        /// What.
        headers: Headers,
    },
    /// More room for data.
    WindowUpdate {
        /// Of which stream; 0 for the connection.
        stream: StreamId,
        /// Bytes, 1 to 2^31 - 1.
        delta: u32,
    },
    /// Bytes of a stream.
    Data(Data),
}

/// Bytes of a stream: a frame's, or a part of them. A frame's end has no meaning of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Of which.
    pub stream: StreamId,
    /// Nothing more follows on it.
    pub fin: bool,
    /// What. May be empty.
    pub bytes: Bytes,
}

/// One setting of a connection (SPDY/3, 2.6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whether it is to be kept (1), or was (2).
    pub flags: u8,
    /// Which: 24 bits.
    pub id: u32,
    /// What.
    pub value: u32,
}

impl Setting {
    /// The id of the initial window of streams.
    pub(super) const INITIAL_WINDOW: u32 = 7;
}

impl Frame {
    /// What to call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SynStream { .. } => kind::SYN_STREAM,
            Self::SynReply { .. } => kind::SYN_REPLY,
            Self::RstStream { .. } => kind::RST_STREAM,
            Self::Settings { .. } => kind::SETTINGS,
            Self::Ping(_) => kind::PING,
            Self::GoAway { .. } => kind::GOAWAY,
            Self::Headers { .. } => kind::HEADERS,
            Self::WindowUpdate { .. } => kind::WINDOW_UPDATE,
            Self::Data(_) => kind::DATA,
        }
    }
}

pub(super) mod kind {
    pub(crate) const SYN_STREAM: &str = "SYN_STREAM";
    pub(crate) const SYN_REPLY: &str = "SYN_REPLY";
    pub(crate) const RST_STREAM: &str = "RST_STREAM";
    pub(crate) const SETTINGS: &str = "SETTINGS";
    pub(crate) const PING: &str = "PING";
    pub(crate) const GOAWAY: &str = "GOAWAY";
    pub(crate) const HEADERS: &str = "HEADERS";
    pub(crate) const WINDOW_UPDATE: &str = "WINDOW_UPDATE";
    pub(crate) const DATA: &str = "DATA";
}

/// The types of control frames, as they are numbered.
pub(super) mod number {
    pub(crate) const SYN_STREAM: u16 = 1;
    pub(crate) const SYN_REPLY: u16 = 2;
    pub(crate) const RST_STREAM: u16 = 3;
    pub(crate) const SETTINGS: u16 = 4;
    pub(crate) const PING: u16 = 6;
    pub(crate) const GOAWAY: u16 = 7;
    pub(crate) const HEADERS: u16 = 8;
    pub(crate) const WINDOW_UPDATE: u16 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const UNIDIRECTIONAL: u8 = 2;
    pub(crate) const CLEAR_SETTINGS: u8 = 1;
}
