//! Where to begin in the middle of a packed cast, and what the terminal showed there.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::messages::WindowSize;
use crate::recording::decode::Decoder;
use crate::recording::reader::{Lines, parse};
use crate::recording::{Happening, Header, ReadError, Shown, Stream, code};
use crate::replay::SafeText;
use crate::replay::screen::Screen;

/// The state at the beginning of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Keyframe {
    /// Where the frame begins in the packed cast, before it is encrypted.
    pub(crate) frame: u64,
    /// Lines of the cast before it.
    pub(crate) lines: u64,
    /// The moment of the event before it, microseconds since the start.
    pub(crate) at: u64,
    /// From which stream the output is.
    pub(crate) from: Stream,
    /// The terminal's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<WindowSize>,
    /// What draws what it showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) screen: Option<String>,
    /// How a control sequence begins that goes on in the frame: without it, the rest would be shown as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sequence: String,
}

/// Looks at a cast as it is packed.
#[derive(Default)]
pub(super) struct Keyframes {
    frames: Vec<Keyframe>,
    lines: u64,
    at: u64,
    from: From,
    last: Option<char>,
    terminal: Option<Watched>,
    damaged: bool,
}

#[derive(Clone, Copy, Default)]
enum From {
    #[default]
    Stdout,
    Stderr,
}

struct Watched {
    size: WindowSize,
    decoder: Decoder,
    safe: SafeText,
    screen: Option<Screen>,
}

impl Keyframes {
    /// A frame begins here.
    pub(super) fn begin(&mut self, frame: u64) {
        // The first one begins at the beginning.
        if self.lines == 0 || self.damaged {
            return;
        }
        let terminal = self.terminal.as_ref();
        self.frames.push(Keyframe {
            frame,
            lines: self.lines,
            at: self.at,
            from: match self.from {
                From::Stdout => Stream::Stdout,
                From::Stderr => Stream::Stderr,
            },
            size: terminal.map(|terminal| terminal.size),
            screen: terminal.and_then(|it| it.screen.as_ref().map(Screen::dump)),
            sequence: terminal.map_or_else(String::new, |it| it.safe.beginning()),
        });
    }

    /// The moment of the last event, microseconds since the start.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// What was exact bytes belongs to the line that shows them.
    pub(super) fn must_go_on(&self) -> bool {
        self.last == Some(code::EXACT)
    }

    /// The next line of the cast, its line feed included.
    pub(super) fn line(&mut self, line: &[u8]) {
        let first = self.lines == 0;
        self.lines = self.lines.saturating_add(1);
        if first {
            self.header(line);
            return;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.is_empty() || line.first() == Some(&b'#') || self.damaged {
            return;
        }
        // Without a terminal nobody looks at what was written, and there may be gigabytes of it.
        let parsed = match (&self.terminal, beginning(line)) {
            (None, Some((interval, code))) if code != code::FROM => Ok((interval, code, None)),
            _ => parse(line),
        };
        match parsed {
            Ok((interval, code, data)) => {
                self.at = self.at.saturating_add(interval);
                self.last = Some(code);
                self.event(code, data);
            }
            // It is packed as it is; who reads it is told.
            Err(_) => self.damaged = true,
        }
    }

    fn header(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Header>(line) {
            Ok(header) if header.metadata().terminal.is_some() => {
                let size = WindowSize {
                    cols: header.term.cols,
                    rows: header.term.rows,
                };
                self.terminal = Some(Watched {
                    size,
                    decoder: Decoder::default(),
                    safe: SafeText::default(),
                    screen: Screen::new(size),
                });
            }
            Ok(_) => {}
            Err(_) => self.damaged = true,
        }
    }

    fn event(&mut self, code: char, data: Option<String>) {
        if code == code::FROM {
            self.from = match data.as_deref() {
                Some("stderr") => From::Stderr,
                _ => From::Stdout,
            };
        }
        let Some(terminal) = &mut self.terminal else {
            return;
        };
        match terminal.decoder.happening(code, data) {
            Ok(Some(Happening::Output {
                shown: Shown::Text(text),
                ..
            })) => {
                let mut safe = String::with_capacity(text.len());
                terminal.safe.feed(&text, &mut safe);
                if let Some(screen) = &mut terminal.screen {
                    drop(screen.feed(&safe));
                }
            }
            Ok(Some(Happening::Resize(size))) => {
                terminal.size = size;
                if let Some(screen) = &mut terminal.screen {
                    drop(screen.resize(size));
                }
            }
            Ok(_) => {}
            Err(_) => self.damaged = true,
        }
    }

    /// The keyframes, a line each; `None` if there is nowhere to begin but at the beginning.
    pub(super) fn lines(self) -> serde_json::Result<Option<Vec<u8>>> {
        let mut lines = Vec::new();
        // The last one is of a frame that did not come.
        let (_, frames) = match self.frames.split_last() {
            Some((last, frames)) if last.lines == self.lines => (Some(last), frames),
            _ => (None, self.frames.as_slice()),
        };
        for frame in frames {
            serde_json::to_writer(&mut lines, frame)?;
            lines.push(b'\n');
        }
        Ok((!lines.is_empty()).then_some(lines))
    }
}

/// Interval in microseconds and code of a line as this program writes it.
fn beginning(line: &[u8]) -> Option<(u64, char)> {
    let line = line.strip_prefix(b"[")?;
    let comma = line.iter().take(32).position(|byte| *byte == b',')?;
    let (interval, rest) = line.split_at_checked(comma)?;
    let interval: f64 = std::str::from_utf8(interval).ok()?.parse().ok()?;
    let code = match rest.strip_prefix(b", \"")? {
        [code, b'"', ..] if code.is_ascii_alphabetic() => char::from(*code),
        _ => return None,
    };
    // What is out of range is for the parser to refuse.
    (0.0..1e9)
        .contains(&interval)
        .then(|| ((interval * 1e6).round() as u64, code))
}

/// The last keyframe that is not after a moment.
pub(crate) async fn find(
    keyframes: impl AsyncRead + Unpin,
    to: Duration,
) -> Result<Option<Keyframe>, ReadError> {
    let to = u64::try_from(to.as_micros()).unwrap_or(u64::MAX);
    let input = tokio::io::BufReader::with_capacity(64 * 1024, keyframes);
    let mut lines = Lines::over(input);
    let mut found = None;
    while let Some(line) = lines.next().await? {
        let parsed = serde_json::from_slice::<Keyframe>(line);
        let keyframe = parsed.map_err(|error| ReadError::Line {
            line: lines.number(),
            what: error.to_string(),
        })?;
        if keyframe.at > to {
            break;
        }
        found = Some(keyframe);
    }
    Ok(found)
}
