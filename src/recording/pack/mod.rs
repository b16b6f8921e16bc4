//! Packing: a sealed recording becomes small, and can be entered in the middle.
//!
//! It is done in the background, once a session has ended: nobody waits for it, and what it is made of is sealed and
//! stays until it is replaced as a whole. Nothing is packed that does not hold against its checkpoints.

mod frames;
mod keyframe;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::frames::{Packed, Source};
pub(crate) use self::keyframe::{Keyframe, find};
use super::check::{self, Checked, Problem};
use super::error::{ReadError, RecordingError};
use super::manifest::Manifest;
use super::notary::{Entered, Entry, Notary, NotaryError};
use super::recipients::Recipients;
use super::spool::SpoolKey;
use super::statement::{Chain, Checkpoint, Standing, sha256};
use crate::session::SessionId;
use crate::store::{FsStore, Part, RecordingStore, StoreError, StoredFiles};

/// A sealed recording, and what it takes to read it.
#[derive(Debug)]
pub struct ToPack {
    /// Which one.
    pub session: SessionId,
    /// The key of its spools, if it is encrypted.
    pub(crate) key: Option<SpoolKey>,
    /// Who reads it then.
    pub(crate) recipients: Option<Arc<Recipients>>,
}

impl ToPack {
    /// One in clear.
    pub fn in_clear(session: SessionId) -> Self {
        Self {
            session,
            key: None,
            recipients: None,
        }
    }
}

/// Why a recording stays as it is. It is no worse for that.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It is not what was sealed.
    #[error("it does not hold against its checkpoints: {0}")]
    Unsound(Problem),
    /// It is not sealed, or packed already.
    #[error("it is not sealed, or packed already")]
    NotSealed,
    /// It was changed while it was packed.
    #[error("{0} was changed while it was packed")]
    Changed(String),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be encrypted.
    #[error(transparent)]
    Encrypt(#[from] RecordingError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was packed cannot be signed.
    #[error(transparent)]
    Notary(#[from] NotaryError),
    /// The files failed.
    #[error("packing failed: {0}")]
    Io(#[from] std::io::Error),
    /// A description is no JSON.
    #[error("packing failed: {0}")]
    Json(#[from] serde_json::Error),
    /// The thread that packs ended.
    #[error("the thread that packs ended")]
    Gone,
}

/// When packing is tried again that there was no room for.
const AGAIN: Duration = Duration::from_secs(5);
/// Recordings that are put off. What is in clear beyond them, the next start packs.
const MOST_PUT_OFF: usize = 1024;

/// Between opening a recording and its files.
const READERS: Duration = Duration::from_secs(10);

/// Packs recordings, one after the other.
#[derive(Debug)]
pub struct Packer {
    store: FsStore,
    notary: Arc<dyn Notary>,
    /// Bytes of a frame before it is packed.
    frame: usize,
}

impl Packer {
    /// For the recordings of a directory.
    pub fn new(store: FsStore, notary: Arc<dyn Notary>) -> Self {
        Self {
            store,
            notary,
            frame: frames::FRAME,
        }
    }

    /// With frames of another size.
    #[cfg(test)]
    pub(crate) fn with_frames_of(self, frame: usize) -> Self {
        Self { frame, ..self }
    }

    /// Packs what comes, until nothing can come any more; once `ends` is cancelled, what is waiting by then. What there is
    /// no room for is put off until there is: packing must not take the space that sessions need.
    pub async fn run(self, mut sealed: mpsc::Receiver<ToPack>, ends: CancellationToken) {
        let mut put_off = VecDeque::new();
        let mut wait = AGAIN;
        loop {
            let recording = tokio::select! {
                biased;
                recording = sealed.recv() => match recording {
                    Some(recording) => recording,
                    None => return,
                },
                () = ends.cancelled(), if !sealed.is_closed() => {
                    sealed.close();
                    continue;
                }
                () = tokio::time::sleep(wait), if !put_off.is_empty() => match put_off.pop_front() {
                    Some(recording) => recording,
                    None => continue,
                },
            };
            let session = recording.session;
            wait = AGAIN;
            if matches!(self.store.has_room_for_another(session).await, Ok(false)) {
                tracing::debug!("recording {session} is packed when there is room for it");
                match put_off.len() < MOST_PUT_OFF {
                    true => put_off.push_back(recording),
                    false => tracing::warn!(
                        "recording {session} is left as it was written: there is no room to pack it"
                    ),
                }
                continue;
            }
            match self.pack(recording).await {
                Ok(()) => {
                    tracing::debug!("recording {session} is packed");
                    wait = Duration::ZERO;
                }
                Err(PackError::Unsound(problem)) => {
                    tracing::error!(
                        "recording {session} is not packed, and stays as evidence: {problem}"
                    );
                }
                Err(error) => tracing::warn!("recording {session} is not packed: {error}"),
            }
        }
    }

    /// Packs one.
    pub async fn pack(&self, recording: ToPack) -> Result<(), PackError> {
        let session = recording.session;
        let files: Arc<dyn StoredFiles> = self.store.open(session).await?.into();
        let checked = self.checked(session, Arc::clone(&files)).await?;
        let Checked {
            first: Some(first),
            closed: Some(closed),
            last: Some(last),
            ..
        } = &checked
        else {
            return Err(PackError::NotSealed);
        };
        if let Some(problem) = checked.problems.first() {
            return Err(PackError::Unsound(problem.clone()));
        }
        let sealed = matches!(closed.statement.standing, Standing::Sealed { .. });
        if !sealed || last.digest != closed.digest {
            return Err(PackError::NotSealed);
        }
        let manifest = check::read_manifest(&*files).await?;
        let manifest = Manifest::parse(&manifest.unwrap_or_default())?;

        let draft = self.store.draft(session)?;
        let packing = self.packed_into(&draft, recording, &checked, first, closed, manifest);
        match packing.await {
            Ok(old) => {
                let store = self.store.clone();
                tokio::spawn(async move {
                    // Who has just opened it, finds its files.
                    tokio::time::sleep(READERS).await;
                    discard(&store, old).await;
                });
                Ok(())
            }
            Err(error) => {
                discard(&self.store, draft).await;
                Err(error)
            }
        }
    }

    /// A recording, held against its checkpoints.
    async fn checked(
        &self,
        session: SessionId,
        files: Arc<dyn StoredFiles>,
    ) -> Result<Checked, PackError> {
        let runtime = Handle::current();
        let notary = Arc::clone(&self.notary);
        let checked = in_background(move || {
            let ours = |note: &str| notary.is_ours(note).then(String::new);
            runtime.block_on(check::check(session, &*files, &ours))
        });
        Ok(checked.await??)
    }

    /// Where the recording as it was lies then.
    async fn packed_into(
        &self,
        draft: &Path,
        recording: ToPack,
        checked: &Checked,
        first: &Checkpoint,
        closed: &Checkpoint,
        manifest: Manifest,
    ) -> Result<PathBuf, PackError> {
        let session = recording.session;
        let source = Source {
            session,
            directory: self.store.directory(session),
            draft: draft.to_owned(),
            recording,
            checked: checked.files.clone(),
            frame: self.frame,
        };
        let packed = in_background(move || frames::pack(source)).await??;
        let note = self.finish(first, closed, manifest, packed, draft).await?;
        let what = Entered::Packed;
        let entry = Entry {
            session,
            note,
            what,
        };
        self.notary.enter(entry).await?;
        Ok(self.store.replace(session, draft).await?)
    }

    /// Signs what was packed, frame by frame, and writes its manifest. Returns the digest of the last checkpoint.
    async fn finish(
        &self,
        first: &Checkpoint,
        closed: &Checkpoint,
        mut manifest: Manifest,
        mut packed: Packed,
        draft: &Path,
    ) -> Result<String, PackError> {
        let mut notes = Vec::new();
        for kept in [first, closed] {
            notes.extend_from_slice(kept.note.as_bytes());
            notes.push(b'\n');
        }
        let mut chain = Chain::after(closed);
        let at = manifest.closed;
        if let [(only, _)] = packed.frames.as_slice() {
            // A cast of one frame has no need of a checkpoint of its own: the last one is right behind it.
            packed.rest.insert(0, only.clone());
            packed.frames.clear();
        }
        for (extent, since) in packed.frames {
            let standing = Standing::Packing { since };
            let text = chain.text(at, vec![extent], standing)?;
            notes.extend(chain.signed(&self.notary.sign(text).await?));
        }
        manifest.cast.sha256 = packed.plain_sha256;
        manifest.files = packed.files;
        // A later one than at sealing: it covers that leaf, too.
        manifest.log_head = Some(self.notary.head());
        let json = manifest.to_json()?;
        let standing = Standing::Packed {
            manifest: sha256(&json),
        };
        let text = chain.text(at, packed.rest, standing)?;
        notes.extend(chain.signed(&self.notary.sign(text).await?));
        let draft = draft.to_owned();
        self.store
            .write_new(vec![
                (draft.join(Part::Checkpoints.name()), notes),
                (draft.join(Part::Manifest.name()), json),
            ])
            .await?;
        Ok(chain.last().unwrap_or_default().to_owned())
    }
}

async fn discard(store: &FsStore, directory: PathBuf) {
    if let Err(error) = store.discard(directory).await {
        tracing::warn!("what is left of packing stays until the next start: {error}");
    }
}

/// On a thread that gives way to those that somebody waits for.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PackError> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("recording-pack".to_owned())
        .spawn(move || {
            // Of this thread only. Where that is not allowed, it is as eager as the others.
            if let Err(error) = rustix::process::setpriority_process(None, 5) {
                tracing::debug!("packing is as eager as the rest: {error}");
            }
            drop(done.send(work()));
        })?;
    result.await.map_err(|_| PackError::Gone)
}
