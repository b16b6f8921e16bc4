//! The files that make up a configuration: found, bounded, read.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// One file; ten thousand identities take some 3 MiB.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// All files together.
const MAX_TOTAL: u64 = 64 * 1024 * 1024;
/// Files in a directory, those in directories below it included.
const MAX_FILES: usize = 20_000;
/// Directories below each other; also what ends a circle of links.
const MAX_DEPTH: usize = 16;

/// Why a file or directory could not be read, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is neither a file nor a directory")]
    Kind,
    #[error("is not UTF-8 text")]
    Encoding,
    #[error("is larger than {} MiB; split it", MAX_FILE >> 20)]
    FileSize,
    #[error("the configuration is larger than {} MiB in all", MAX_TOTAL >> 20)]
    TotalSize,
    #[error("more than {MAX_FILES} files; put several documents into one")]
    Files,
    #[error("directories lie deeper than {MAX_DEPTH}; is there a link to a directory above it?")]
    Depth,
}

/// The documents' files at `root`: itself, or what lies below it, in path order. `..data` and all else that
/// begins with a dot is passed over; links are followed, for that is how Kubernetes mounts a ConfigMap.
pub(super) fn list(root: &Path) -> Result<Vec<PathBuf>, (PathBuf, Unreadable)> {
    let meta = fs::metadata(root).map_err(|error| (root.to_owned(), error.into()))?;
    if meta.is_file() {
        return Ok(vec![root.to_owned()]);
    }
    if !meta.is_dir() {
        return Err((root.to_owned(), Unreadable::Kind));
    }
    let mut found = Vec::new();
    descend(root, 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn descend(
    directory: &Path,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, Unreadable)> {
    let at = |error: Unreadable| (directory.to_owned(), error);
    if depth > MAX_DEPTH {
        return Err(at(Unreadable::Depth));
    }
    for entry in fs::read_dir(directory).map_err(|error| at(error.into()))? {
        let entry = entry.map_err(|error| at(error.into()))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // Not `entry.file_type()`, which would not follow a link.
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            // A dangling link that is no document is nobody's business here.
            Err(_) if !is_document(&path) => continue,
            Err(error) => return Err((path, error.into())),
        };
        if meta.is_dir() {
            descend(&path, depth + 1, found)?;
        } else if is_document(&path) {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(at(Unreadable::Files));
        }
    }
    Ok(())
}

fn is_document(path: &Path) -> bool {
    matches!(
        path.extension().and_then(OsStr::to_str),
        Some("yaml" | "yml")
    )
}

/// A path made absolute without resolving links: what a link points at may be swapped under us.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Reads files, and remembers which and what: for the digest, and for noticing that they change.
pub(super) struct Reader {
    root: PathBuf,
    digest: Sha256,
    total: u64,
    read: Vec<PathBuf>,
}

impl Reader {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: absolute(root),
            digest: Sha256::new(),
            total: 0,
            read: Vec::new(),
        }
    }

    /// Reads one file of text whole.
    pub(super) fn read(&mut self, path: &Path) -> Result<Arc<str>, Unreadable> {
        let bytes = self.whole(path)?;
        let text = String::from_utf8(bytes).map_err(|_| Unreadable::Encoding)?;
        self.note(path, text.as_bytes())?;
        Ok(Arc::from(text))
    }

    /// Reads one file whole, whatever is in it.
    pub(super) fn read_bytes(&mut self, path: &Path) -> Result<Vec<u8>, Unreadable> {
        let bytes = self.whole(path)?;
        self.note(path, &bytes)?;
        Ok(bytes)
    }

    /// Remembered even if that fails, since it may be there a second later.
    fn whole(&mut self, path: &Path) -> Result<Vec<u8>, Unreadable> {
        self.read.push(path.to_owned());
        // Before it is opened, because opening a pipe waits for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(Unreadable::Kind);
        }
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > MAX_FILE {
            return Err(Unreadable::FileSize);
        }
        Ok(bytes)
    }

    /// Takes a file's content into the digest. Framed by lengths, so that no two sets of files look alike.
    pub(super) fn note(&mut self, path: &Path, content: &[u8]) -> Result<(), Unreadable> {
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(size);
        if self.total > MAX_TOTAL {
            return Err(Unreadable::TotalSize);
        }
        // Relative, so that the same documents elsewhere are the same configuration.
        let path = absolute(path);
        let shown = path.strip_prefix(&self.root).unwrap_or(&path);
        for part in [shown.as_os_str().as_encoded_bytes(), content] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            self.digest.update(length.to_be_bytes());
            self.digest.update(part);
        }
        Ok(())
    }

    /// The digest in hex, and the files that were asked for.
    pub(super) fn finish(self) -> (String, Vec<PathBuf>) {
        let digest = self.digest.finalize();
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (hex, self.read)
    }
}
