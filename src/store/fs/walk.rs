//! Finds recordings by their place, and places by their day.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::layout::Layout;
use crate::session::SessionId;
use crate::store::{Span, StoreError};

/// The recordings begun within `span`, newest first. Other names in the tree are passed over.
pub(super) fn list(layout: &Layout, span: Span) -> Result<Vec<SessionId>, StoreError> {
    let since = span.since.map(|since| date_path(since, layout.root()));
    let until = span.until.map(|until| date_path(until, layout.root()));
    let mut found = Vec::new();
    for day in days(layout.root())? {
        if since.as_ref().is_some_and(|since| day < *since) {
            continue;
        }
        if until.as_ref().is_some_and(|until| day > *until) {
            break;
        }
        for name in names(&day)? {
            if let Ok(id) = SessionId::parse(&name)
                && span.contains(id.opened())
                // Readers go by the id; a directory moved elsewhere would be listed and not found.
                && layout.directory(id) == day.join(&name)
            {
                found.push(id);
            }
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// The directories of all days, oldest first.
pub(super) fn days(root: &Path) -> Result<BTreeSet<PathBuf>, StoreError> {
    let mut level = BTreeSet::from([root.to_owned()]);
    for digits in [4, 2, 2] {
        let mut below = BTreeSet::new();
        for directory in level {
            for name in names(&directory)? {
                if name.len() == digits && name.bytes().all(|b| b.is_ascii_digit()) {
                    below.insert(directory.join(name));
                }
            }
        }
        level = below;
    }
    Ok(level)
}

/// The names in a directory, unordered; none if there is no such directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::io(format!("listing {}", directory.display()), error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

fn date_path(moment: Timestamp, root: &Path) -> PathBuf {
    let date = moment.to_zoned(TimeZone::UTC).date();
    root.join(format!("{:04}", date.year()))
        .join(format!("{:02}", date.month()))
        .join(format!("{:02}", date.day()))
}
