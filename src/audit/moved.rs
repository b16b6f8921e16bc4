//! Where the chain goes on when the file that it ended in was moved away before the daemon came back.
//!
//! `audit.chain` alone does not say it after a power cut: neither that file nor the log is synced with each line, so that either
//! may be the one that lost its end.

use std::fs::File;
use std::path::Path;

use super::file::{End, end_of};

/// Files beside the log that are looked at; a rotation keeps some dozens.
const MOST: usize = 1000;

/// How the file ends that was moved away last: of those beside `log` whose name begins with its name, the one that is furthest
/// on. What is packed is not looked into.
pub(super) fn moved_away(log: &Path) -> Option<End> {
    let name = log.file_name()?.to_str()?;
    let beside = log.parent()?.read_dir().ok()?;
    let ends = beside.take(MOST).filter_map(|entry| {
        let entry = entry.ok()?;
        let other = entry.file_name();
        let rest = other.to_str()?.strip_prefix(name)?;
        let is_file = entry.file_type().is_ok_and(|it| it.is_file());
        if !is_file || !rest.starts_with(['.', '-']) {
            return None;
        }
        end_of(&File::open(entry.path()).ok()?).ok()
    });
    let known = ends.filter_map(|end| Some((end.link?.seq, end)));
    let (_, mut last) = known.max_by_key(|(seq, _)| *seq)?;
    // The next line is in another file.
    last.open = false;
    Some(last)
}
