//! Keys for tests.

use std::path::Path;
use std::sync::Arc;

use super::{FileSigner, KeyName, Signing, create_key};
use crate::config::Name;

pub(crate) fn name() -> KeyName {
    KeyName::of(&Name::new("main").unwrap())
}

/// A new key in `directory`.
pub(crate) fn signer(directory: &Path, file: &str) -> FileSigner {
    let path = directory.join(file);
    create_key(&path, &name()).unwrap();
    FileSigner::open(&path).unwrap()
}

pub(crate) fn signing() -> Signing {
    let dir = tempfile::tempdir().unwrap();
    Signing::new(Arc::new(signer(dir.path(), "key"))).unwrap()
}
