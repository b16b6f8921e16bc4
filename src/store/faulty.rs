//! A store that fails where a test wants it to. It holds recordings in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Lines, RecordingSink, RecordingStore, Span, StoreError, Stored};
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
#[derive(Debug, Default)]
pub struct FaultyStore {
    fault: Fault,
    held: Arc<Mutex<BTreeMap<SessionId, Held>>>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    cast: Vec<u8>,
    requests: Vec<u8>,
    appends: usize,
    manifest: Option<Bytes>,
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
        lock(&self.held)
            .entry(id)
            .or_default()
            .requests
            .extend_from_slice(bytes);
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
        header: Bytes,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        if self.fault == Fault::Create {
            return Err(full());
        }
        let held = Held {
            cast: header.to_vec(),
            ..Held::default()
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

    async fn open(&self, id: SessionId) -> Result<Stored, StoreError> {
        let held = lock(&self.held)
            .get(&id)
            .cloned()
            .ok_or(StoreError::NotFound(id))?;
        Ok(Stored {
            manifest: held.manifest,
            cast_bytes: held.cast.len() as u64,
            cast: Box::new(std::io::Cursor::new(held.cast)),
            requests: (!held.requests.is_empty())
                .then(|| Box::new(std::io::Cursor::new(held.requests)) as _),
        })
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

#[derive(Debug)]
struct FaultySink {
    fault: Fault,
    id: SessionId,
    held: Arc<Mutex<BTreeMap<SessionId, Held>>>,
}

#[async_trait]
impl RecordingSink for FaultySink {
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError> {
        let number = {
            let mut held = lock(&self.held);
            let held = held.entry(self.id).or_default();
            held.appends = held.appends.saturating_add(1);
            held.appends.saturating_sub(1)
        };
        match self.fault {
            Fault::NoSpaceAt(fatal) if number >= fatal => return Err(full()),
            Fault::HangAt(fatal) if number == fatal => std::future::pending().await,
            _ => {}
        }
        let mut held = lock(&self.held);
        let held = held.entry(self.id).or_default();
        held.requests.extend_from_slice(&lines.requests);
        match self.fault {
            Fault::NoSpaceBetweenAt(fatal) if number >= fatal && !lines.requests.is_empty() => {
                return Err(full());
            }
            _ => {}
        }
        held.cast.extend_from_slice(&lines.cast);
        Ok(())
    }

    async fn seal(self: Arc<Self>, manifest: Bytes) -> Result<(), StoreError> {
        if self.fault == Fault::Seal {
            return Err(full());
        }
        lock(&self.held).entry(self.id).or_default().manifest = Some(manifest);
        Ok(())
    }
}
