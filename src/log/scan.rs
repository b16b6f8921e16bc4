//! Reads a whole log and holds it against its own signatures: the daemon at its start, and whoever verifies.
//!
//! The tree is built anew from the leaves. What is held in memory does not grow with the log.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::head::Head;
use super::layout::{self, CHECKPOINT, TAIL, TILES};
use super::tail::{Line, Lines};
use super::tree::{HEIGHT, Tile, Tree, WIDTH, leaf_hash};
use super::{LONGEST_LEAF, Leaf, LogError};
use crate::signing::{Keys, PublicKey};

/// A full bundle of the longest leaves.
const LONGEST_BUNDLE: u64 = (WIDTH * (LONGEST_LEAF + 2)) as u64;
/// A checkpoint with the signatures of many witnesses.
const LONGEST_CHECKPOINT: u64 = 64 << 10;

/// What a log holds, when everything fits.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) tree: Tree,
    /// The newest signed head.
    pub(super) head: Option<Head>,
    /// The key that the leaves say signs now.
    pub(super) key: Option<PublicKey>,
    /// What `checkpoint` covers.
    pub(super) published: Option<u64>,
    /// The tail's first leaf.
    pub(super) first: u64,
    /// The tail's leaves.
    pub(super) tail: Vec<Vec<u8>>,
    /// Full tiles made of the tail's leaves.
    pub(super) tiles: Vec<Tile>,
    /// Up to here the tail can be read.
    pub(super) readable: u64,
    /// What comes after that, in bytes: what a crash left.
    pub(super) unreadable: u64,
}

/// Who wants to see the leaves as they are read. They are proven only when the scan ends well.
pub(super) type Each<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), LogError>;

/// Reads the log. `None`: there is none in this directory yet.
pub(super) fn scan(
    directory: &Path,
    keys: &Keys,
    each: Each<'_>,
) -> Result<Option<Scanned>, LogError> {
    // Before the tail, which a running daemon goes on with.
    let published = published(directory, keys)?;
    let tail_path = directory.join(TAIL);
    let tail = match File::open(&tail_path) {
        Ok(tail) => tail,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return no_tail(directory, published.as_ref()).map(|()| None);
        }
        Err(error) => return Err(LogError::io(&tail_path, "opening")(error)),
    };
    let first_and_lines =
        Lines::open(BufReader::new(tail)).map_err(LogError::io(&tail_path, "reading"))?;
    let Some((first, lines)) = first_and_lines.filter(|(first, _)| is_full(*first)) else {
        let end = published.as_ref().map_or(1, Head::size);
        return Err(damaged(
            directory,
            TAIL,
            "has no readable first line",
            0,
            end,
        ));
    };
    let mut walk = Walk {
        directory,
        keys,
        each,
        published,
        found: Scanned {
            tree: Tree::default(),
            head: None,
            key: None,
            published: None,
            first,
            tail: Vec::new(),
            tiles: Vec::new(),
            readable: lines.at(),
            unreadable: 0,
        },
        proven: 0,
    };
    walk.reached()?;
    for index in 0..first / WIDTH as u64 {
        walk.bundle(index)?;
    }
    walk.tail(lines)?;
    walk.finish().map(Some)
}

fn is_full(size: u64) -> bool {
    size.is_multiple_of(WIDTH as u64)
}

/// Without a tail there must be nothing else either.
fn no_tail(directory: &Path, published: Option<&Head>) -> Result<(), LogError> {
    let mut bundles = 0;
    while layout::entries_path(directory, bundles, WIDTH).exists() {
        bundles += 1;
    }
    let held = bundles * WIDTH as u64;
    let size = published.map_or(0, Head::size);
    if published.is_some() || directory.join(TILES).exists() {
        let end = size.max(held + 1);
        return Err(damaged(directory, TAIL, "is missing", held.min(size), end));
    }
    Ok(())
}

fn published(directory: &Path, keys: &Keys) -> Result<Option<Head>, LogError> {
    let path = directory.join(CHECKPOINT);
    match read(&path, LONGEST_CHECKPOINT)? {
        Some(note) => Head::read(directory, CHECKPOINT, &note, keys).map(Some),
        None => Ok(None),
    }
}

/// A file's content, at most one byte more than it may have. `None`: it is not there.
fn read(path: &Path, longest: u64) -> Result<Option<Vec<u8>>, LogError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(longest.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(LogError::io(path, "reading"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io(path, "opening")(error)),
    };
    Ok(Some(bytes))
}

fn damaged(
    directory: &Path,
    file: impl Into<PathBuf>,
    what: &'static str,
    first: u64,
    end: u64,
) -> LogError {
    LogError::Damaged {
        directory: directory.to_owned(),
        file: file.into(),
        what,
        first,
        end,
    }
}

struct Walk<'a> {
    directory: &'a Path,
    keys: &'a Keys,
    each: Each<'a>,
    /// `checkpoint`, until its size is reached.
    published: Option<Head>,
    found: Scanned,
    /// Up to here a signature covers what was read.
    proven: u64,
}

impl Walk<'_> {
    /// Reads a full bundle; it and its tiles must be there and fit.
    fn bundle(&mut self, index: u64) -> Result<(), LogError> {
        let path = layout::entries_path(self.directory, index, WIDTH);
        let (first, end) = leaves_of(0, index);
        let wrong = |what| damaged(self.directory, self.below(&path), what, first, end);
        let bytes = read(&path, LONGEST_BUNDLE)?.ok_or_else(|| wrong("is missing"))?;
        let leaves = layout::unbundle(&bytes, WIDTH).ok_or_else(|| wrong("is damaged"))?;
        for leaf in leaves {
            for tile in self.leaf(leaf)? {
                if !self.is_on_disk(&tile)? {
                    let path = layout::tile_path(self.directory, &tile);
                    let (first, end) = leaves_of(tile.level, tile.index);
                    let file = self.below(&path);
                    return Err(damaged(self.directory, file, "is missing", first, end));
                }
            }
            self.reached()?;
        }
        Ok(())
    }

    /// Takes a leaf in; answers with the tiles that it filled.
    fn leaf(&mut self, leaf: &[u8]) -> Result<Vec<Tile>, LogError> {
        (self.each)(self.found.tree.size(), leaf)?;
        if names_a_key(leaf)
            && let Some(key) = Leaf::parse(leaf).as_ref().and_then(Leaf::key)
        {
            self.found.key = Some(key.clone());
        }
        Ok(self.found.tree.push(leaf_hash(leaf)))
    }

    /// Whether a full tile lies there; if so it must be this one.
    fn is_on_disk(&self, tile: &Tile) -> Result<bool, LogError> {
        let path = layout::tile_path(self.directory, tile);
        let bytes = layout::tile_bytes(tile);
        match read(&path, bytes.len() as u64)? {
            Some(found) if found == bytes => Ok(true),
            Some(_) => {
                let (first, end) = leaves_of(tile.level, tile.index);
                let file = self.below(&path);
                Err(damaged(
                    self.directory,
                    file,
                    "does not fit its leaves",
                    first,
                    end,
                ))
            }
            None => Ok(false),
        }
    }

    fn tail<R: std::io::BufRead>(&mut self, mut lines: Lines<R>) -> Result<(), LogError> {
        let io = LogError::io(&self.directory.join(TAIL), "reading");
        loop {
            match lines.next().map_err(&io)? {
                None => return Ok(()),
                Some(Line::Leaf(leaf)) => self.tail_leaf(leaf)?,
                Some(Line::Head(note)) => self.tail_head(&note)?,
                Some(Line::Unreadable) => break,
            }
            self.found.readable = lines.at();
        }
        // A crash may leave anything of what was not synced. But a head is signed only over what was.
        while let Some(line) = lines.next().map_err(&io)? {
            if let Line::Head(note) = line
                && let Ok(head) = Head::read(self.directory, TAIL, note.as_bytes(), self.keys)
            {
                return Err(self.changed("a later head in tail", head.size()));
            }
        }
        self.found.unreadable = lines.at().saturating_sub(self.found.readable);
        Ok(())
    }

    fn tail_leaf(&mut self, leaf: Vec<u8>) -> Result<(), LogError> {
        for tile in self.leaf(&leaf)? {
            // A crash may have come between the tiles and the shorter tail that follows them.
            self.is_on_disk(&tile)?;
            if tile.level == 0 {
                self.bundle_fits(&tile)?;
            }
            self.found.tiles.push(tile);
        }
        self.found.tail.push(leaf);
        self.reached()
    }

    fn bundle_fits(&self, tile: &Tile) -> Result<(), LogError> {
        let path = layout::entries_path(self.directory, tile.index, WIDTH);
        let Some(bytes) = read(&path, LONGEST_BUNDLE)? else {
            return Ok(());
        };
        let leaves = layout::unbundle(&bytes, WIDTH).unwrap_or_default();
        if leaves
            .into_iter()
            .map(leaf_hash)
            .eq(tile.hashes.iter().copied())
        {
            return Ok(());
        }
        let (first, end) = leaves_of(0, tile.index);
        let file = self.below(&path);
        Err(damaged(
            self.directory,
            file,
            "does not fit the tail",
            first,
            end,
        ))
    }

    fn tail_head(&mut self, note: &str) -> Result<(), LogError> {
        let place = format!("the head after leaf {} in tail", self.found.tree.size());
        let head = Head::read(self.directory, &place, note.as_bytes(), self.keys)?;
        self.prove(&head, &place)?;
        self.found.head = Some(head);
        Ok(())
    }

    /// Holds a head against the tree as it is now.
    fn prove(&mut self, head: &Head, place: &str) -> Result<(), LogError> {
        let held = self.found.tree.size();
        if head.size() > held {
            return Err(self.gone(place, head.size()));
        }
        if head.size() < held || head.hash() != self.found.tree.root() {
            return Err(self.changed(place, held));
        }
        if let Some(key) = &self.found.key
            && !head.is_by(key)
        {
            return Err(LogError::WrongKey {
                directory: self.directory.to_owned(),
                place: place.to_owned(),
                by: head.note().by().iter().map(PublicKey::label).collect(),
                expected: key.label(),
            });
        }
        self.proven = held;
        Ok(())
    }

    /// Looks at `checkpoint`, and at the tiles beside it, once the tree has its size.
    fn reached(&mut self) -> Result<(), LogError> {
        let size = self.found.tree.size();
        let Some(head) = self.published.take_if(|head| head.size() == size) else {
            return Ok(());
        };
        self.prove(&head, CHECKPOINT)?;
        for tile in self.found.tree.partial() {
            // They can be made again at any time: one that is missing proves nothing.
            self.is_on_disk(&tile)?;
            if tile.level == 0 {
                self.partial_bundle_fits(&tile)?;
            }
        }
        self.found.published = Some(size);
        if self
            .found
            .head
            .as_ref()
            .is_none_or(|newest| newest.size() < size)
        {
            self.found.head = Some(head);
        }
        Ok(())
    }

    fn partial_bundle_fits(&self, tile: &Tile) -> Result<(), LogError> {
        let width = tile.hashes.len();
        let path = layout::entries_path(self.directory, tile.index, width);
        let Some(bytes) = read(&path, LONGEST_BUNDLE)? else {
            return Ok(());
        };
        let leaves = layout::unbundle(&bytes, width).unwrap_or_default();
        if leaves
            .into_iter()
            .map(leaf_hash)
            .eq(tile.hashes.iter().copied())
        {
            return Ok(());
        }
        let end = self.found.tree.size();
        let first = end.saturating_sub(width as u64);
        let file = self.below(&path);
        Err(damaged(
            self.directory,
            file,
            "does not fit its leaves",
            first,
            end,
        ))
    }

    fn finish(self) -> Result<Scanned, LogError> {
        let held = self.found.tree.size();
        if let Some(head) = &self.published {
            return Err(self.gone(CHECKPOINT, head.size()));
        }
        // A bundle is written when the tail has its leaves; it outlives them only by a hand.
        let next = held / WIDTH as u64;
        let path = layout::entries_path(self.directory, next, WIDTH);
        if path.exists() {
            let place = self.below(&path).display().to_string();
            return Err(self.gone(&place, leaves_of(0, next).1));
        }
        Ok(self.found)
    }

    fn gone(&self, place: &str, size: u64) -> LogError {
        LogError::Gone {
            directory: self.directory.to_owned(),
            covered: place.to_owned(),
            size,
            held: self.found.tree.size(),
        }
    }

    fn changed(&self, place: &str, size: u64) -> LogError {
        LogError::Changed {
            directory: self.directory.to_owned(),
            covered: place.to_owned(),
            from: self.proven,
            size,
        }
    }

    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.directory).unwrap_or(path).to_owned()
    }
}

/// The first leaf under a full tile, and the first after them.
fn leaves_of(level: u8, index: u64) -> (u64, u64) {
    let height = u32::from(HEIGHT * (level + 1));
    (index << height, index.saturating_add(1) << height)
}

/// Whether it is worth parsing: leaves are written with their kind in front.
fn names_a_key(leaf: &[u8]) -> bool {
    leaf.starts_with(br#"{"v":1,"leaf":"started""#) || leaf.starts_with(br#"{"v":1,"leaf":"key""#)
}
