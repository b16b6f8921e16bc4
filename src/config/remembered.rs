//! The documents of files that did not change: to read them again would take most of a reload, and give the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::raw::Document;

/// Text whose documents are kept, in bytes: five times that of ten thousand people. What is beyond it is read each time.
const MOST: usize = 16 << 20;

/// What is kept from one load to the next, by file and content.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    files: HashMap<PathBuf, Known>,
    size: usize,
}

#[derive(Debug)]
struct Known {
    content: Content,
    documents: Vec<Arc<Document>>,
}

/// What a file holds, as far as it takes to tell it from what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content([u8; 32]);

impl Content {
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl Remembered {
    /// A file's documents, if it holds what it held.
    pub(super) fn documents(&self, file: &Path, content: Content) -> Option<&[Arc<Document>]> {
        let known = self.files.get(file)?;
        (known.content == content).then_some(&known.documents)
    }

    /// Keeps a file's documents, if nothing was wrong with them and there is room.
    pub(super) fn keep(
        &mut self,
        file: &Path,
        content: Content,
        size: usize,
        documents: &[Arc<Document>],
    ) {
        if self.size.saturating_add(size) > MOST {
            return;
        }
        self.size += size;
        let documents = documents.to_vec();
        let known = Known { content, documents };
        self.files.insert(file.to_owned(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut remembered = Remembered::default();
        let content = Content::of("a");
        let kept = |remembered: &Remembered, file: &str| {
            remembered.documents(Path::new(file), content).is_some()
        };
        remembered.keep(Path::new("a"), content, MOST - 1, &[]);
        remembered.keep(Path::new("b"), content, 2, &[]);
        remembered.keep(Path::new("c"), content, 1, &[]);
        assert_eq!(
            ["a", "b", "c"].map(|file| kept(&remembered, file)),
            [true, false, true]
        );
        assert!(
            remembered
                .documents(Path::new("a"), Content::of("b"))
                .is_none()
        );
    }
}
