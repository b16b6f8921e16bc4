//! A store that fails where a test wants it to. It holds recordings in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Beginning, Lines, Part, RecordingSink, RecordingStore, Span, StoreError, StoredFile,
    StoredFiles,
};
use crate::session::SessionId;

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Recordings cannot be opened.
    Create,
    /// The append with this number (the first is 0) and all that follow find the disk full.
    NoSpaceAt(usize),
    /// The append with this number (the first is 0) finds the disk full after the request index and before the
    /// cast, as do all that follow. Not an append that the index has no part in.
    NoSpaceBetweenAt(usize),
    /// The append with this number never returns.
    HangAt(usize),
    /// Recordings cannot be sealed.
    Seal,
}

/// A store in memory that fails on purpose. The second implementation of the seam, for tests of this crate and
/// of those who build on it.
#[derive(Clone, Debug, Default)]
pub struct FaultyStore {
    fault: Fault,
    held: Arc<Mutex<BTreeMap<SessionId, Held>>>,
}

#[derive(Clone, Debug)]
struct Held {
    beginning: Beginning,
    cast: Vec<u8>,
    requests: Vec<u8>,
    checkpoints: Vec<u8>,
    appends: usize,
    manifest: Option<Bytes>,
}

impl Held {
    fn part(&self, part: Part) -> Option<Vec<u8>> {
        let cast = match self.beginning.spool_key {
            Some(_) => Part::CastSpool,
            None => Part::Cast,
        };
        match part {
            _ if part == cast => Some(self.cast.clone()),
            _ if part == self.beginning.requests => {
                (!self.requests.is_empty()).then(|| self.requests.clone())
            }
            Part::SpoolKey => self.beginning.spool_key.as_ref().map(|key| key.to_vec()),
            Part::Checkpoints => Some(self.checkpoints.clone()),
            Part::Manifest => self.manifest.as_ref().map(|manifest| manifest.to_vec()),
            _ => None,
        }
    }
}

impl FaultyStore {
    /// A store with a fault.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            held: Arc::default(),
        }
    }

    /// The cast of a recording as far as it was written.
    pub fn cast(&self, id: SessionId) -> Option<Vec<u8>> {
        lock(&self.held).get(&id).map(|held| held.cast.clone())
    }

    /// The request index of a recording as far as it was written.
    pub fn requests(&self, id: SessionId) -> Option<Vec<u8>> {
        lock(&self.held).get(&id).map(|held| held.requests.clone())
    }

    /// Adds what nobody wrote to a request index.
    pub fn damage_requests(&self, id: SessionId, bytes: &[u8]) {
        if let Some(held) = lock(&self.held).get_mut(&id) {
            held.requests.extend_from_slice(bytes);
        }
    }

    /// The checkpoints of a recording as far as they were written.
    pub fn checkpoints(&self, id: SessionId) -> Option<Vec<u8>> {
        lock(&self.held)
            .get(&id)
            .map(|held| held.checkpoints.clone())
    }

    /// How many appends there were to a recording.
    pub fn appends(&self, id: SessionId) -> usize {
        lock(&self.held).get(&id).map_or(0, |held| held.appends)
    }

    /// The manifest of a recording, if it was sealed.
    pub fn manifest(&self, id: SessionId) -> Option<Bytes> {
        lock(&self.held)
            .get(&id)
            .and_then(|held| held.manifest.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn full() -> StoreError {
    StoreError::NoSpace {
        doing: "a test".to_owned(),
    }
}

#[async_trait]
impl RecordingStore for FaultyStore {
    async fn create(
        &self,
        id: SessionId,
        beginning: Beginning,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        if self.fault == Fault::Create {
            return Err(full());
        }
        let held = Held {
            cast: beginning.cast.to_vec(),
            requests: Vec::new(),
            checkpoints: beginning.note.to_vec(),
            beginning,
            appends: 0,
            manifest: None,
        };
        if lock(&self.held).insert(id, held).is_some() {
            return Err(StoreError::Exists(id));
        }
        Ok(Arc::new(FaultySink {
            fault: self.fault,
            id,
            held: Arc::clone(&self.held),
        }))
    }

    async fn open(&self, id: SessionId) -> Result<Box<dyn StoredFiles>, StoreError> {
        let held = lock(&self.held)
            .get(&id)
            .cloned()
            .ok_or(StoreError::NotFound(id))?;
        Ok(Box::new(held))
    }

    async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError> {
        let held = lock(&self.held);
        Ok(held
            .keys()
            .rev()
            .copied()
            .filter(|id| span.contains(id.opened()))
            .collect())
    }
}

#[async_trait]
impl StoredFiles for Held {
    async fn read(&self, part: Part) -> Result<Option<StoredFile>, StoreError> {
        Ok(self.part(part).map(|bytes| StoredFile {
            bytes: bytes.len() as u64,
            reader: Box::new(std::io::Cursor::new(bytes)),
        }))
    }
}

#[derive(Debug)]
struct FaultySink {
    fault: Fault,
    id: SessionId,
    held: Arc<Mutex<BTreeMap<SessionId, Held>>>,
}

#[async_trait]
impl RecordingSink for FaultySink {
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError> {
        let number = self.with(|held| {
            held.appends = held.appends.saturating_add(1);
            held.appends.saturating_sub(1)
        })?;
        match self.fault {
            Fault::NoSpaceAt(fatal) if number >= fatal => return Err(full()),
            Fault::HangAt(fatal) if number == fatal => std::future::pending().await,
            _ => {}
        }
        self.with(|held| {
            held.requests.extend_from_slice(&lines.requests);
            match self.fault {
                Fault::NoSpaceBetweenAt(fatal) if number >= fatal && !lines.requests.is_empty() => {
                    return Err(full());
                }
                _ => {}
            }
            held.cast.extend_from_slice(&lines.cast);
            Ok(())
        })?
    }

    async fn checkpoint(self: Arc<Self>, note: Bytes) -> Result<(), StoreError> {
        self.with(|held| held.checkpoints.extend_from_slice(&note))
    }

    async fn seal(self: Arc<Self>, note: Bytes, manifest: Bytes) -> Result<(), StoreError> {
        if self.fault == Fault::Seal {
            return Err(full());
        }
        self.with(|held| {
            held.checkpoints.extend_from_slice(&note);
            held.manifest = Some(manifest);
        })
    }
}

impl FaultySink {
    fn with<T>(&self, work: impl FnOnce(&mut Held) -> T) -> Result<T, StoreError> {
        let mut held = lock(&self.held);
        held.get_mut(&self.id)
            .map(work)
            .ok_or(StoreError::NotFound(self.id))
    }
}
