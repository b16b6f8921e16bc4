//! Logs, good and bad.

pub(super) mod fuse;
