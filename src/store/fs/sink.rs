//! The writing end of a recording in a directory.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::layout::put_manifest;
use super::slowly;
use super::writer::{Target, Writer};
use crate::store::{Lines, RecordingSink, StoreError};

#[derive(Debug)]
pub(super) struct FsSink {
    directory: PathBuf,
    target: Arc<Target>,
    writer: Arc<Writer>,
    slow: Arc<Semaphore>,
}

impl FsSink {
    pub(super) fn new(
        directory: PathBuf,
        file: File,
        length: u64,
        writer: Arc<Writer>,
        slow: Arc<Semaphore>,
    ) -> Self {
        Self {
            target: Arc::new(Target::new(directory.clone(), file, length)),
            directory,
            writer,
            slow,
        }
    }
}

#[async_trait]
impl RecordingSink for FsSink {
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError> {
        self.writer.append(Arc::clone(&self.target), lines).await
    }

    async fn seal(self: Arc<Self>, manifest: Bytes) -> Result<(), StoreError> {
        let slow = Arc::clone(&self.slow);
        slowly(&slow, move || {
            self.target.sync()?;
            put_manifest(&self.directory, &manifest).map_err(|error| {
                StoreError::io(format!("sealing {}", self.directory.display()), error)
            })
        })
        .await
    }
}
