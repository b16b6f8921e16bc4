//! Frames to bytes.

use bytes::{BufMut, BytesMut};

use super::error::SpdyError;
use super::frame::{Data, Frame, StreamId, flag, number};
use super::headers::{Deflater, Headers};

/// The most that a frame's 24 bits of length can say.
const MAX_LENGTH: usize = 0x00ff_ffff;

/// Writes one direction of a connection.
#[derive(Debug, Default)]
pub struct Encoder {
    deflater: Deflater,
    block: Vec<u8>,
}

impl Encoder {
    /// Appends a frame. Header blocks have an order: what was encoded must be sent.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                self.deflate(headers)?;
                let flags = fin_flag(*fin)
                    | if *unidirectional {
                        flag::UNIDIRECTIONAL
                    } else {
                        0
                    };
                control(number::SYN_STREAM, flags, 10 + self.block.len(), out)?;
                out.put_u32(*stream);
                out.put_u32(*associated);
                out.put_u16(u16::from(*priority & 7) << 13);
                out.put_slice(&self.block);
            }
            Frame::SynReply {
                stream,
                fin,
                headers,
            } => self.with_headers(number::SYN_REPLY, *stream, *fin, headers, out)?,
            Frame::Headers {
                stream,
                fin,
                headers,
            } => self.with_headers(number::HEADERS, *stream, *fin, headers, out)?,
            Frame::RstStream { stream, status } => pair(number::RST_STREAM, *stream, *status, out)?,
            Frame::GoAway { last, status } => pair(number::GOAWAY, *last, *status, out)?,
            Frame::WindowUpdate { stream, delta } => {
                pair(number::WINDOW_UPDATE, *stream, *delta, out)?;
            }
            Frame::Ping(id) => {
                control(number::PING, 0, 4, out)?;
                out.put_u32(*id);
            }
            Frame::Settings { clear, settings } => {
                let flags = if *clear { flag::CLEAR_SETTINGS } else { 0 };
                control(number::SETTINGS, flags, 4 + settings.len() * 8, out)?;
                out.put_u32(u32::try_from(settings.len()).map_err(|_| SpdyError::Unsendable)?);
                for setting in settings {
                    out.put_u32(u32::from(setting.flags) << 24 | setting.id);
                    out.put_u32(setting.value);
                }
            }
            Frame::Data(data) => {
                Self::data_head(data, out)?;
                out.put_slice(&data.bytes);
            }
        }
        Ok(())
    }

    /// Appends a data frame's head alone: its bytes can be sent from where they are.
    pub fn data_head(data: &Data, out: &mut BytesMut) -> Result<(), SpdyError> {
        out.put_u32(data.stream);
        put_length(fin_flag(data.fin), data.bytes.len(), out)
    }

    fn with_headers(
        &mut self,
        number: u16,
        stream: StreamId,
        fin: bool,
        headers: &Headers,
        out: &mut BytesMut,
    ) -> Result<(), SpdyError> {
        self.deflate(headers)?;
        control(number, fin_flag(fin), 4 + self.block.len(), out)?;
        out.put_u32(stream);
        out.put_slice(&self.block);
        Ok(())
    }

    fn deflate(&mut self, headers: &Headers) -> Result<(), SpdyError> {
        self.block.clear();
        self.deflater.write(headers, &mut self.block)
    }
}

fn fin_flag(fin: bool) -> u8 {
    if fin { flag::FIN } else { 0 }
}

fn pair(number: u16, first: u32, second: u32, out: &mut BytesMut) -> Result<(), SpdyError> {
    control(number, 0, 8, out)?;
    out.put_u32(first);
    out.put_u32(second);
    Ok(())
}

fn control(number: u16, flags: u8, length: usize, out: &mut BytesMut) -> Result<(), SpdyError> {
    out.put_u16(0x8003);
    out.put_u16(number);
    put_length(flags, length, out)
}

fn put_length(flags: u8, length: usize, out: &mut BytesMut) -> Result<(), SpdyError> {
    match u32::try_from(length) {
        Ok(short) if length <= MAX_LENGTH => {
            out.put_u32(u32::from(flags) << 24 | short);
            Ok(())
        }
        _ => Err(SpdyError::Unsendable),
    }
}
