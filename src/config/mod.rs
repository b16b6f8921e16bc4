//! Documents shaped like Kubernetes objects, parsed into a [`Config`] that cannot be wrong.
//!
//! `source` finds and reads files, `yaml` makes trees of them (`reading` by several threads), `raw` checks each document's shape, `resolve`
//! what they mean together. All of them report into one list, so that an administrator reads everything
//! that is wrong at once.

mod admission;
mod authority;
mod authorized_keys;
mod cluster;
mod expectations;
mod fields;
mod impersonation;
mod index;
mod issuer;
mod key_options;
mod model;
mod network;
mod problem;
mod provider;
mod raw;
mod reading;
mod recordings;
mod remembered;
mod resolve;
mod scalar;
pub mod secrets;
mod source;
mod state_dir;
pub mod watch;
mod writers;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use admission::*;
pub use authority::*;
pub use cluster::*;
pub use expectations::{Can, Expectation, Expected, KubernetesRequest, Takes, Who, expectations};
pub use impersonation::{Impersonation, is_kubernetes_own, named};
pub use issuer::*;
pub use model::*;
pub use network::*;
pub use problem::{Place, Problem, Problems};
pub use provider::*;
pub use recordings::*;
pub use scalar::{age, duration, show_age, show_duration, show_size};
pub use state_dir::{StateDirError, check_state_dir, state_dir};
pub use writers::{Exposed, check_writers};

use problem::Gathered;
use remembered::Remembered;
use source::Reader;

/// Loads a file, or every `*.yaml` and `*.yml` below a directory. Looks at no secret: host keys and
/// kubeconfigs are only named here.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_noting_files(path, &mut Remembered::default()).0
}

/// Loads the same documents again and again, as they change: each time what [`load`] gives, in less time.
#[derive(Debug, Default)]
pub struct Loader(Remembered);

impl Loader {
    /// As [`load`].
    ///
    /// # Errors
    ///
    /// As [`load`].
    pub fn load(&mut self, path: &Path) -> Result<Config, Problems> {
        self.load_noting_files(path).0
    }

    /// As [`load`], with every file that was asked for, whether it was there or not.
    fn load_noting_files(&mut self, root: &Path) -> (Result<Config, Problems>, Vec<PathBuf>) {
        load_noting_files(root, &mut self.0)
    }
}

/// Loads one file's worth of documents from memory; their paths are relative to `path`'s directory.
pub fn parse(path: &Path, text: &str) -> Result<Config, Problems> {
    let mut loading = Loading::new(path, path.parent().unwrap_or(Path::new("")));
    loading.take(path, text);
    loading.finish(&mut Remembered::default()).0
}

/// Whether this line of authorized_keys would be accepted; if not, why, and what to do.
pub fn check_public_key(line: &str) -> Result<(), String> {
    match authorized_keys::line(line) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("there is no public key here".to_owned()),
        Err(wrong) => Err(wrong.message),
    }
}

fn load_noting_files(
    root: &Path,
    remembered: &mut Remembered,
) -> (Result<Config, Problems>, Vec<PathBuf>) {
    let files = match source::list(root) {
        Ok(files) => files,
        Err((path, error)) => return (Err(Problems::one(&path, error.to_string())), Vec::new()),
    };
    if files.is_empty() {
        let message = "there is no *.yaml or *.yml file here";
        return (Err(Problems::one(root, message)), Vec::new());
    }
    let is_file = matches!(files.as_slice(), [only] if only == root);
    let base = if is_file {
        root.parent().unwrap_or(Path::new(""))
    } else {
        root
    };
    let mut loading = Loading::new(root, base);
    for file in &files {
        loading.read(file);
    }
    loading.finish(remembered)
}

/// A configuration while its files are read.
struct Loading<'r> {
    root: &'r Path,
    gathered: Gathered,
    reader: Reader,
    texts: Vec<(PathBuf, Arc<str>)>,
    incomplete: bool,
}

impl<'r> Loading<'r> {
    fn new(root: &'r Path, base: &Path) -> Self {
        Self {
            root,
            gathered: Gathered::default(),
            reader: Reader::new(base),
            texts: Vec::new(),
            incomplete: false,
        }
    }

    fn read(&mut self, file: &Path) {
        match self.reader.read(file) {
            Ok(text) => self.texts.push((file.to_owned(), text)),
            Err(error) => self.unreadable(file, &error),
        }
    }

    fn take(&mut self, file: &Path, text: &str) {
        match self.reader.note(file, text.as_bytes()) {
            Ok(()) => self.texts.push((file.to_owned(), Arc::from(text))),
            Err(error) => self.unreadable(file, &error),
        }
    }

    fn unreadable(&mut self, file: &Path, error: &source::Unreadable) {
        self.incomplete = true;
        self.gathered.report(&Place::file(file), error.to_string());
    }

    fn finish(mut self, remembered: &mut Remembered) -> (Result<Config, Problems>, Vec<PathBuf>) {
        let found = reading::documents(&self.texts, remembered);
        for problem in found.problems {
            self.gathered.push(problem);
        }
        let config = resolve::config(
            &self.gathered,
            self.root,
            found.documents,
            self.incomplete || found.incomplete,
            &mut self.reader,
        );
        let (digest, files) = self.reader.finish();
        let result = match (self.gathered.into_problems(), config) {
            (None, Some(config)) => Ok(Config { digest, ..config }),
            (Some(problems), _) => Err(problems),
            // A configuration is only ever missing for a reason that was reported; never let that be a yes.
            (None, None) => Err(Problems::one(self.root, "this is no configuration")),
        };
        (result, files)
    }
}

#[cfg(test)]
pub(crate) mod test_keys;
#[cfg(test)]
mod tests;
