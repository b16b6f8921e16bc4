//! What the network process writes to its log, in the daemon's own.
//!
//! The two share no file: whoever has taken that process over could stop the daemon's log, flood it, or write in its name. So what it
//! says is read here, marked as its own, and passed on as long as it is not too much.

use std::io::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;
use tokio::time::Instant;

use crate::clock;

/// What a line is cut to, in bytes.
const LONGEST: usize = 8 << 10;

/// Bytes at once, and each second after that. What is beyond is counted, and left out.
const AT_ONCE: f64 = (16 << 20) as f64;
const EACH_SECOND: f64 = (64 << 10) as f64;

/// What the process that speaks SSH is called.
const WHO: &str = "network";

/// Passes on what it says until it says no more.
pub(super) async fn pass_on(mut log: ChildStderr, as_json: bool) {
    let mut lines = Lines::default();
    let mut measure = Measure::full(clock::monotonic());
    let mut chunk = [0; 4096];
    loop {
        let read = log.read(&mut chunk).await.unwrap_or(0);
        let said = match chunk.get(..read) {
            Some(read) if !read.is_empty() => lines.of(read),
            _ => lines.rest(),
        };
        for line in said {
            if let Some(left_out) = measure.takes(line.len(), clock::monotonic()) {
                if left_out > 0 {
                    tracing::warn!("{left_out} lines of the network process were left out");
                }
                write(&shown(&line, as_json));
            }
        }
        if read == 0 {
            return;
        }
    }
}

/// A log that cannot be written to stops nothing.
fn write(line: &str) {
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

/// Bytes on their way to be lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn of(&mut self, read: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for piece in read.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = LONGEST.saturating_sub(self.begun.len()).min(text.len());
            self.begun.extend(text.iter().take(room));
            if ends {
                whole.push(std::mem::take(&mut self.begun));
            }
        }
        whole
    }

    /// What was begun and never ended.
    fn rest(&mut self) -> Vec<Vec<u8>> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then_some(rest).into_iter().collect()
    }
}

/// How much it may still say.
#[derive(Debug)]
struct Measure {
    left: f64,
    at: Instant,
    left_out: u64,
}

impl Measure {
    fn full(now: Instant) -> Self {
        Self {
            left: AT_ONCE,
            at: now,
            left_out: 0,
        }
    }

    /// Whether there is room for so many bytes; if so, how many lines were left out before.
    fn takes(&mut self, bytes: usize, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * EACH_SECOND).min(AT_ONCE);
        // The end of a line is one of its bytes.
        let bytes = bytes as f64 + 1.0;
        if bytes > self.left {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.left -= bytes;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A line as [`tracing_subscriber`] writes it as JSON.
#[derive(Debug, Deserialize)]
struct Said {
    timestamp: String,
    level: String,
    target: String,
    fields: Map<String, Value>,
}

/// As a line of the daemon's log. Whatever it holds, it begins as no other line does.
fn shown(line: &[u8], as_json: bool) -> String {
    let text = String::from_utf8_lossy(line);
    let said: Option<Said> = serde_json::from_str(&text).ok();
    match (said, as_json) {
        // A panic, or why it did not start.
        (None, false) => format!("{WHO}: {}\n", printable(&text)),
        (None, true) => format!("{}\n", json!({WHO: {"printed": text}})),
        (Some(said), true) => {
            let Said {
                timestamp,
                level,
                target,
                fields,
            } = said;
            let said = json!({WHO: {"timestamp": timestamp, "level": level, "target": target, "fields": fields}});
            format!("{said}\n")
        }
        (Some(said), false) => {
            let Said {
                timestamp,
                level,
                target,
                mut fields,
            } = said;
            let message = match fields.remove("message") {
                Some(Value::String(message)) => message,
                other => other.map(|other| other.to_string()).unwrap_or_default(),
            };
            let fields: String = fields.iter().map(|(k, v)| format!(" {k}={v}")).collect();
            let line = format!("{timestamp} {level:>5} {target}: {message}{fields}");
            format!("{WHO}: {}\n", printable(&line))
        }
    }
}

/// Without what moves a terminal's cursor or ends a line.
fn printable(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LINE: &str = r#"{"timestamp":"2026-01-02T03:04:05Z","level":"WARN","fields":{"message":"no room\n{}","address":"192.0.2.1"},"target":"bastion_audit::network"}"#;

    #[test]
    fn what_it_says_is_told_as_its_own() {
        let text = shown(LINE.as_bytes(), false);
        assert_eq!(
            text,
            "network: 2026-01-02T03:04:05Z  WARN bastion_audit::network: no room\u{fffd}{} address=\"192.0.2.1\"\n"
        );
        let said: Value = serde_json::from_str(&shown(LINE.as_bytes(), true)).unwrap();
        let fields = said.pointer("/network/fields/address");
        assert_eq!(fields, Some(&json!("192.0.2.1")));
    }

    #[test]
    fn no_line_of_it_is_one_of_the_daemons() {
        for forged in [
            &br#"{"rescue":{"session":"x"}}"#[..],
            b"2026-01-02T03:04:05Z ERROR bastion_audit: all is lost",
            b"\xff\x1b[2J\rroot",
        ] {
            let text = shown(forged, false);
            assert!(text.starts_with("network: "), "{text}");
            assert_eq!(text.matches(char::is_control).count(), 1, "{text:?}");
            let said: Value = serde_json::from_str(&shown(forged, true)).unwrap();
            let names: Vec<_> = said.as_object().unwrap().keys().collect();
            assert_eq!(names, ["network"]);
        }
    }

    #[test]
    fn lines_come_whole_and_no_longer_than_that() {
        let mut lines = Lines::default();
        assert!(lines.of(b"on").is_empty());
        assert_eq!(lines.of(b"e\ntwo\n\nth"), [&b"one"[..], b"two", b""]);
        assert_eq!(lines.rest(), [b"th"]);
        assert!(lines.rest().is_empty());
        for _ in 0..10 {
            assert!(lines.of(&[b'x'; 4096]).is_empty());
        }
        let long = lines.of(b"\nnext\n");
        let lengths: Vec<usize> = long.iter().map(Vec::len).collect();
        assert_eq!(lengths, [LONGEST, 4]);
    }

    #[test]
    fn a_flood_is_left_out_and_counted() {
        let begun = clock::monotonic();
        let mut measure = Measure::full(begun);
        let taken = (0..10_000).filter(|_| measure.takes(4095, begun).is_some());
        assert_eq!(taken.count(), 4096, "16 MiB at once");
        let later = begun + Duration::from_secs(1);
        assert_eq!(measure.takes(4095, later), Some(10_000 - 4096));
        let more = (0..100).filter(|_| measure.takes(4095, later).is_some());
        assert_eq!(more.count(), 15, "64 KiB each second");
    }
}
