//! What is known of a recording's way to the bucket, on disk: `stateDir/shipping/ULID.json`.
//!
//! A page that is lost costs a second look at the bucket, and nothing else: what is there already is recognised. So a
//! page is written before what it speaks of can be lost without it, and each time whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::session::SessionId;
use crate::store::papers::Papers;
use crate::store::{Part, StoreError};

/// Of the page's format.
const VERSION: u32 = 1;

/// All pages.
#[derive(Clone, Debug)]
pub(super) struct Book(Papers);

/// How far one recording is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Page {
    version: u32,
    /// When all of it was in the bucket and had been checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) acknowledged: Option<Timestamp>,
    /// Its files by name.
    pub(super) files: BTreeMap<String, FileState>,
}

/// How far one file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FileState {
    pub(super) bytes: u64,
    /// Hex.
    pub(super) sha256: String,
    /// The bucket has it, and it was checked.
    #[serde(default)]
    pub(super) there: bool,
    /// An upload in parts that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<Upload>,
}

/// An upload in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Upload {
    /// The server's name for it.
    pub(super) id: String,
    /// Size of each part but the last.
    pub(super) part_bytes: u64,
    /// What the server answered to each, in order.
    pub(super) parts: Vec<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            version: VERSION,
            acknowledged: None,
            files: BTreeMap::new(),
        }
    }
}

impl Page {
    /// Whether it says that the bucket has all of the recording: the manifest is the last that goes.
    pub(super) fn is_of_all(&self) -> bool {
        let manifest = self.files.get(Part::Manifest.name());
        self.acknowledged.is_some()
            && manifest.is_some()
            && self.files.values().all(|file| file.there)
    }
}

impl Book {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(Papers::new(state_dir.join("shipping")))
    }

    /// The page of a recording; an empty one if there is none, or none that can be read.
    pub(super) fn read(&self, id: SessionId) -> Result<Page, StoreError> {
        let page = self.0.read::<Page>(id)?;
        Ok(page
            .filter(|page| page.version == VERSION)
            .unwrap_or_default())
    }

    /// When this returns, the page survives a power cut.
    pub(super) fn write(&self, id: SessionId, page: &Page) -> Result<(), StoreError> {
        self.0.write(id, page)
    }

    pub(super) fn remove(&self, id: SessionId) -> Result<(), StoreError> {
        self.0.remove(id)
    }

    /// The recordings that have a page.
    pub(super) fn ids(&self) -> Result<BTreeSet<SessionId>, StoreError> {
        self.0.ids()
    }
}
