//! A disk that breaks.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// After so many steps everything fails; a write that is cut off leaves half of its bytes.
#[derive(Debug)]
pub(in crate::log) struct Fuse {
    left: AtomicI64,
    syncs: AtomicU64,
}

impl Fuse {
    pub(in crate::log) fn new(steps: i64) -> Self {
        Self {
            left: AtomicI64::new(steps),
            syncs: AtomicU64::new(0),
        }
    }

    pub(in crate::log) fn set(&self, steps: i64) {
        self.left.store(steps, Ordering::SeqCst);
    }

    pub(in crate::log) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    pub(in crate::log) fn blown(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    pub(in crate::log) fn count_sync(&self) {
        self.syncs.fetch_add(1, Ordering::SeqCst);
    }

    pub(in crate::log) fn step(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(io::Error::other("the power is cut")),
        }
    }

    pub(in crate::log) fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => file.write_all(bytes),
            0 => {
                file.write_all(&bytes[..bytes.len() / 2])?;
                Err(io::Error::other("the power is cut in mid-write"))
            }
            _ => Err(io::Error::other("the power is cut")),
        }
    }
}
