//! The file that is appended to: a header, leaves and signed heads, a line each.

use std::io::{self, BufRead};

use super::LONGEST_LEAF;

/// Longest line: a leaf, or a head in JSON.
const LONGEST_LINE: u64 = (LONGEST_LEAF as u64) * 2;

const HEADER: &str = "# bastion-audit log 1, leaves from ";

/// A line of the tail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A leaf: JSON.
    Leaf(Vec<u8>),
    /// A signed note over all leaves before it.
    Head(String),
    /// Nothing that was ever written as it is: a line without an end, or something else.
    Unreadable,
}

/// The first line of a tail that begins with this leaf.
pub(super) fn header(first: u64) -> String {
    format!("{HEADER}{first}\n")
}

pub(super) fn push_leaf(lines: &mut Vec<u8>, leaf: &[u8]) {
    lines.extend_from_slice(leaf);
    lines.push(b'\n');
}

/// A head as a JSON string, so that it is one line.
pub(super) fn head_line(note: &str) -> String {
    format!("{}\n", serde_json::Value::from(note))
}

/// Reads a tail line by line; never more than a line in memory.
#[derive(Debug)]
pub(super) struct Lines<R> {
    from: R,
    /// Where the next line begins.
    at: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads the header. `None`: there is none, or not one of this version.
    pub(super) fn open(mut from: R) -> io::Result<Option<(u64, Self)>> {
        let mut line = Vec::new();
        io::Read::take(&mut from, LONGEST_LINE).read_until(b'\n', &mut line)?;
        let first = std::str::from_utf8(&line)
            .ok()
            .and_then(|line| line.strip_suffix('\n')?.strip_prefix(HEADER))
            .and_then(|first| first.parse().ok());
        let at = line.len() as u64;
        Ok(first
            // One number has one way of being written.
            .filter(|first| header(*first).as_bytes() == line)
            .map(|first| (first, Self { from, at })))
    }

    /// How far everything was read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next line. `None`: there is no more.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut self.from, LONGEST_LINE);
        let length = limited.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(None);
        }
        self.at = self.at.saturating_add(length as u64);
        let Some(content) = line.strip_suffix(b"\n") else {
            return Ok(Some(Line::Unreadable));
        };
        Ok(Some(match content.first() {
            Some(b'{') if content.len() <= LONGEST_LEAF => Line::Leaf(content.to_vec()),
            Some(b'"') => match serde_json::from_slice::<String>(content) {
                // One note has one way of being written.
                Ok(note) if head_line(&note).as_bytes() == line => Line::Head(note),
                _ => Line::Unreadable,
            },
            _ => Line::Unreadable,
        }))
    }
}
