//! What ties each line to the one before it.
//!
//! A line of the audit log ends with its number and the SHA-256 of the line before it. Both go on over restarts and
//! rotations: `stateDir/audit.chain` says where the chain is, for when the file that it ended in has been moved away.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::signing::Digest;

/// The file in the state directory.
pub(super) const STATE: &str = "audit.chain";
/// Its length: one write of one block, so that it is there whole or not at all.
const STATE_BYTES: usize = 256;

/// A place in the chain: a line's number, from 1, and the SHA-256 of its bytes without the line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The line's number.
    pub seq: u64,
    /// Of its bytes.
    pub hash: Digest,
}

impl Link {
    /// Before the first line.
    pub const START: Self = Self {
        seq: 0,
        hash: Digest::ZERO,
    };

    /// The line for an event (a JSON object) that comes next, and its own link.
    pub(super) fn line(self, event: &[u8]) -> (Vec<u8>, Self) {
        let seq = self.seq.saturating_add(1);
        let mut line = event.strip_suffix(b"}").unwrap_or(event).to_vec();
        line.extend_from_slice(format!(",\"seq\":{seq},\"prev\":\"{}\"}}", self.hash).as_bytes());
        let hash = Digest::of(&line);
        (line, Self { seq, hash })
    }
}

/// What a line says of its place.
#[derive(Deserialize)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) prev: Digest,
}

/// The link that a line makes, if it is one of ours.
pub(super) fn link_of(line: &[u8]) -> Option<Link> {
    let place: Place = serde_json::from_slice(line).ok()?;
    Some(Link {
        seq: place.seq,
        hash: Digest::of(line),
    })
}

/// Where the chain is, by a file beside the log.
#[derive(Debug)]
pub(super) struct State {
    file: File,
    /// Up to here the log was synced.
    synced: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    link: Link,
    synced: u64,
}

impl State {
    /// Opens it, and says what it holds.
    pub(super) fn open(path: &Path) -> std::io::Result<(Self, Option<Link>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut text = Vec::new();
        (&file).take(STATE_BYTES as u64).read_to_end(&mut text)?;
        let written: Option<Written> = serde_json::from_slice(&text).ok();
        let synced = written.as_ref().map_or(0, |written| written.synced);
        Ok((Self { file, synced }, written.map(|written| written.link)))
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    /// The log has this line. Not synced: it survives the daemon, and a power cut takes the log's end, too.
    pub(super) fn reached(&self, link: Link) -> std::io::Result<()> {
        let written = Written {
            link,
            synced: self.synced,
        };
        let mut text = serde_json::to_vec(&written).map_err(std::io::Error::other)?;
        text.resize(STATE_BYTES, b' ');
        self.file.write_all_at(&text, 0)
    }

    /// Up to this line the log is on stable storage.
    pub(super) fn synced_to(&mut self, seq: u64) {
        self.synced = self.synced.max(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_place_and_the_line_before_it() {
        let (first, one) = Link::START.line(br#"{"v":1}"#);
        let zeros = "0".repeat(64);
        assert_eq!(
            String::from_utf8(first.clone()).unwrap(),
            format!(r#"{{"v":1,"seq":1,"prev":"{zeros}"}}"#)
        );
        let (second, two) = one.line(br#"{"v":1}"#);
        let place: Place = serde_json::from_slice(&second).unwrap();
        assert_eq!((place.seq, place.prev), (2, Digest::of(&first)));
        assert_eq!(link_of(&second), Some(two));
    }

    #[test]
    fn the_state_is_found_again_and_nonsense_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STATE);
        let (mut state, found) = State::open(&path).unwrap();
        assert_eq!(found, None);
        let (_, link) = Link::START.line(b"{}");
        state.synced_to(1);
        state.reached(link).unwrap();
        let (state, found) = State::open(&path).unwrap();
        assert_eq!((state.synced(), found), (1, Some(link)));
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(State::open(&path).unwrap().1, None);
    }
}
