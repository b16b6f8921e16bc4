//! Verifies a log offline, with nothing but its files and the public keys.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::head::Head;
use super::layout;
use super::scan::{Scanned, scan};
use super::tree::{HEIGHT, Hash, Tile, WIDTH, edge_of, root_of, subtree_hash};
use super::{Leaf, LogError, Position};
use crate::signing::{Keys, PublicKey};

/// A running daemon may move tiles away under a reader: it reads again.
const ATTEMPTS: usize = 3;

/// A log that was read as a whole and that fits its own signatures.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    keys: Keys,
    found: Scanned,
    head: Head,
    /// Tiles that are not on disk as full ones: by level and index.
    edge: HashMap<(u8, u64), Vec<Hash>>,
}

impl LogReader {
    /// Reads all of a log, rebuilds its tree and verifies its heads. Reads each leaf once and keeps none: `each` is given
    /// them in order, and what it was given counts only if this returns `Ok`. It may be given them again from the first,
    /// where a running daemon got in the way. Blocks.
    pub fn open(
        directory: &Path,
        keys: &Keys,
        mut each: impl FnMut(Position, Leaf),
    ) -> Result<Self, LogError> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let before = super::published_size(directory, keys);
            match Self::read(directory, keys, &mut each) {
                Err(_) if left > 0 && super::published_size(directory, keys) != before => {}
                result => return result,
            }
        }
    }

    fn read(
        directory: &Path,
        keys: &Keys,
        each: &mut impl FnMut(Position, Leaf),
    ) -> Result<Self, LogError> {
        let mut pass_on = |position, bytes: &[u8]| match Leaf::parse(bytes) {
            Some(leaf) => {
                each(Position(position), leaf);
                Ok(())
            }
            None => Err(LogError::UnknownLeaf {
                directory: directory.to_owned(),
                position,
            }),
        };
        let nothing = || LogError::Damaged {
            directory: directory.to_owned(),
            file: layout::TAIL.into(),
            what: "is missing, and so is everything else",
            first: 0,
            end: 1,
        };
        let mut found = scan(directory, keys, &mut pass_on)?.ok_or_else(nothing)?;
        let head = found.head.take().ok_or_else(|| LogError::NoHead {
            directory: directory.to_owned(),
        })?;
        let tiles = found.tiles.drain(..).chain(found.tree.partial());
        let edge = tiles.map(|tile| ((tile.level, tile.index), tile.hashes));
        Ok(Self {
            directory: directory.to_owned(),
            keys: keys.clone(),
            edge: edge.collect(),
            found,
            head,
        })
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The newest signed head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How many leaves there are; those from [`Head::size`] on are not signed yet.
    pub fn size(&self) -> u64 {
        self.found.tree.size()
    }

    /// The key that signs by the log's own word, once it has said so.
    pub fn key(&self) -> Option<&PublicKey> {
        self.found.key.as_ref()
    }

    /// Bytes at the end that are no whole line: what a crash leaves, or what is left of leaves that no head here covers.
    pub fn unreadable(&self) -> u64 {
        self.found.unreadable
    }

    /// Holds the log against a checkpoint of it that was kept elsewhere: all that it covers must be here, as it was.
    pub fn check_witness(&self, checkpoint: &[u8]) -> Result<Head, LogError> {
        let place = "the checkpoint that was kept elsewhere";
        let witness = Head::read(&self.directory, place, checkpoint, &self.keys)?;
        self.check_head(&witness, place)?;
        Ok(witness)
    }

    /// The same with a head that was read already. `place` says where it was kept, for messages.
    pub fn check_head(&self, witness: &Head, place: &str) -> Result<(), LogError> {
        if witness.origin() != self.head.origin() {
            return Err(LogError::NotACheckpoint {
                directory: self.directory.clone(),
                place: place.to_owned(),
                origin: self.head.origin().to_owned(),
            });
        }
        let (size, held) = (witness.size(), self.size());
        if size > held {
            return Err(LogError::RolledBack {
                directory: self.directory.clone(),
                witness: place.to_owned(),
                size,
                held,
            });
        }
        match self.root_at(size)? == Some(witness.hash()) {
            true => Ok(()),
            false => Err(LogError::Forked {
                directory: self.directory.clone(),
                witness: place.to_owned(),
                size,
            }),
        }
    }

    /// Of several directories of one log (copies, or what was moved aside): whether this one holds all of the other.
    pub fn continues(&self, other: &Self) -> Result<(), LogError> {
        self.check_witness(other.head.note().as_str().as_bytes())
            .map(drop)
    }
}

impl LogReader {
    /// The head of the tree when it had this size, from its tiles; they were held against the leaves when it was opened.
    fn root_at(&self, size: u64) -> Result<Option<Hash>, LogError> {
        let edge: Result<Vec<Option<Hash>>, LogError> = edge_of(size)
            .map(|(height, index)| self.subtree(height, index))
            .collect();
        let edge: Option<Vec<Hash>> = edge?.into_iter().collect();
        Ok(edge.map(|edge| root_of(edge.into_iter())))
    }

    fn subtree(&self, height: u8, index: u64) -> Result<Option<Hash>, LogError> {
        // Within its tile, it stands on so many hashes.
        let within = height % HEIGHT;
        let first = index << within;
        let foot = usize::try_from(first % WIDTH as u64).unwrap_or(0);
        let hashes = self.tile(height / HEIGHT, first / WIDTH as u64)?;
        let hashes = hashes.get(foot..foot + (1 << within));
        Ok(hashes.map(subtree_hash))
    }

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, LogError> {
        if let Some(hashes) = self.edge.get(&(level, index)) {
            return Ok(hashes.clone());
        }
        let tile = Tile {
            level,
            index,
            hashes: vec![Hash::default(); WIDTH],
        };
        let path = layout::tile_path(&self.directory, &tile);
        let bytes = std::fs::read(&path).map_err(LogError::io(&path, "reading"))?;
        Ok(layout::tile_hashes(&bytes))
    }
}
