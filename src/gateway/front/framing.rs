//! HTTP/1.1 as it must come (RFC 9112): where a request ends is never a matter of opinion.
//!
//! What is behind this reads HTTP leniently, as libraries do: it takes one length of two, or a bare line feed. The API
//! server's own library may decide otherwise, and a request that two sides cut differently is two requests, of which
//! one is on no record. So nothing passes here that leaves a choice.

use bytes::{Buf as _, BytesMut};

/// The longest head of a request, in bytes: request line and header fields.
pub(crate) const MAX_HEAD: usize = 48 * 1024;
const MAX_FIELDS: usize = 100;
/// The longest line that says a chunk's size: 16 digits.
const MAX_CHUNK_LINE: usize = 16;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Why bytes are no request of which everybody has the same opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The head is too long.
    #[error("the request's head is longer than {} KiB", MAX_HEAD / 1024)]
    HeadTooLong,
    /// More than 100 header fields.
    #[error("the request has more than {MAX_FIELDS} header fields")]
    TooManyFields,
    /// No head of HTTP/1.1.
    #[error("this is not a request of HTTP/1.1")]
    Malformed,
    /// A line that does not end in CR LF, or a control character.
    #[error("the request's head has a stray CR, LF or NUL")]
    StrayControl,
    /// A folded header field (obs-fold), obsolete since 2014.
    #[error("the request has a folded header field")]
    Folded,
    /// Both of Content-Length and Transfer-Encoding.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    BothLengths,
    /// More than one Content-Length, or one that is no number.
    #[error("the request's Content-Length is not one number")]
    Length,
    /// Another transfer coding than `chunked`, or more than one.
    #[error("the request's Transfer-Encoding is not chunked")]
    Coding,
    /// Not exactly one Host.
    #[error("the request has no Host, or more than one")]
    Host,
    /// A chunk that is none, with an extension or a trailer, or not in CR LF.
    #[error("the request's body is not chunked as RFC 9112 says")]
    Chunk,
}

/// Where in the client's bytes we are.
#[derive(Debug)]
pub struct Framing {
    at: At,
    /// How much of a head that is not whole yet was looked through.
    looked: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    Body {
        left: u64,
        after: After,
    },
    ChunkLine,
    Chunk {
        left: u64,
    },
    ChunkEnd,
    LastEnd {
        after: After,
    },
    /// After a request that would leave HTTP: what the bytes are depends on the answer.
    Upgrade,
    /// HTTP was left.
    Raw,
}

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Head,
    Upgrade,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            at: At::Head,
            looked: 0,
        }
    }
}

impl Framing {
    /// How many of the first bytes of `input` may be passed on: none if there are too few to tell. Everything after
    /// an error is noise.
    pub fn approve(
        &mut self,
        input: &mut BytesMut,
        approved: &mut BytesMut,
    ) -> Result<(), Violation> {
        while !input.is_empty() {
            let pass = match self.at {
                At::Head => match self.head(input)? {
                    Some(length) => length,
                    None => return Ok(()),
                },
                At::Body { left, after } => {
                    let pass = fits(left, input);
                    self.at = match left.saturating_sub(pass as u64) {
                        0 => after.at(),
                        left => At::Body { left, after },
                    };
                    pass
                }
                At::ChunkLine => match self.chunk_line(input)? {
                    Some(length) => length,
                    None => return Ok(()),
                },
                At::Chunk { left } => {
                    let pass = fits(left, input);
                    self.at = match left.saturating_sub(pass as u64) {
                        0 => At::ChunkEnd,
                        left => At::Chunk { left },
                    };
                    pass
                }
                At::ChunkEnd => match line_end(input)? {
                    true => {
                        self.at = At::ChunkLine;
                        2
                    }
                    false => return Ok(()),
                },
                At::LastEnd { after } => match line_end(input)? {
                    true => {
                        self.at = after.at();
                        2
                    }
                    false => return Ok(()),
                },
                At::Upgrade => return Ok(()),
                At::Raw => input.len(),
            };
            approved.extend_from_slice(input.get(..pass).unwrap_or_default());
            input.advance(pass.min(input.len()));
        }
        Ok(())
    }

    /// How many bytes that come next need no look at all.
    pub fn free(&self) -> u64 {
        match self.at {
            At::Body { left, .. } | At::Chunk { left } => left,
            At::Raw => u64::MAX,
            At::Head | At::ChunkLine | At::ChunkEnd | At::LastEnd { .. } | At::Upgrade => 0,
        }
    }

    /// So many bytes, at most [`Framing::free`], have passed without a look.
    pub fn passed(&mut self, bytes: u64) {
        self.at = match self.at {
            At::Body { left, after } => match left.saturating_sub(bytes) {
                0 => after.at(),
                left => At::Body { left, after },
            },
            At::Chunk { left } => match left.saturating_sub(bytes) {
                0 => At::ChunkEnd,
                left => At::Chunk { left },
            },
            at => at,
        };
    }

    /// Whether a request's head is what comes next.
    pub fn in_head(&self) -> bool {
        self.at == At::Head
    }

    /// Whether what comes next waits for an answer.
    pub fn waits(&self) -> bool {
        self.at == At::Upgrade
    }

    /// The answer has come: to `leave` HTTP, or not to.
    pub fn answered(&mut self, leave: bool) {
        if self.waits() {
            self.at = if leave { At::Raw } else { At::Head };
        }
    }

    fn head(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        let from = self.looked.saturating_sub(END_OF_HEAD.len());
        let end = input
            .get(from..)
            .unwrap_or_default()
            .windows(END_OF_HEAD.len())
            .position(|window| window == END_OF_HEAD)
            .map(|at| from + at + END_OF_HEAD.len());
        let Some(end) = end else {
            self.looked = input.len();
            return match input.len() > MAX_HEAD {
                true => Err(Violation::HeadTooLong),
                // A line feed alone never ends a head: better said now than waited for.
                false => no_stray(input, from).map(|()| None),
            };
        };
        if end > MAX_HEAD {
            return Err(Violation::HeadTooLong);
        }
        self.looked = 0;
        self.at = after_head(input.get(..end).unwrap_or_default())?;
        Ok(Some(end))
    }

    fn chunk_line(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        let line = input.iter().position(|&byte| byte == b'\r');
        let Some(digits) = line else {
            return match input.len() > MAX_CHUNK_LINE {
                true => Err(Violation::Chunk),
                false => Ok(None),
            };
        };
        let text = input.get(..digits).unwrap_or_default();
        // `from_str_radix` takes a sign.
        let sized =
            digits <= MAX_CHUNK_LINE && !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(text)
            .ok()
            .filter(|_| sized)
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or(Violation::Chunk)?;
        match input.get(digits + 1) {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err(Violation::Chunk),
        }
        self.at = match size {
            0 => At::LastEnd { after: After::Head },
            left => At::Chunk { left },
        };
        Ok(Some(digits + 2))
    }
}

impl After {
    fn at(self) -> At {
        match self {
            Self::Head => At::Head,
            Self::Upgrade => At::Upgrade,
        }
    }
}

/// What comes after a whole head.
fn after_head(head: &[u8]) -> Result<At, Violation> {
    no_stray(head, 0)?;
    if head
        .windows(3)
        .any(|window| matches!(window, [b'\r', b'\n', b' ' | b'\t']))
    {
        return Err(Violation::Folded);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Violation::TooManyFields),
        Ok(_) | Err(_) => return Err(Violation::Malformed),
    }
    // An empty line before a request is skipped by some. HTTP/1.0 has other rules for where a body ends.
    if head.starts_with(b"\r\n") || request.version != Some(1) {
        return Err(Violation::Malformed);
    }
    let values = |name: &str| {
        let name = name.to_owned();
        request
            .headers
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(&name))
            .map(|field| field.value)
            .collect::<Vec<_>>()
    };
    if values("host").len() != 1 {
        return Err(Violation::Host);
    }
    let after = if values("upgrade").is_empty() {
        After::Head
    } else {
        After::Upgrade
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(after.at()),
        ([length], []) => match parse_length(length).ok_or(Violation::Length)? {
            0 => Ok(after.at()),
            left => Ok(At::Body { left, after }),
        },
        ([], [coding]) if !coding.eq_ignore_ascii_case(b"chunked") => Err(Violation::Coding),
        // Nothing that leaves HTTP has a body in chunks.
        ([], [_]) if after == After::Upgrade => Err(Violation::Malformed),
        ([], [_]) => Ok(At::ChunkLine),
        ([], _) => Err(Violation::Coding),
        (_, []) => Err(Violation::Length),
        (_, _) => Err(Violation::BothLengths),
    }
}

fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// No LF without its CR, no CR without its LF (but at the end, where it may still come), no NUL.
/// What is before `from` was looked through.
fn no_stray(head: &[u8], from: usize) -> Result<(), Violation> {
    let mut before = from.checked_sub(1).and_then(|at| head.get(at)).copied();
    for &byte in head.get(from..).unwrap_or_default() {
        let stray = match (before, byte) {
            (Some(b'\r'), byte) => byte != b'\n',
            (_, byte) => byte == b'\n' || byte == 0,
        };
        if stray {
            return Err(Violation::StrayControl);
        }
        before = Some(byte);
    }
    Ok(())
}

/// Whether CR LF is what comes; false if it is not all there.
fn line_end(input: &[u8]) -> Result<bool, Violation> {
    match input {
        [b'\r', b'\n', ..] => Ok(true),
        [b'\r'] => Ok(false),
        _ => Err(Violation::Chunk),
    }
}

fn fits(left: u64, input: &[u8]) -> usize {
    usize::try_from(left).map_or(input.len(), |left| left.min(input.len()))
}
