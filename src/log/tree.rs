//! The Merkle tree (RFC 6962, 2.1) while it grows: what is needed to compute its head and its tiles, and no more.

use sha2::{Digest as _, Sha256};

/// A SHA-256 in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hash(pub(super) [u8; 32]);

/// Of a leaf.
pub(super) fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0])
            .chain_update(leaf)
            .finalize()
            .into(),
    )
}

/// Of two subtrees side by side.
pub(super) fn node_hash(left: Hash, right: Hash) -> Hash {
    let hasher = Sha256::new().chain_update([1]);
    Hash(
        hasher
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// Of the subtrees that a tree consists of, the largest and leftmost first.
pub(super) fn root_of(edge: impl DoubleEndedIterator<Item = Hash>) -> Hash {
    let mut edge = edge.rev();
    match edge.next() {
        Some(last) => edge.fold(last, |right, left| node_hash(left, right)),
        None => Hash(Sha256::digest([]).into()),
    }
}

/// Of a complete subtree, by the hashes at its foot; their number is a power of two.
pub(super) fn subtree_hash(foot: &[Hash]) -> Hash {
    match foot {
        [one] => *one,
        _ => {
            let (left, right) = foot.split_at(foot.len() / 2);
            if left.is_empty() {
                return root_of(std::iter::empty());
            }
            node_hash(subtree_hash(left), subtree_hash(right))
        }
    }
}

/// The complete subtrees that a tree of this size consists of, left to right: height, and index at that height.
pub(super) fn edge_of(size: u64) -> impl Iterator<Item = (u8, u64)> {
    let heights = (0..64_u8).rev();
    heights
        .filter(move |height| size & (1 << height) != 0)
        .map(move |height| (height, (size >> height) - 1))
}

/// Hashes in a full tile.
pub(super) const WIDTH: usize = 256;
/// A tile's height: log2 of its width.
pub(super) const HEIGHT: u8 = 8;

/// The right edge of a tree of any size.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    size: u64,
    /// The largest complete subtrees, left to right, with their heights.
    edge: Vec<(u8, Hash)>,
    /// At each level of tiles, the hashes of the tile that is not full yet.
    open: Vec<Vec<Hash>>,
}

/// A tile: `hashes` at `level`, the `index`-th from the left.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tile {
    pub(super) level: u8,
    pub(super) index: u64,
    pub(super) hashes: Vec<Hash>,
}

impl Tree {
    /// How many leaves it has.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; answers with the tiles that this filled, the lowest first.
    pub(super) fn push(&mut self, leaf: Hash) -> Vec<Tile> {
        let (mut height, mut hash) = (0_u8, leaf);
        self.note(height, hash);
        while let Some((_, left)) = self.edge.pop_if(|(h, _)| *h == height) {
            hash = node_hash(left, hash);
            height += 1;
            if height.is_multiple_of(HEIGHT) {
                self.note(height, hash);
            }
        }
        self.edge.push((height, hash));
        self.size += 1;
        self.take_full()
    }

    fn note(&mut self, height: u8, hash: Hash) {
        let level = usize::from(height / HEIGHT);
        if self.open.len() <= level {
            self.open.resize(level + 1, Vec::new());
        }
        if let Some(open) = self.open.get_mut(level) {
            open.push(hash);
        }
    }

    fn take_full(&mut self) -> Vec<Tile> {
        let size = self.size;
        let mut full = Vec::new();
        for (level, hashes) in (0_u8..).zip(&mut self.open) {
            if hashes.len() == WIDTH {
                full.push(Tile {
                    level,
                    index: (size >> (HEIGHT * (level + 1))) - 1,
                    hashes: std::mem::take(hashes),
                });
            }
        }
        full
    }

    /// The tiles at its right edge, which are not full.
    pub(super) fn partial(&self) -> impl Iterator<Item = Tile> {
        let size = self.size;
        let open = (0_u8..).zip(&self.open);
        open.filter(|(_, hashes)| !hashes.is_empty())
            .map(move |(level, hashes)| Tile {
                level,
                index: size >> (HEIGHT * (level + 1)),
                hashes: hashes.clone(),
            })
    }

    /// Its head.
    pub(super) fn root(&self) -> Hash {
        root_of(self.edge.iter().map(|(_, hash)| *hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::Digest;

    /// As RFC 6962, 2.1 has it, word for word.
    fn reference(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Hash(Sha256::digest([]).into()),
            1 => leaves[0],
            n => {
                let k = 1 << (n - 1).ilog2();
                node_hash(reference(&leaves[..k]), reference(&leaves[k..]))
            }
        }
    }

    /// The tree that implementations of Certificate Transparency are tested with.
    #[test]
    fn heads_are_those_that_others_have() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let heads = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::default();
        for (leaf, head) in leaves.into_iter().zip(heads) {
            tree.push(leaf_hash(leaf));
            assert_eq!(Digest::from_bytes(tree.root().0).to_string(), head);
        }
    }

    #[test]
    fn heads_and_tiles_of_large_trees_are_those_of_the_definition() {
        let mut tree = Tree::default();
        let (mut leaves, mut full) = (Vec::new(), Vec::new());
        assert_eq!(tree.root(), reference(&[]));
        for n in 0..66_100_u64 {
            let leaf = leaf_hash(&n.to_be_bytes());
            leaves.push(leaf);
            full.extend(tree.push(leaf));
            if n < 600 || n % 9973 == 0 || n >= 66_098 {
                assert_eq!(tree.root(), reference(&leaves), "{n}");
            }
        }
        let ones: Vec<Hash> = leaves.chunks(256).map(reference).collect();
        for tile in &full {
            let at = tile.index as usize * 256;
            let below = if tile.level == 0 { &leaves } else { &ones };
            assert_eq!(tile.hashes, below[at..at + 256]);
        }
        assert_eq!(full.len(), 66_100 / 256 + 1);
        let partial: Vec<_> = tree
            .partial()
            .map(|tile| (tile.level, tile.index, tile.hashes.len()))
            .collect();
        assert_eq!(partial, [(0, 258, 52), (1, 1, 2), (2, 0, 1)]);
        for size in [0, 1, 2, 255, 256, 257, 66_100] {
            let edge = edge_of(size as u64).map(|(height, index)| {
                let from = (index as usize) << height;
                subtree_hash(&leaves[from..from + (1 << height)])
            });
            let edge: Vec<_> = edge.collect();
            assert_eq!(root_of(edge.into_iter()), reference(&leaves[..size]));
        }
    }
}
