//! What is in a tar stream, as it passes. `kubectl cp` is an exec of `tar`; what tells it is the bytes, never the
//! command's name, which anybody can choose.

use aws_lc_rs::digest::{Context, SHA256};
use tar::{EntryType, Header, PaxExtensions};

use crate::recording::hex;
use crate::recording::requests::{CopiedFile, Direction};

const BLOCK: usize = 512;

/// The longest name, and the most of extended headers, that is read.
const MAX_EXTENDED: u64 = 64 * 1024;

/// The longest name that is put on record.
const MAX_NAME: usize = 1024;

/// Looks at one direction of a stream. It never fails: what it does not understand it says, and looks no further.
pub(super) struct TarWatch {
    direction: Direction,
    state: State,
    header: Vec<u8>,
    next: Extended,
    seen_header: bool,
}

enum State {
    /// A header block is being collected.
    Header,
    /// A file's content.
    Content {
        file: CopiedFile,
        left: u64,
        padding: u64,
        digest: Context,
    },
    /// A header for the next header.
    Extension {
        kind: EntryType,
        left: u64,
        padding: u64,
        bytes: Vec<u8>,
    },
    Skip {
        left: u64,
    },
    /// The end, or no tar stream at all.
    Over,
    /// A tar stream that went wrong.
    Lost,
}

/// What extended headers say of the next entry.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl TarWatch {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            state: State::Header,
            header: Vec::new(),
            next: Extended::default(),
            seen_header: false,
        }
    }

    /// Looks at what comes next; files that are complete are pushed.
    pub(super) fn feed(&mut self, mut bytes: &[u8], files: &mut Vec<CopiedFile>) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Header => {
                    let wanted = BLOCK - self.header.len();
                    let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
                    self.header.extend_from_slice(now);
                    bytes = rest;
                    if self.header.len() == BLOCK {
                        self.state = self.entry(files);
                        self.header.clear();
                    }
                }
                State::Content {
                    left,
                    digest,
                    padding,
                    file,
                } => {
                    let (now, rest) = bytes.split_at(within(*left, bytes));
                    digest.update(now);
                    *left -= now.len() as u64;
                    bytes = rest;
                    if *left == 0 {
                        file.sha256 = Some(hex(digest.clone().finish().as_ref()));
                        files.push(file.clone());
                        self.state = State::Skip { left: *padding };
                    }
                }
                State::Extension {
                    kind,
                    left,
                    padding,
                    bytes: read,
                } => {
                    let (now, rest) = bytes.split_at(within(*left, bytes));
                    read.extend_from_slice(now);
                    *left -= now.len() as u64;
                    bytes = rest;
                    if *left == 0 {
                        let understood = self.next.read(*kind, read);
                        let padding = *padding;
                        self.state = if understood {
                            State::Skip { left: padding }
                        } else {
                            State::Lost
                        };
                    }
                }
                State::Skip { left: 0 } => self.state = State::Header,
                State::Skip { left } => {
                    let (now, rest) = bytes.split_at(within(*left, bytes));
                    *left -= now.len() as u64;
                    bytes = rest;
                }
                State::Over | State::Lost => return,
            }
        }
    }

    /// The end of the direction: a file that did not come whole, and whether the stream was a tar stream that was
    /// not understood to its end.
    pub(super) fn finish(self, files: &mut Vec<CopiedFile>) -> bool {
        match self.state {
            State::Content { file, .. } => {
                files.push(file);
                false
            }
            State::Lost => true,
            State::Header | State::Extension { .. } | State::Skip { .. } | State::Over => false,
        }
    }

    fn entry(&mut self, files: &mut Vec<CopiedFile>) -> State {
        let lost = if self.seen_header {
            State::Lost
        } else {
            State::Over
        };
        if self.header.iter().all(|byte| *byte == 0) {
            // Two of these end an archive; one is as good.
            return State::Over;
        }
        let Some(block) = self.header.first_chunk::<BLOCK>() else {
            return lost;
        };
        let header = Header::from_byte_slice(block);
        if (header.as_ustar().is_none() && header.as_gnu().is_none()) || !sum_is_right(header) {
            return lost;
        }
        self.seen_header = true;
        let kind = header.entry_type();
        let Ok(size) = header.entry_size() else {
            return State::Lost;
        };
        if matches!(kind, EntryType::XHeader | EntryType::GNULongName) {
            if size > MAX_EXTENDED {
                return State::Lost;
            }
            return State::Extension {
                kind,
                left: size,
                padding: padding(size),
                bytes: Vec::new(),
            }
            .or_skip();
        }
        if matches!(kind, EntryType::XGlobalHeader | EntryType::GNULongLink) {
            return skip(size);
        }
        // Its map of holes may go on in blocks of its own: rather say so than guess.
        if kind == EntryType::GNUSparse {
            return State::Lost;
        }

        let next = std::mem::take(&mut self.next);
        let has_content = matches!(kind, EntryType::Regular | EntryType::Continuous);
        let size = next.size.unwrap_or(size);
        // Readers differ on whether anything follows a directory or a link that says so.
        if !has_content && size > 0 {
            return State::Lost;
        }
        let name = next
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let file = CopiedFile {
            name: shown(&name),
            direction: self.direction,
            bytes: size,
            sha256: None,
        };
        if !has_content {
            files.push(file);
            return State::Header;
        }
        let digest = Context::new(&SHA256);
        if size == 0 {
            files.push(CopiedFile {
                sha256: Some(hex(digest.finish().as_ref())),
                ..file
            });
            return State::Header;
        }
        State::Content {
            file,
            left: size,
            padding: padding(size),
            digest,
        }
    }
}

impl State {
    fn or_skip(self) -> Self {
        match self {
            Self::Extension { left: 0, .. } => Self::Header,
            state => state,
        }
    }
}

impl Extended {
    fn read(&mut self, kind: EntryType, bytes: &[u8]) -> bool {
        if kind == EntryType::GNULongName {
            let end = bytes
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(bytes.len());
            self.name = Some(bytes.get(..end).unwrap_or_default().to_vec());
            return true;
        }
        for record in PaxExtensions::new(bytes) {
            let Ok(record) = record else { return false };
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_vec()),
                b"size" => match record.value().ok().and_then(|size| size.parse().ok()) {
                    Some(size) => self.size = Some(size),
                    None => return false,
                },
                // GNU's sparse files in PAX words: the content is a map first.
                key if key.starts_with(b"GNU.sparse.") => return false,
                _ => {}
            }
        }
        true
    }
}

/// The sum of a header's bytes, its own field taken as blanks (POSIX.1-1988). It is what makes 512 bytes of
/// something else a header only on purpose.
fn sum_is_right(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    header.cksum().is_ok_and(|claimed| claimed == sum)
}

fn skip(size: u64) -> State {
    match size.checked_add(padding(size)) {
        Some(left) => State::Skip { left },
        None => State::Lost,
    }
}

fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

fn within(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}

fn shown(name: &[u8]) -> String {
    let mut name = String::from_utf8_lossy(name).into_owned();
    if name.len() > MAX_NAME {
        let end = (0..=MAX_NAME).rev().find(|at| name.is_char_boundary(*at));
        name.truncate(end.unwrap_or(0));
        name.push('…');
    }
    name
}
