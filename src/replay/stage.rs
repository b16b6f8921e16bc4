//! What the reader of a replay sees: each event as text for a terminal.

use super::printable::printable;
use super::requests::{RequestLine, RequestLog};
use super::safe::SafeText;
use super::screen::Screen;
use crate::messages::WindowSize;
use crate::recording::{Ending, Happening, Header, Keyframe, Shown, Stream};

/// Back to what a shell expects: no alternate screen, no scroll region, wrapping, a cursor that shows, ASCII,
/// inserting off, no colours; then to the last line.
const SANE: &str = "\u{1b}[?1049l\u{1b}[?47l\u{1b}[!p\u{1b}[r\u{1b}[?6l\u{1b}[?7h\u{1b}[?25h\u{1b}[4l\u{1b}(B\u{1b})B\u{f}\u{1b}[0m\u{1b}[0 q\u{1b}[9999;1H";

const CLEAR: &str = "\u{1b}[?1049l\u{1b}[!p\u{1b}[r\u{1b}(B\u{f}\u{1b}[0m\u{1b}[2J\u{1b}[H";

/// Turns events into text, and keeps the screen that they make.
#[derive(Debug)]
pub(super) struct Stage {
    /// The recording has a terminal.
    terminal: bool,
    stdout: SafeText,
    stderr: SafeText,
    /// `None` never in fact: sizes are at least one by one.
    screen: Option<Screen>,
    /// Bytes of binary output that are not announced yet.
    binary: u64,
    /// The cursor of a recording without a terminal is not at the start of a line.
    mid_line: bool,
    /// `None` if nobody wants to know.
    requests: Option<RequestLog>,
    recorded: WindowSize,
    reader: WindowSize,
}

impl Stage {
    pub(super) fn new(header: &Header, reader: WindowSize, requests: bool) -> Self {
        let terminal = header.metadata().terminal.is_some();
        let recorded = WindowSize {
            cols: header.term.cols,
            rows: header.term.rows,
        };
        let size = if terminal { recorded } else { reader };
        Self {
            terminal,
            stdout: SafeText::default(),
            stderr: SafeText::default(),
            screen: Screen::new(size),
            binary: 0,
            mid_line: false,
            requests: requests.then(RequestLog::default),
            recorded,
            reader,
        }
    }

    /// The first text.
    pub(super) fn begin(&mut self, out: &mut String) {
        if !self.terminal {
            return;
        }
        let WindowSize { cols, rows } = self.recorded;
        if cols > self.reader.cols || rows > self.reader.rows {
            out.push_str(&format!(
                "recorded at {cols}x{rows}, this terminal has {}x{}: make it larger to see all\r\n",
                self.reader.cols, self.reader.rows
            ));
        } else {
            out.push_str(CLEAR);
        }
    }

    /// The last text.
    pub(super) fn leave(&mut self, out: &mut String) {
        self.announce_binary(out);
        if self.terminal {
            out.push_str(SANE);
            out.push_str("\r\n");
        } else {
            self.new_line(out);
            out.push_str("\u{1b}[0m");
        }
    }

    /// An event.
    pub(super) fn show(&mut self, what: &Happening, out: &mut String) {
        let start = out.len();
        match what {
            Happening::Output {
                stream,
                shown: Shown::Text(text),
                ..
            } => {
                self.announce_binary(out);
                self.output(*stream, text, out);
            }
            Happening::Output {
                bytes,
                shown: Shown::Binary,
                ..
            } => {
                self.binary = self.binary.saturating_add(bytes.len() as u64);
            }
            Happening::Input(bytes) if !self.terminal => self.input(bytes, out),
            Happening::InputEnd if !self.terminal => {
                self.announce_binary(out);
                self.remark("end of input", out);
            }
            Happening::InputDigest { length, sha256 } => {
                self.remark(
                    &format!("{length} bytes of input, SHA-256 {}", printable(sha256)),
                    out,
                );
            }
            // At a terminal the operator saw it there, and so does whoever replays what the terminal showed.
            Happening::Marker(text) if !self.terminal => {
                self.announce_binary(out);
                self.remark(&printable(text), out);
            }
            Happening::Resize(size) => return self.resize(*size, out),
            Happening::End(ending) => {
                self.announce_binary(out);
                let lines = self.requests.as_mut().map(|log| log.tell(what));
                self.tell(&lines.unwrap_or_default(), out);
                self.remark(&last_words(ending), out);
            }
            Happening::Request(_) | Happening::Note(_) | Happening::Answer(_) => {
                let lines = self.requests.as_mut().map(|log| log.tell(what));
                self.tell(&lines.unwrap_or_default(), out);
            }
            Happening::Output { .. }
            | Happening::Input(_)
            | Happening::InputEnd
            | Happening::Marker(_)
            | Happening::Lease(_)
            | Happening::Masked(_)
            | Happening::Unknown { .. } => {}
        }
        if let (Some(screen), Some(text)) = (&mut self.screen, out.get(start..)) {
            drop(screen.feed(text));
        }
    }

    /// As it was at a keyframe.
    pub(super) fn restore(&mut self, keyframe: &Keyframe) {
        if let Some(size) = keyframe.size {
            self.recorded = size;
            self.screen = Screen::new(size);
        }
        if let (Some(screen), Some(dump)) = (&mut self.screen, &keyframe.screen) {
            // It lay beside the recording; that it is safe need not be believed.
            let mut safe = String::with_capacity(dump.len());
            SafeText::default().feed(dump, &mut safe);
            drop(screen.feed(&safe));
        }
        self.stdout.feed(&keyframe.sequence, &mut String::new());
    }

    /// Draws the screen anew.
    pub(super) fn redraw(&self, out: &mut String) {
        let Some(screen) = &self.screen else { return };
        out.push_str(CLEAR);
        // The dump is of safe text; that it is safe as well need not be believed.
        SafeText::default().feed(&screen.dump(), out);
    }

    /// A line of ours at the bottom; [`Stage::redraw`] takes it away.
    pub(super) fn status(&self, text: &str, out: &mut String) {
        let text: String = text.chars().take(self.reader.cols.into()).collect();
        out.push_str(&format!(
            "\u{1b}7\u{1b}[?7l\u{1b}[{};1H\u{1b}[0;7m{text}\u{1b}[0m\u{1b}[?7h\u{1b}8",
            self.reader.rows
        ));
    }

    fn output(&mut self, stream: Stream, text: &str, out: &mut String) {
        let mut safe = String::with_capacity(text.len());
        match stream {
            Stream::Stdout => self.stdout.feed(text, &mut safe),
            Stream::Stderr => self.stderr.feed(text, &mut safe),
        }
        if self.terminal {
            out.push_str(&safe);
            return;
        }
        let red = stream == Stream::Stderr;
        if red {
            out.push_str("\u{1b}[31m");
        }
        let mut last = '\0';
        for character in safe.chars() {
            if character == '\n' && last != '\r' {
                out.push('\r');
            }
            out.push(character);
            last = character;
        }
        if red {
            out.push_str("\u{1b}[39m");
        }
        if last != '\0' {
            self.mid_line = last != '\n';
        }
    }

    fn input(&mut self, bytes: &[u8], out: &mut String) {
        self.announce_binary(out);
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.remark(&format!("{} bytes of binary input", bytes.len()), out);
        };
        for line in text.lines() {
            self.new_line(out);
            out.push_str(&format!("\u{1b}[36m< {}\u{1b}[39m\r\n", printable(line)));
        }
    }

    fn announce_binary(&mut self, out: &mut String) {
        let bytes = std::mem::take(&mut self.binary);
        if bytes > 0 {
            self.remark(&format!("{bytes} bytes of binary output"), out);
        }
    }

    /// A sentence of ours on a line of its own.
    fn remark(&mut self, text: &str, out: &mut String) {
        if self.terminal {
            out.push_str(&format!("\r\n\u{1b}[7m[{text}]\u{1b}[27m\r\n"));
        } else {
            self.new_line(out);
            out.push_str(&format!("\u{1b}[7m[{text}]\u{1b}[27m\r\n"));
        }
    }

    /// Lines about requests: what stands out in red, the rest dim.
    fn tell(&mut self, lines: &[RequestLine], out: &mut String) {
        for RequestLine { text, loud } in lines {
            if self.terminal {
                out.push_str("\r\n");
            } else {
                self.new_line(out);
            }
            let (on, off) = if *loud {
                ("31;7", "39;27")
            } else {
                ("2", "22")
            };
            out.push_str(&format!("\u{1b}[{on}m[{text}]\u{1b}[{off}m\r\n"));
        }
    }

    fn new_line(&mut self, out: &mut String) {
        if std::mem::take(&mut self.mid_line) {
            out.push_str("\r\n");
        }
    }

    fn resize(&mut self, size: WindowSize, out: &mut String) {
        self.recorded = size;
        if let Some(screen) = &mut self.screen
            && self.terminal
        {
            drop(screen.resize(size));
            self.redraw(out);
        }
    }
}

fn last_words(ending: &Ending) -> String {
    match ending {
        Ending::Exit(status) => format!("ended with exit status {status}"),
        Ending::Signal(signal) => format!("ended by the signal {}", printable(signal)),
        Ending::Cut { reason } => format!("cut: {}", printable(reason)),
    }
}
