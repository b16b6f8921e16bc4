//! Where things lie: [tlog-tiles](https://c2sp.org/tlog-tiles) as files, and the tail that has not become tiles yet.
//!
//! ```text
//! checkpoint              a signed head, and below it all of its tree
//! tile/entries/000        256 leaves, each with its length in two bytes
//! tile/0/000              their hashes; tile/1/..., hashes of these tiles
//! tile/0/001.p/17         the tile at the right edge, for the checkpoint's size
//! tail                    the leaves since the last full bundle, and signed heads: what is appended to
//! ```

use std::path::{Path, PathBuf};

use super::tree::{Hash, Tile, WIDTH};

pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const TAIL: &str = "tail";
pub(super) const TILES: &str = "tile";
const ENTRIES: &str = "entries";

/// `tile/L/N`, or `tile/L/N.p/W` of one that is not full.
pub(super) fn tile_path(directory: &Path, tile: &Tile) -> PathBuf {
    let level = tile.level.to_string();
    numbered(
        &directory.join(TILES).join(level),
        tile.index,
        tile.hashes.len(),
    )
}

/// `tile/entries/N`, or `tile/entries/N.p/W`.
pub(super) fn entries_path(directory: &Path, index: u64, width: usize) -> PathBuf {
    numbered(&directory.join(TILES).join(ENTRIES), index, width)
}

fn numbered(below: &Path, index: u64, width: usize) -> PathBuf {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width < WIDTH {
        path = format!("{path}.p/{width}");
    }
    below.join(path)
}

/// A tile's content.
pub(super) fn tile_bytes(tile: &Tile) -> Vec<u8> {
    tile.hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes in a tile's content.
pub(super) fn tile_hashes(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, _) = bytes.as_chunks::<32>();
    hashes.iter().copied().map(Hash).collect()
}

/// A bundle's content.
pub(super) fn bundle<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for leaf in leaves {
        // No leaf is longer: LONGEST_LEAF.
        let length = u16::try_from(leaf.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(leaf);
    }
    bytes
}

/// The leaves of a bundle. `None`: it is not `width` whole leaves and nothing else.
pub(super) fn unbundle(mut bytes: &[u8], width: usize) -> Option<Vec<&[u8]>> {
    let mut leaves = Vec::with_capacity(width);
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (leaf, rest) = rest.split_at_checked(length)?;
        leaves.push(leaf);
        bytes = rest;
    }
    (bytes.is_empty() && leaves.len() == width).then_some(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |index, width| {
            let path = entries_path(Path::new(""), index, width);
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(path(0, 256), "tile/entries/000");
        assert_eq!(path(1_234_067, 256), "tile/entries/x001/x234/067");
        assert_eq!(path(5, 17), "tile/entries/005.p/17");
        let tile = Tile {
            level: 1,
            index: 1000,
            hashes: vec![Hash([0; 32]); 3],
        };
        let path = tile_path(Path::new(""), &tile);
        assert_eq!(path.to_str().unwrap(), "tile/1/x001/000.p/3");
    }

    #[test]
    fn a_bundle_is_whole_leaves_and_nothing_else() {
        let bytes = bundle([&b"one"[..], b"", b"three"]);
        assert_eq!(unbundle(&bytes, 3).unwrap(), [&b"one"[..], b"", b"three"]);
        assert_eq!(unbundle(&bytes, 2), None);
        for cut in 0..bytes.len() {
            assert_eq!(unbundle(&bytes[..cut], 3), None, "{cut}");
        }
    }
}
