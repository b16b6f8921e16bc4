//! Reads casts. Trusts nothing in them: lines are bounded, and what is damaged is an error with its line.

use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};

use super::decode::Decoder;
use super::error::ReadError;
use super::event::Event;
use super::header::{Header, VERSION};
use super::pack::Keyframe;

/// The longest line that we write is some 400 KiB: 64 KiB of control characters, six bytes of JSON each.
const MAX_LINE: usize = 1 << 20;

/// The longest that a recording may say it took: a century, in microseconds.
const MAX_MICROS: f64 = 100.0 * 366.0 * 86_400.0 * 1e6;

/// Reads a cast event by event.
#[derive(Debug)]
pub struct Reader<R> {
    lines: LineReader<R>,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Reader<BufReader<R>> {
    /// Reads the header.
    pub async fn open(input: R) -> Result<Self, ReadError> {
        Ok(Self {
            lines: LineReader::open(input).await?,
            decoder: Decoder::default(),
        })
    }
}

impl<R: AsyncRead + Unpin> Reader<BufReader<R>> {
    /// Goes on in the middle: `input` begins with the line after what `keyframe` says.
    pub(crate) fn resume(input: R, header: Header, keyframe: &Keyframe) -> Self {
        let mut input = Lines::over(BufReader::with_capacity(64 * 1024, input));
        input.number = keyframe.lines;
        Self {
            lines: LineReader {
                input,
                header,
                at: keyframe.at,
            },
            decoder: Decoder::from(keyframe.from),
        }
    }
}

impl<R: AsyncBufRead + Unpin> Reader<R> {
    /// The header.
    pub fn header(&self) -> &Header {
        self.lines.header()
    }

    /// The next event. `None` at the end, and at a torn last line: the recording is live or was interrupted.
    pub async fn next(&mut self) -> Result<Option<Event>, ReadError> {
        while let Some(line) = self.lines.next().await? {
            let number = line.number;
            match self.decoder.decode(line) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(what) => return Err(ReadError::Line { line: number, what }),
            }
        }
        Ok(None)
    }
}

/// A line of a cast after the header.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Number; the header is 1.
    pub number: u64,
    /// Microseconds since the start.
    pub at: u64,
    /// The event's code.
    pub code: char,
    /// Its data; `None` if that is no string, which only codes of others may have.
    pub data: Option<String>,
}

/// Reads a cast line by line, without understanding the events.
#[derive(Debug)]
pub struct LineReader<R> {
    input: Lines<R>,
    header: Header,
    at: u64,
}

#[derive(Deserialize)]
struct Triple(f64, String, serde_json::Value);

impl<R: AsyncRead + Unpin> LineReader<BufReader<R>> {
    /// Reads the header.
    pub async fn open(input: R) -> Result<Self, ReadError> {
        let mut input = Lines::over(BufReader::with_capacity(64 * 1024, input));
        let line = input
            .next()
            .await?
            .ok_or_else(|| ReadError::Header("it is empty".to_owned()))?;
        let header: Header =
            serde_json::from_slice(line).map_err(|error| ReadError::Header(error.to_string()))?;
        if (header.version, header.bastion.version) != (3, VERSION) {
            return Err(ReadError::Header(format!(
                "it is of version {}.{}; this program reads 3.{VERSION}",
                header.version, header.bastion.version
            )));
        }
        Ok(Self {
            input,
            header,
            at: 0,
        })
    }
}

impl<R: AsyncBufRead + Unpin> LineReader<R> {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next event's line. `None` at the end, and at a torn last line.
    pub async fn next(&mut self) -> Result<Option<Line>, ReadError> {
        loop {
            let Some(line) = self.input.next().await? else {
                return Ok(None);
            };
            if line.is_empty() || line.first() == Some(&b'#') {
                continue;
            }
            let parsed = parse(line);
            let number = self.input.number;
            let (interval, code, data) =
                parsed.map_err(|what| ReadError::Line { line: number, what })?;
            self.at = self.at.saturating_add(interval);
            return Ok(Some(Line {
                number,
                at: self.at,
                code,
                data,
            }));
        }
    }
}

pub(super) fn parse(line: &[u8]) -> Result<(u64, char, Option<String>), String> {
    let Triple(interval, code, data) =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let micros = (interval * 1e6).round();
    // Also false for what is not a number.
    if !(0.0..=MAX_MICROS).contains(&micros) {
        return Err(format!("{interval} is no interval"));
    }
    let mut characters = code.chars();
    let (Some(code), None) = (characters.next(), characters.next()) else {
        return Err(format!("{code:?} is no event code"));
    };
    let data = match data {
        serde_json::Value::String(data) => Some(data),
        _ => None,
    };
    // In range, so the cast is exact.
    Ok((micros as u64, code, data))
}

/// The whole lines of a cast as they are, the header too.
pub(crate) type WholeLines = Lines<BufReader<Box<dyn AsyncRead + Send + Sync + Unpin>>>;

impl WholeLines {
    pub(crate) fn new(input: Box<dyn AsyncRead + Send + Sync + Unpin>) -> Self {
        Self::over(BufReader::with_capacity(64 * 1024, input))
    }
}

/// Whole lines, without their line feed.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    number: u64,
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(crate) fn over(input: R) -> Self {
        Self {
            input,
            number: 0,
            line: Vec::new(),
        }
    }

    /// The number of the line that was read last; the first is 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line. `None` at the end, and at a torn last line.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.line.clear();
        self.number = self.number.saturating_add(1);
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = available
                .get(..end.unwrap_or(available.len()))
                .unwrap_or(&[]);
            if self.line.len().saturating_add(taken.len()) > MAX_LINE {
                return Err(ReadError::Line {
                    line: self.number,
                    what: format!("it is longer than {MAX_LINE} bytes"),
                });
            }
            self.line.extend_from_slice(taken);
            let consumed = taken.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            if end.is_some() {
                return Ok(Some(&self.line));
            }
        }
    }
}
