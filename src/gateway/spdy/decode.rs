//! Bytes to frames.

use bytes::{Buf, Bytes, BytesMut};

use super::error::SpdyError;
use super::frame::{Data, Frame, MAX_31, Setting, StreamId, flag, kind, number};
use super::headers::{Headers, Inflater};

/// The longest control frame taken, without its head. What Kubernetes sends has some hundred bytes.
const MAX_CONTROL: usize = 16 * 1024;

/// The most settings in a frame.
const MAX_SETTINGS: usize = 32;

/// A frame's first eight bytes.
const HEAD: usize = 8;

/// Reads one direction of a connection. After an error it is not to be asked again.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    inflater: Inflater,
    data: Option<Rest>,
}

/// The data frame that is under way.
#[derive(Clone, Copy, Debug)]
struct Rest {
    stream: StreamId,
    fin: bool,
    length: usize,
}

impl Decoder {
    /// Where to put what was read. It holds at most a control frame that is not whole yet, if [`Self::next`] was
    /// called until it gave none.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether it stands between two frames: an end of the bytes here cuts nothing off.
    pub fn at_rest(&self) -> bool {
        self.buffer.is_empty() && self.data.is_none()
    }

    #[cfg(test)]
    pub(super) fn within_data(&self) -> bool {
        self.data.is_some()
    }

    /// The next frame, if it is there; of data, what is there.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        if let Some(rest) = self.data {
            return Ok(self.data(rest));
        }
        let Some(&head) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let mut head = &head[..];
        let (first, second) = (head.get_u32(), head.get_u32());
        let flags = (second >> 24) as u8;
        let length = (second & 0x00ff_ffff) as usize;
        if first >> 31 == 0 {
            self.buffer.advance(HEAD);
            let rest = data_head(first, flags, length)?;
            return Ok(self.data(rest));
        }

        let version = (first >> 16) as u16 & 0x7fff;
        if version != 3 {
            return Err(SpdyError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(SpdyError::FrameTooLong {
                length,
                limit: MAX_CONTROL,
            });
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let payload = self.buffer.split_to(length).freeze();
        self.control((first & 0xffff) as u16, flags, payload)
            .map(Some)
    }

    fn data(&mut self, rest: Rest) -> Option<Frame> {
        let here = rest.length.min(self.buffer.len());
        if here == 0 && rest.length > 0 {
            self.data = Some(rest);
            return None;
        }
        let last = here == rest.length;
        self.data = (!last).then_some(Rest {
            length: rest.length - here,
            ..rest
        });
        Some(Frame::Data(Data {
            stream: rest.stream,
            fin: rest.fin && last,
            bytes: self.buffer.split_to(here).freeze(),
        }))
    }

    fn control(&mut self, kind: u16, flags: u8, payload: Bytes) -> Result<Frame, SpdyError> {
        let mut payload = Payload {
            length: payload.len(),
            rest: payload,
            flags,
        };
        match kind {
            number::SYN_STREAM => {
                payload.about(kind::SYN_STREAM, flag::FIN | flag::UNIDIRECTIONAL)?;
                let stream = payload.stream(kind::SYN_STREAM)?;
                let associated = payload.u32(kind::SYN_STREAM)?;
                if associated > MAX_31 {
                    return Err(SpdyError::NoStream {
                        kind: kind::SYN_STREAM,
                    });
                }
                // Priority, and the slot of a client certificate: nobody uses those.
                let priority = (payload.u16(kind::SYN_STREAM)? >> 13) as u8;
                Ok(Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin: flags & flag::FIN != 0,
                    unidirectional: flags & flag::UNIDIRECTIONAL != 0,
                    headers: self.headers(&payload)?,
                })
            }
            number::SYN_REPLY => {
                payload.about(kind::SYN_REPLY, flag::FIN)?;
                Ok(Frame::SynReply {
                    stream: payload.stream(kind::SYN_REPLY)?,
                    fin: flags & flag::FIN != 0,
                    headers: self.headers(&payload)?,
                })
            }
            number::HEADERS => {
                payload.about(kind::HEADERS, flag::FIN)?;
                Ok(Frame::Headers {
                    stream: payload.stream(kind::HEADERS)?,
                    fin: flags & flag::FIN != 0,
                    headers: self.headers(&payload)?,
                })
            }
            number::RST_STREAM => {
                payload.exactly(8, kind::RST_STREAM)?;
                Ok(Frame::RstStream {
                    stream: payload.stream(kind::RST_STREAM)?,
                    status: payload.u32(kind::RST_STREAM)?,
                })
            }
            number::PING => {
                payload.exactly(4, kind::PING)?;
                Ok(Frame::Ping(payload.u32(kind::PING)?))
            }
            number::GOAWAY => {
                payload.exactly(8, kind::GOAWAY)?;
                Ok(Frame::GoAway {
                    last: payload.u32(kind::GOAWAY)? & MAX_31,
                    status: payload.u32(kind::GOAWAY)?,
                })
            }
            number::WINDOW_UPDATE => {
                payload.exactly(8, kind::WINDOW_UPDATE)?;
                let stream = payload.u32(kind::WINDOW_UPDATE)?;
                let delta = payload.u32(kind::WINDOW_UPDATE)?;
                if stream > MAX_31 {
                    return Err(SpdyError::NoStream {
                        kind: kind::WINDOW_UPDATE,
                    });
                }
                if !(1..=MAX_31).contains(&delta) {
                    return Err(SpdyError::Window(stream));
                }
                Ok(Frame::WindowUpdate { stream, delta })
            }
            number::SETTINGS => settings(payload),
            unknown => Err(SpdyError::UnknownFrame(unknown)),
        }
    }

    fn headers(&mut self, payload: &Payload) -> Result<Headers, SpdyError> {
        self.inflater.read(&payload.rest)
    }
}

fn data_head(stream: StreamId, flags: u8, length: usize) -> Result<Rest, SpdyError> {
    if stream == 0 {
        return Err(SpdyError::NoStream { kind: kind::DATA });
    }
    if flags & !flag::FIN != 0 {
        return Err(SpdyError::Flags {
            kind: kind::DATA,
            flags,
        });
    }
    Ok(Rest {
        stream,
        fin: flags & flag::FIN != 0,
        length,
    })
}

fn settings(mut payload: Payload) -> Result<Frame, SpdyError> {
    payload.about(kind::SETTINGS, flag::CLEAR_SETTINGS)?;
    let count = payload.u32(kind::SETTINGS)? as usize;
    if count > MAX_SETTINGS || payload.rest.len() != count * 8 {
        return Err(SpdyError::Settings);
    }
    let mut settings = Vec::with_capacity(count);
    for _ in 0..count {
        let head = payload.u32(kind::SETTINGS)?;
        let setting = Setting {
            flags: (head >> 24) as u8,
            id: head & 0x00ff_ffff,
            value: payload.u32(kind::SETTINGS)?,
        };
        if setting.id == Setting::INITIAL_WINDOW && setting.value > MAX_31 {
            return Err(SpdyError::Settings);
        }
        settings.push(setting);
    }
    Ok(Frame::Settings {
        clear: payload.flags & flag::CLEAR_SETTINGS != 0,
        settings,
    })
}

/// What follows a control frame's head.
struct Payload {
    rest: Bytes,
    length: usize,
    flags: u8,
}

impl Payload {
    fn about(&self, kind: &'static str, known: u8) -> Result<(), SpdyError> {
        match self.flags & !known {
            0 => Ok(()),
            _ => Err(SpdyError::Flags {
                kind,
                flags: self.flags,
            }),
        }
    }

    /// For frames of one length and without flags.
    fn exactly(&self, length: usize, kind: &'static str) -> Result<(), SpdyError> {
        self.about(kind, 0)?;
        if self.length == length {
            Ok(())
        } else {
            Err(self.short(kind))
        }
    }

    fn stream(&mut self, kind: &'static str) -> Result<StreamId, SpdyError> {
        match self.u32(kind)? {
            stream @ 1..=MAX_31 => Ok(stream),
            _ => Err(SpdyError::NoStream { kind }),
        }
    }

    fn u32(&mut self, kind: &'static str) -> Result<u32, SpdyError> {
        self.rest.try_get_u32().map_err(|_| self.short(kind))
    }

    fn u16(&mut self, kind: &'static str) -> Result<u16, SpdyError> {
        self.rest.try_get_u16().map_err(|_| self.short(kind))
    }

    fn short(&self, kind: &'static str) -> SpdyError {
        SpdyError::FrameLength {
            kind,
            length: self.length,
        }
    }
}
