//! From what happens to lines of a cast.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::PAD;

use super::escape::escape;
use super::interval::{Intervals, write_seconds};
use super::split::{MAX_PARTIAL, Piece, Pieces, partial_at_end, rest_at_start};
use super::{Stream, code};
use crate::messages::WindowSize;

/// Output bytes in one event. Six bytes of JSON for each at most: readers can bound their lines.
const PIECE: usize = 64 * 1024;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Base64 = base64::engine::Simd;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Base64 = base64::engine::GeneralPurpose;

/// The standard alphabet, by the processor's wide registers where it has some: a binary file is nothing but this.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: LazyLock<Base64> = LazyLock::new(|| Base64::standard(PAD));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64: LazyLock<Base64> =
    LazyLock::new(|| Base64::new(&base64::alphabet::STANDARD, PAD));

/// Writes events. Holds no output back: whatever a call is given is in the lines that it writes.
#[derive(Debug)]
pub(super) struct Encoder {
    terminal: bool,
    intervals: Intervals,
    from: Stream,
    stdout: Partial,
    stderr: Partial,
}

/// The beginning of a character. It is on record already (`p`), and begins the stream's next event again, so that
/// the character as a whole stands in one `o` and is shown.
#[derive(Clone, Copy, Debug, Default)]
struct Partial {
    bytes: [u8; MAX_PARTIAL],
    length: usize,
}

impl Partial {
    fn new(bytes: &[u8]) -> Self {
        let mut partial = Self {
            length: bytes.len().min(MAX_PARTIAL),
            ..Self::default()
        };
        for (slot, byte) in partial.bytes.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        partial
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

impl Encoder {
    pub(super) fn new(terminal: bool) -> Self {
        Self {
            terminal,
            intervals: Intervals::default(),
            from: Stream::Stdout,
            stdout: Partial::default(),
            stderr: Partial::default(),
        }
    }

    /// Output, byte for byte.
    pub(super) fn output(&mut self, at: Duration, stream: Stream, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        if self.from != stream {
            self.event(at, code::FROM, stream.as_str(), out);
            self.from = stream;
        }
        let mut pieces = bytes.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            let partial = *self.partial(stream);
            let joined = join(partial.as_slice(), piece);
            let rest = if self.terminal {
                self.terminal_output(at, &joined, out)
            } else {
                self.stream_output(at, &joined, out)
            };
            if pieces.peek().is_none() && !rest.is_empty() {
                self.base64_event(at, code::PARTIAL, rest, out);
            }
            *self.partial(stream) = Partial::new(rest);
        }
    }

    /// Shows at the end the beginning of a character whose rest never came. Its bytes are on record; this is for
    /// the eye.
    pub(super) fn finish_output(&mut self, at: Duration, out: &mut Vec<u8>) {
        let partial = *self.partial(self.from);
        if self.terminal && partial.length > 0 {
            self.shown_as(at, partial.as_slice(), out);
            *self.partial(self.from) = Partial::default();
        }
    }

    /// Input, byte for byte.
    pub(super) fn input(&mut self, at: Duration, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.chunks(PIECE) {
            // Nobody looks at input as it is typed, so halves of characters can stand apart.
            let (rest, body) = piece.split_at(rest_at_start(piece).min(piece.len()));
            let (body, partial) = body.split_at(body.len().saturating_sub(partial_at_end(body)));
            if !rest.is_empty() {
                self.base64_event(at, code::BINARY_INPUT, rest, out);
            }
            for piece in Pieces::of(body) {
                match piece {
                    Piece::Text(text) => {
                        self.text_or_base64(at, code::INPUT, code::BINARY_INPUT, text, out)
                    }
                    Piece::Binary(binary) => self.base64_event(at, code::BINARY_INPUT, binary, out),
                }
            }
            if !partial.is_empty() {
                self.base64_event(at, code::BINARY_INPUT, partial, out);
            }
        }
    }

    pub(super) fn resize(&mut self, at: Duration, size: WindowSize, out: &mut Vec<u8>) {
        self.event(
            at,
            code::RESIZE,
            &format!("{}x{}", size.cols, size.rows),
            out,
        );
    }

    /// An event whose data is short text.
    pub(super) fn event(&mut self, at: Duration, code: char, data: &str, out: &mut Vec<u8>) {
        self.begin(at, code, out);
        escape(data, out, usize::MAX);
        end(out);
    }

    /// What a terminal shows. Returns the beginning of a character at the end.
    fn terminal_output<'a>(
        &mut self,
        at: Duration,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> &'a [u8] {
        let (body, partial) = bytes.split_at(bytes.len().saturating_sub(partial_at_end(bytes)));
        match std::str::from_utf8(body) {
            Ok("") => {}
            Ok(text) => self.event(at, code::OUTPUT, text, out),
            Err(_) => self.shown_as(at, body, out),
        }
        partial
    }

    /// What a pipe carries. Returns the beginning of a character at the end of text.
    fn stream_output<'a>(&mut self, at: Duration, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let partial = partial_at_end(bytes);
        let (body, partial) = bytes.split_at(bytes.len().saturating_sub(partial));
        if let Ok(text) = std::str::from_utf8(body) {
            if !text.is_empty() {
                self.text_or_base64(at, code::OUTPUT, code::BINARY, text, out);
            }
            return partial;
        }
        for piece in Pieces::of(bytes) {
            match piece {
                Piece::Text(text) => self.text_or_base64(at, code::OUTPUT, code::BINARY, text, out),
                Piece::Binary(binary) => self.base64_event(at, code::BINARY, binary, out),
            }
        }
        &[]
    }

    /// Bytes that are no text, and how a terminal shows them.
    fn shown_as(&mut self, at: Duration, bytes: &[u8], out: &mut Vec<u8>) {
        self.base64_event(at, code::EXACT, bytes, out);
        self.event(at, code::OUTPUT, &String::from_utf8_lossy(bytes), out);
    }

    /// Text, unless it is mostly control characters: a gigabyte of zeros is six in JSON.
    fn text_or_base64(
        &mut self,
        at: Duration,
        text_code: char,
        base64_code: char,
        text: &str,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        self.begin(at, text_code, out);
        if escape(text, out, worth_reading(text.len())) {
            end(out);
            return;
        }
        // The line again under the other code; its interval is taken already.
        let code_at = out.len().saturating_sub("o\", \"".len());
        debug_assert!(code_at > start);
        if let Some(slot) = out.get_mut(code_at) {
            *slot = base64_code as u8;
        }
        base64(text.as_bytes(), out);
        end(out);
    }

    fn base64_event(&mut self, at: Duration, code: char, bytes: &[u8], out: &mut Vec<u8>) {
        self.begin(at, code, out);
        base64(bytes, out);
        end(out);
    }

    fn begin(&mut self, at: Duration, code: char, out: &mut Vec<u8>) {
        out.push(b'[');
        write_seconds(self.intervals.next(at), out);
        out.extend_from_slice(b", \"");
        out.push(code as u8);
        out.extend_from_slice(b"\", \"");
    }

    fn partial(&mut self, stream: Stream) -> &mut Partial {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"]\n");
}

fn join<'a>(partial: &[u8], bytes: &'a [u8]) -> Cow<'a, [u8]> {
    if partial.is_empty() {
        Cow::Borrowed(bytes)
    } else {
        Cow::Owned([partial, bytes].concat())
    }
}

/// How long text may become and still be text. Not a bare comparison with base64, which would hide quotes and
/// line breaks from `grep` to save a few bytes.
fn worth_reading(bytes: usize) -> usize {
    bytes.saturating_mul(2).saturating_add(16)
}

fn base64_length(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start.saturating_add(base64_length(bytes.len())), 0);
    let written = out
        .get_mut(start..)
        .and_then(|space| BASE64.encode_slice(bytes, space).ok())
        .unwrap_or(0);
    debug_assert_eq!(written, base64_length(bytes.len()));
}
