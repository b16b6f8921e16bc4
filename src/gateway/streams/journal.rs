//! What is learned of a stream while it goes on: files and connections. They are on record with their request, in
//! notes as soon as there are many, the rest with its outcome.

use std::sync::{Arc, Mutex, PoisonError};

use super::broken::Broken;
use super::tar::TarWatch;
use crate::recording::OpenRecording;
use crate::recording::requests::{CopiedFile, Forwarded, Note, RequestNumber};

/// How many are kept for a note, so that neither a request's memory nor a line of the index grows without end.
const MANY: usize = 32;

/// Where it is written. Clones write to the same.
#[derive(Clone)]
pub(super) struct Journal {
    session: OpenRecording,
    request: RequestNumber,
    kept: Arc<Mutex<Kept>>,
}

/// What has not been written yet.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) files: Vec<CopiedFile>,
    pub(super) forwards: Vec<Forwarded>,
    /// There was a tar stream that could not be read to its end.
    pub(super) tar_lost: bool,
}

impl Journal {
    pub(super) fn new(session: OpenRecording, request: RequestNumber) -> Self {
        Self {
            session,
            request,
            kept: Arc::default(),
        }
    }

    /// Lets `tar` look at bytes.
    pub(super) async fn watch(&self, tar: &mut TarWatch, bytes: &[u8]) -> Result<(), Broken> {
        let mut files = Vec::new();
        tar.feed(bytes, &mut files);
        self.files(files).await
    }

    /// The end of what `tar` looked at.
    pub(super) async fn finish(&self, tar: TarWatch) -> Result<(), Broken> {
        let mut files = Vec::new();
        if tar.finish(&mut files) {
            self.lock().tar_lost = true;
        }
        self.files(files).await
    }

    /// A connection has ended.
    pub(super) async fn forwarded(&self, forwarded: Forwarded) -> Result<(), Broken> {
        let many = {
            let mut kept = self.lock();
            kept.forwards.push(forwarded);
            take_if_many(&mut kept.forwards)
        };
        match many {
            Some(forwards) => self.note(Note::Forwards(forwards)).await,
            None => Ok(()),
        }
    }

    /// What is left for the outcome.
    pub(super) fn rest(&self) -> Kept {
        std::mem::take(&mut *self.lock())
    }

    async fn files(&self, mut files: Vec<CopiedFile>) -> Result<(), Broken> {
        if files.is_empty() {
            return Ok(());
        }
        let many = {
            let mut kept = self.lock();
            kept.files.append(&mut files);
            take_if_many(&mut kept.files)
        };
        for few in many.unwrap_or_default().chunks(MANY) {
            self.note(Note::Files(few.to_vec())).await?;
        }
        Ok(())
    }

    async fn note(&self, note: Note) -> Result<(), Broken> {
        Ok(self.session.note(self.request, note).await?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_if_many<T>(kept: &mut Vec<T>) -> Option<Vec<T>> {
    (kept.len() >= MANY).then(|| std::mem::take(kept))
}
