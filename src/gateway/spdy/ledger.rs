//! The streams of a connection, as a party between both sides sees them: what a frame means for its stream, and
//! whether it may be passed on.
//!
//! Windows are kept and checked, not enforced: `spdystream` neither obeys nor grants any, and leaves back pressure
//! to TCP, which whoever passes frames on passes on as well. A side that does grant room finds its grants passed
//! on as they are.

use std::collections::HashMap;

use super::error::SpdyError;
use super::frame::{Data, Frame, MAX_31, Setting, StreamId, kind};

/// The most streams at once. A port-forward has two for each connection.
const MAX_STREAMS: usize = 1024;

/// A window's size at first (SPDY/3, 2.6.8).
const WINDOW: i64 = 64 * 1024;

/// Which side a frame is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Who opened the connection: odd streams.
    Client,
    /// Who took it: even streams.
    Server,
}

impl Sender {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    fn opens(self, stream: StreamId) -> bool {
        (stream % 2 == 1) == (self == Self::Client)
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be passed on.
    Pass {
        /// Its stream has come to its end with it.
        ended: bool,
    },
    /// It came too late for its stream, which is no fault: the sides do not wait for each other.
    Late,
}

/// The streams of one connection. Frames are judged in the order in which they came from each side.
#[derive(Debug, Default)]
pub struct Ledger {
    streams: HashMap<StreamId, Stream>,
    client: Side,
    server: Side,
}

/// What is known of one side.
#[derive(Debug)]
struct Side {
    /// The last stream that it opened.
    last_opened: StreamId,
    /// What it takes on a new stream.
    initial_window: i64,
    /// What it still takes on all streams.
    window: i64,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            last_opened: 0,
            initial_window: WINDOW,
            window: WINDOW,
        }
    }
}

#[derive(Debug)]
struct Stream {
    replied: bool,
    client: Half,
    server: Half,
}

/// What one side does on a stream.
#[derive(Debug)]
struct Half {
    /// It sends nothing more.
    done: bool,
    /// What it still takes.
    window: i64,
}

impl Stream {
    fn half(&mut self, of: Sender) -> &mut Half {
        match of {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }
}

impl Ledger {
    /// How many streams are open.
    pub fn open(&self) -> usize {
        self.streams.len()
    }

    /// What becomes of a frame. An error ends the connection.
    pub fn judge(&mut self, from: Sender, frame: &Frame) -> Result<Verdict, SpdyError> {
        const PASS: Verdict = Verdict::Pass { ended: false };
        match frame {
            Frame::SynStream {
                stream,
                associated,
                fin,
                unidirectional,
                ..
            } => self.opened(from, *stream, *associated, *fin, *unidirectional),
            Frame::SynReply { stream, fin, .. } => {
                if from.opens(*stream) {
                    return Err(SpdyError::Reply(*stream));
                }
                match self.known(from, *stream, kind::SYN_REPLY)? {
                    Some(open) if !open.replied => open.replied = true,
                    _ => return Ok(Verdict::Late),
                }
                self.sent(from, *stream, *fin, 0, kind::SYN_REPLY)
            }
            Frame::Headers { stream, fin, .. } => self.sent(from, *stream, *fin, 0, kind::HEADERS),
            Frame::Data(Data { stream, fin, bytes }) => {
                self.sent(from, *stream, *fin, bytes.len(), kind::DATA)
            }
            Frame::RstStream { stream, .. } => {
                if self.known(from, *stream, kind::RST_STREAM)?.is_none() {
                    return Ok(Verdict::Late);
                }
                self.streams.remove(stream);
                Ok(Verdict::Pass { ended: true })
            }
            Frame::Settings { settings, .. } => self.settings(from, settings).map(|()| PASS),
            Frame::WindowUpdate { stream, delta } => self.granted(from, *stream, *delta),
            Frame::Ping(_) | Frame::GoAway { .. } => Ok(PASS),
        }
    }

    /// Forgets a stream that the party between ended itself.
    pub fn end(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    fn opened(
        &mut self,
        from: Sender,
        stream: StreamId,
        associated: StreamId,
        fin: bool,
        unidirectional: bool,
    ) -> Result<Verdict, SpdyError> {
        let (client, server) = (self.client.initial_window, self.server.initial_window);
        let side = self.side(from);
        if !from.opens(stream) || stream <= side.last_opened {
            return Err(SpdyError::StreamOrder(stream));
        }
        side.last_opened = stream;
        if associated != 0 {
            // Only one that was opened can be meant; whether it is open still does not matter.
            self.known(from, associated, kind::SYN_STREAM)?;
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(SpdyError::TooManyStreams(MAX_STREAMS));
        }
        let mut open = Stream {
            replied: false,
            client: Half {
                done: false,
                window: client,
            },
            server: Half {
                done: false,
                window: server,
            },
        };
        open.half(from).done = fin;
        open.half(from.other()).done = unidirectional;
        let ended = fin && unidirectional;
        if !ended {
            self.streams.insert(stream, open);
        }
        Ok(Verdict::Pass { ended })
    }

    fn sent(
        &mut self,
        from: Sender,
        stream: StreamId,
        fin: bool,
        bytes: usize,
        kind: &'static str,
    ) -> Result<Verdict, SpdyError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let Some(open) = self.known(from, stream, kind)? else {
            return Ok(Verdict::Late);
        };
        // spdystream may write after it has closed, and its peer ignores that.
        if open.half(from).done {
            return Ok(Verdict::Late);
        }
        open.half(from).done = fin;
        let taker = open.half(from.other());
        taker.window = taker.window.saturating_sub(bytes);
        let ended = open.client.done && open.server.done;
        let taker = self.side(from.other());
        taker.window = taker.window.saturating_sub(bytes);
        if ended {
            self.streams.remove(&stream);
        }
        Ok(Verdict::Pass { ended })
    }

    fn granted(
        &mut self,
        from: Sender,
        stream: StreamId,
        delta: u32,
    ) -> Result<Verdict, SpdyError> {
        let window = if stream == 0 {
            &mut self.side(from).window
        } else {
            match self.known(from, stream, kind::WINDOW_UPDATE)? {
                Some(open) => &mut open.half(from).window,
                None => return Ok(Verdict::Late),
            }
        };
        *window = window.saturating_add(i64::from(delta));
        if *window > i64::from(MAX_31) {
            return Err(SpdyError::Window(stream));
        }
        Ok(Verdict::Pass { ended: false })
    }

    fn settings(&mut self, from: Sender, settings: &[Setting]) -> Result<(), SpdyError> {
        for setting in settings {
            if setting.id != Setting::INITIAL_WINDOW {
                continue;
            }
            let side = self.side(from);
            let change = i64::from(setting.value) - side.initial_window;
            side.initial_window = i64::from(setting.value);
            for (stream, open) in &mut self.streams {
                let half = open.half(from);
                half.window = half.window.saturating_add(change);
                if half.window > i64::from(MAX_31) {
                    return Err(SpdyError::Window(*stream));
                }
            }
        }
        Ok(())
    }

    /// An open stream, or none if it has ended already.
    fn known(
        &mut self,
        from: Sender,
        stream: StreamId,
        kind: &'static str,
    ) -> Result<Option<&mut Stream>, SpdyError> {
        let opener = if from.opens(stream) {
            from
        } else {
            from.other()
        };
        if stream > self.side(opener).last_opened {
            return Err(SpdyError::NeverOpened { kind, stream });
        }
        Ok(self.streams.get_mut(&stream))
    }

    fn side(&mut self, of: Sender) -> &mut Side {
        match of {
            Sender::Client => &mut self.client,
            Sender::Server => &mut self.server,
        }
    }
}
