//! How full a file system is.

use std::io;
use std::path::Path;

/// Less than this is free: a session may not be able to begin.
const TIGHT_BYTES: u64 = 1 << 20;
const TIGHT_INODES: u64 = 32;

/// What is there and what of it is free, for whoever is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All bytes.
    pub bytes: u64,
    /// Of these, free.
    pub bytes_free: u64,
    /// None where the file system does not count them.
    pub inodes: Option<Inodes>,
}

/// Files and directories that there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inodes {
    /// All of them.
    pub all: u64,
    /// Of these, free.
    pub free: u64,
}

impl Space {
    /// Of the file system that `path` is on. Blocks.
    pub fn at(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Ok(Self {
            // As df(1) counts: what is kept for root is neither used nor free.
            bytes: bytes(used.saturating_add(stat.f_bavail)),
            bytes_free: bytes(stat.f_bavail),
            inodes: (stat.f_files > 0).then_some(Inodes {
                all: stat.f_files,
                free: stat.f_favail,
            }),
        })
    }

    /// How much of the bytes is used, in percent.
    pub fn bytes_used(&self) -> u8 {
        percent(self.bytes, self.bytes_free)
    }

    /// How much of the inodes is used, in percent; none where they are not counted.
    pub fn inodes_used(&self) -> u8 {
        self.inodes
            .map_or(0, |inodes| percent(inodes.all, inodes.free))
    }

    /// Whether so many bytes more, in a few files, leave enough for a session to begin.
    pub(super) fn can_take(&self, bytes: u64) -> bool {
        let left = Self {
            bytes_free: self.bytes_free.saturating_sub(bytes),
            ..*self
        };
        !left.is_tight()
    }

    pub(super) fn is_tight(&self) -> bool {
        self.bytes_free < TIGHT_BYTES
            || self.inodes.is_some_and(|inodes| inodes.free < TIGHT_INODES)
    }
}

/// Rounded up: nothing that is nearly full is called less.
fn percent(all: u64, free: u64) -> u8 {
    let used = u128::from(all.saturating_sub(free));
    let percent = (used * 100).div_ceil(u128::from(all.max(1)));
    u8::try_from(percent).unwrap_or(100).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up() {
        let space = |bytes, bytes_free| Space {
            bytes,
            bytes_free,
            inodes: Some(Inodes {
                all: bytes,
                free: bytes_free,
            }),
        };
        for (free, percent) in [
            (1000, 0),
            (999, 1),
            (201, 80),
            (200, 80),
            (199, 81),
            (0, 100),
        ] {
            let space = space(1000, free);
            let used = (space.bytes_used(), space.inodes_used());
            assert_eq!(used, (percent, percent), "{free}");
        }
        assert_eq!(
            (space(0, 0).bytes_used(), space(0, 0).inodes_used()),
            (0, 0)
        );
    }
}
