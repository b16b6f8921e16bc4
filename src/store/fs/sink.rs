//! The writing end of a recording in a directory.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::layout::{draft_manifest, place_manifest};
use super::slowly;
use super::writer::{Append, Target, Writer};
use crate::store::{Lines, RecordingSink, StoreError};

#[derive(Debug)]
pub(super) struct FsSink {
    target: Arc<Target>,
    writer: Arc<Writer>,
    slow: Arc<Semaphore>,
}

impl FsSink {
    pub(super) fn new(target: Target, writer: Arc<Writer>, slow: Arc<Semaphore>) -> Self {
        Self {
            target: Arc::new(target),
            writer,
            slow,
        }
    }
}

#[async_trait]
impl RecordingSink for FsSink {
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError> {
        self.writer
            .append(Arc::clone(&self.target), Append::Lines(lines))
            .await
    }

    async fn checkpoint(self: Arc<Self>, note: Bytes) -> Result<(), StoreError> {
        self.writer.synced(&self.target).await?;
        self.writer
            .append(Arc::clone(&self.target), Append::Checkpoint(note))
            .await
    }

    async fn seal(self: Arc<Self>, note: Bytes, manifest: Bytes) -> Result<(), StoreError> {
        let slow = Arc::clone(&self.slow);
        slowly(&slow, move || {
            let directory = self.target.directory();
            let failed = |error| StoreError::io(format!("sealing {}", directory.display()), error);
            self.target.sync()?;
            let room = self.target.room();
            let sealing = "sealing a recording";
            // In this order, so that whoever finds the checkpoint finds the manifest that it means.
            room.with_room(sealing, || draft_manifest(directory, &manifest))
                .map_err(failed)?;
            self.target.write(&Append::Checkpoint(note))?;
            self.target.sync()?;
            room.with_room(sealing, || place_manifest(directory))
                .map_err(failed)
        })
        .await
    }
}
