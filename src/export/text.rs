//! What was seen, as text: no colours, no cursor, each line once.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Export, Out, put};
use crate::messages::WindowSize;
use crate::recording::{Ending, Event, Happening, ReadError, Reader, Shown, Stored, Stream};
use crate::replay::screen::{Gone, Screen};
use crate::replay::{PlayError, RequestLog, SafeText, printable};

/// Lines longer than this are cut into several: memory has an end.
const LONGEST_LINE: usize = 64 * 1024;

pub(super) async fn export(
    stored: &Stored,
    what: &Export,
    out: &mut Out<'_>,
) -> Result<(), PlayError> {
    let mut log = what.requests.then(RequestLog::default);
    let mut told = |event: &Event| match &mut log {
        Some(log) => log.tell(&event.what),
        None => Vec::new(),
    };
    let mut reader = Reader::open(stored.cast().await?).await?;
    let metadata = reader.header().metadata();
    let opened = what.timestamps.then_some(metadata.opened);
    let screen = match &metadata.terminal {
        Some(terminal) => Some(Screen::new(terminal.size).ok_or_else(|| {
            PlayError::Read(ReadError::Header("its terminal has no size".to_owned()))
        })?),
        None => None,
    };
    let mut text = Stamped {
        opened,
        from: what.from,
        text: String::new(),
    };
    match screen {
        Some(screen) => {
            let mut transcript = Transcript::new(screen);
            while let Some(event) = reader.next().await? {
                for line in told(&event) {
                    transcript.remark(event.at, &line.text, &mut text);
                }
                transcript.add(event, &mut text);
                put(out, text.text.as_bytes()).await?;
                text.text.clear();
            }
            transcript.finish(&mut text);
        }
        None => {
            let mut pipes = Pipes {
                only: what.stream,
                ..Pipes::default()
            };
            while let Some(event) = reader.next().await? {
                for line in told(&event) {
                    text.line(event.at, &format!("[{}]", line.text));
                }
                pipes.add(event, &mut text);
                put(out, text.text.as_bytes()).await?;
                text.text.clear();
            }
            pipes.finish(&mut text);
        }
    }
    put(out, text.text.as_bytes()).await
}

/// Lines with the moment that they came, if that is wanted.
struct Stamped {
    opened: Option<Timestamp>,
    /// What came before is left out.
    from: Duration,
    text: String,
}

impl Stamped {
    fn line(&mut self, at: Duration, line: &str) {
        if at < self.from {
            return;
        }
        if let Some(opened) = self.opened {
            let at = SignedDuration::try_from(at).unwrap_or(SignedDuration::MAX);
            let moment = opened.checked_add(at).unwrap_or(opened);
            self.text
                .push_str(&moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ ").to_string());
        }
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// What a terminal showed: lines as they were when they left the screen, or at the end. Their moment is that of
/// their last change.
struct Transcript {
    screen: Screen,
    safe: SafeText,
    /// The screen's lines after the last event, each with the moment of its last change.
    known: Vec<(String, Duration)>,
    /// The beginning of a line that goes on.
    begun: Option<(String, Duration)>,
}

impl Transcript {
    fn new(screen: Screen) -> Self {
        let known = screen
            .lines()
            .into_iter()
            .map(|line| (line.text, Duration::ZERO))
            .collect();
        Self {
            screen,
            safe: SafeText::default(),
            known,
            begun: None,
        }
    }

    fn add(&mut self, event: Event, out: &mut Stamped) {
        let gone = match &event.what {
            Happening::Output {
                shown: Shown::Text(text),
                ..
            } => {
                let mut safe = String::with_capacity(text.len());
                self.safe.feed(text, &mut safe);
                self.screen.feed(&safe)
            }
            Happening::Resize(WindowSize { cols, rows }) => {
                let gone = self.screen.resize(WindowSize {
                    cols: *cols,
                    rows: *rows,
                });
                self.departed(gone, event.at, out);
                self.broken_anew();
                return;
            }
            _ => return,
        };
        self.departed(gone, event.at, out);
        self.look(event.at);
    }

    /// A line of ours, between those of the terminal.
    fn remark(&mut self, at: Duration, line: &str, out: &mut Stamped) {
        let gone = self.screen.feed(&format!("\r\n[{line}]\r\n"));
        self.departed(gone, at, out);
        self.look(at);
    }

    /// Lines that went off the top.
    fn departed(&mut self, gone: Vec<Gone>, at: Duration, out: &mut Stamped) {
        let count = gone.len().min(self.known.len());
        let mut known = self.known.drain(..count);
        for line in gone {
            let at = match known.next() {
                Some((text, then)) if text == line.text => then,
                _ => at,
            };
            put_line(&mut self.begun, line, at, out);
        }
    }

    fn look(&mut self, at: Duration) {
        let lines = self.screen.lines();
        let mut known = std::mem::take(&mut self.known).into_iter();
        self.known = lines
            .into_iter()
            .map(|line| match known.next() {
                Some((text, then)) if text == line.text => (text, then),
                _ => (line.text, at),
            })
            .collect();
    }

    /// After a resize lines may be broken at other places. Those that are not keep their moment, the others get the
    /// latest there is: none of them changed after that.
    fn broken_anew(&mut self) {
        let known = std::mem::take(&mut self.known);
        let latest = known.iter().map(|(_, at)| *at).max().unwrap_or_default();
        let moments: HashMap<&str, Duration> = known
            .iter()
            .map(|(text, at)| (text.trim_end(), *at))
            .collect();
        let lines = self.screen.lines().into_iter();
        self.known = lines
            .map(|line| {
                let at = moments.get(line.text.trim_end()).copied().unwrap_or(latest);
                (line.text, at)
            })
            .collect();
    }

    fn finish(mut self, out: &mut Stamped) {
        let mut lines: Vec<Gone> = self.screen.lines();
        while lines
            .last()
            .is_some_and(|line| line.text.trim_end().is_empty())
        {
            lines.pop();
        }
        let moments = std::mem::take(&mut self.known);
        for (line, (_, at)) in lines.into_iter().zip(moments) {
            put_line(&mut self.begun, line, at, out);
        }
        if let Some((text, at)) = self.begun.take() {
            out.line(at, text.trim_end());
        }
    }
}

fn put_line(begun: &mut Option<(String, Duration)>, line: Gone, at: Duration, out: &mut Stamped) {
    let (mut text, at) = begun.take().unwrap_or((String::new(), at));
    text.push_str(&line.text);
    if line.wrapped && text.len() < LONGEST_LINE {
        *begun = Some((text, at));
    } else {
        out.line(at, text.trim_end());
    }
}

/// What went through pipes. Lines of stderr are marked `! `, those of stdin `< `, unless one stream alone is wanted.
#[derive(Default)]
struct Pipes {
    only: Option<Stream>,
    stdout: Pipe,
    stderr: Pipe,
    stdin: Pipe,
    binary: u64,
    last: Duration,
}

#[derive(Default)]
struct Pipe {
    safe: SafeText,
    line: String,
}

impl Pipe {
    fn feed(&mut self, at: Duration, mark: &str, text: &str, out: &mut Stamped) {
        let mut safe = String::with_capacity(text.len());
        self.safe.feed(text, &mut safe);
        let mut pieces = safe.split('\n').peekable();
        while let Some(piece) = pieces.next() {
            self.line.push_str(piece);
            if pieces.peek().is_some() || self.line.len() >= LONGEST_LINE {
                self.end(at, mark, out);
            }
        }
    }

    fn end(&mut self, at: Duration, mark: &str, out: &mut Stamped) {
        let line = without_sequences(&self.line);
        out.line(at, &format!("{mark}{}", line.trim_end_matches('\r')));
        self.line.clear();
    }

    fn finish(&mut self, at: Duration, mark: &str, out: &mut Stamped) {
        if !self.line.is_empty() {
            self.end(at, mark, out);
        }
    }
}

impl Pipes {
    fn add(&mut self, event: Event, out: &mut Stamped) {
        let at = event.at;
        self.last = at;
        let (stderr_mark, stdin_mark) = self.marks();
        let wanted = |stream| self.only.is_none_or(|only| only == stream);
        match event.what {
            Happening::Output {
                stream,
                shown,
                bytes,
            } if wanted(stream) => match shown {
                Shown::Text(text) => {
                    self.announce_binary(at, out);
                    match stream {
                        Stream::Stdout => self.stdout.feed(at, "", &text, out),
                        Stream::Stderr => self.stderr.feed(at, stderr_mark, &text, out),
                    }
                }
                Shown::Binary => self.binary = self.binary.saturating_add(bytes.len() as u64),
                Shown::Elsewhere => {}
            },
            Happening::Input(bytes) if self.only.is_none() => match std::str::from_utf8(&bytes) {
                Ok(text) => self.stdin.feed(at, stdin_mark, text, out),
                Err(_) => out.line(at, &format!("[{} bytes of binary input]", bytes.len())),
            },
            Happening::InputDigest { length, sha256 } if self.only.is_none() => {
                out.line(
                    at,
                    &format!("[{length} bytes of input, SHA-256 {}]", printable(&sha256)),
                );
            }
            Happening::Marker(text) if self.only.is_none() => {
                out.line(at, &format!("[{}]", printable(&text)))
            }
            Happening::End(Ending::Cut { reason }) if self.only.is_none() => {
                self.flush(out);
                out.line(at, &format!("[cut: {}]", printable(&reason)));
            }
            _ => {}
        }
    }

    fn marks(&self) -> (&'static str, &'static str) {
        if self.only.is_none() {
            ("! ", "< ")
        } else {
            ("", "")
        }
    }

    fn announce_binary(&mut self, at: Duration, out: &mut Stamped) {
        let bytes = std::mem::take(&mut self.binary);
        if bytes > 0 {
            out.line(at, &format!("[{bytes} bytes of binary output]"));
        }
    }

    fn flush(&mut self, out: &mut Stamped) {
        let at = self.last;
        let (stderr_mark, stdin_mark) = self.marks();
        self.stdin.finish(at, stdin_mark, out);
        self.stdout.finish(at, "", out);
        self.stderr.finish(at, stderr_mark, out);
        self.announce_binary(at, out);
    }

    fn finish(mut self, out: &mut Stamped) {
        self.flush(out);
    }
}

/// What is left of safe text when its sequences are taken out too.
fn without_sequences(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                Some('[') => {
                    // Safe text has whole sequences only.
                    while characters
                        .next()
                        .is_some_and(|c| !matches!(c, '\u{40}'..='\u{7e}'))
                    {}
                }
                Some('(' | ')' | '#') => {
                    characters.next();
                }
                _ => {}
            },
            '\t' | '\r' => out.push(character),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}
