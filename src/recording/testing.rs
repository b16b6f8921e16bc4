//! What tests of recordings need: a notary with a key of its own, in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{
    Entry, Identities, Keeping, Manifest, Metadata, Notary, NotaryError, OpenRecording, Recorder,
    RecordingError, Recordings,
};
use crate::config::RecordInput;
use crate::session::SessionId;
use crate::store::faulty::FaultyStore;
use crate::store::fs::{self, InLog, Interrupted};
use crate::store::{FsStore, RecordingStore, StoreError};
use jiff::Timestamp;

/// Signs, and keeps what was entered.
#[derive(Debug)]
pub(crate) struct TestNotary {
    key: Ed25519KeyPair,
    entered: Mutex<Vec<Entry>>,
    /// Signs nothing any more.
    pub(crate) silent: std::sync::atomic::AtomicBool,
}

impl TestNotary {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            // One key for all, as one daemon has that starts again.
            key: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(),
            entered: Mutex::default(),
            silent: Default::default(),
        })
    }

    pub(crate) fn entered(&self) -> Vec<Entry> {
        self.entered.lock().unwrap().clone()
    }
}

#[async_trait]
impl Notary for TestNotary {
    async fn sign(&self, statement: String) -> Result<String, NotaryError> {
        if self.silent.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(NotaryError::Sign("it is silent".into()));
        }
        let text = format!("test/recording\n{statement}");
        let signature = STANDARD.encode(self.key.sign(text.as_bytes()).as_ref());
        Ok(format!("{text}\n\u{2014} test {signature}\n"))
    }

    async fn enter(&self, entry: Entry) -> Result<(), NotaryError> {
        self.entered.lock().unwrap().push(entry);
        Ok(())
    }

    fn head(&self) -> String {
        "of no log\n".to_owned()
    }

    fn is_ours(&self, note: &str) -> bool {
        let Some((text, signature)) = note.split_once("\n\n\u{2014} test ") else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ED25519, self.key.public_key().as_ref());
        STANDARD
            .decode(signature.trim_end())
            .is_ok_and(|it| key.verify(format!("{text}\n").as_bytes(), &it).is_ok())
    }
}

/// What the next start of a daemon does, whose log knows all that is unsealed.
pub(crate) async fn recover(
    store: &FsStore,
    now: Timestamp,
) -> Result<Vec<Interrupted>, StoreError> {
    let unsealed = fs::unsealed(store).await?;
    let in_log = InLog {
        open: unsealed.clone(),
        ..InLog::default()
    };
    fs::recover(store, &unsealed, &in_log, &*TestNotary::new(), now).await
}

/// The manifest of a recording, if it is closed.
pub(crate) async fn manifest(store: impl Held, id: SessionId) -> Option<Manifest> {
    let stored = recordings(store).open(id).await.unwrap();
    stored.manifest().await.unwrap()
}

/// A store, however a test holds it.
pub(crate) trait Held {
    fn held(&self) -> Arc<dyn RecordingStore>;
}

impl Held for FaultyStore {
    fn held(&self) -> Arc<dyn RecordingStore> {
        Arc::new(self.clone())
    }
}

impl Held for FsStore {
    fn held(&self) -> Arc<dyn RecordingStore> {
        Arc::new(self.clone())
    }
}

impl Held for Arc<dyn RecordingStore> {
    fn held(&self) -> Arc<dyn RecordingStore> {
        Arc::clone(self)
    }
}

impl<T: Held> Held for &T {
    fn held(&self) -> Arc<dyn RecordingStore> {
        (*self).held()
    }
}

impl<T: Held> Held for Arc<T> {
    fn held(&self) -> Arc<dyn RecordingStore> {
        (**self).held()
    }
}

/// Opens a recording in clear.
pub(crate) async fn open(
    store: impl Held,
    metadata: Metadata,
    record_input: RecordInput,
) -> Result<OpenRecording, RecordingError> {
    Recorder::new(store.held(), TestNotary::new())
        .open(metadata, Keeping::clear(record_input))
        .await
}

/// Opens one that may take `quota` bytes, and the recorder that did.
pub(crate) async fn open_within(
    store: impl Held,
    metadata: Metadata,
    quota: u64,
) -> Result<(OpenRecording, Recorder), RecordingError> {
    let recorder = Recorder::new(store.held(), TestNotary::new());
    let keeping = Keeping {
        quota,
        ..Keeping::clear(RecordInput::Auto)
    };
    let recording = recorder.open(metadata, keeping).await?;
    Ok((recording, recorder))
}

/// The recordings of `store`, without a key.
pub(crate) fn recordings(store: impl Held) -> Recordings {
    Recordings::new(store.held(), Identities::default())
}

/// Makes a checkpoint over what is written by now.
pub(crate) async fn checkpoint(recording: &OpenRecording) {
    assert!(recording.0.checkpoint().await);
}

/// What a packer is given of a sealed recording.
pub(crate) fn to_pack(mut sealed: tokio::sync::mpsc::Receiver<super::ToPack>) -> super::ToPack {
    sealed.try_recv().unwrap()
}

/// Lets go of it as a daemon that dies, and waits until nobody makes a checkpoint of it any more.
pub(crate) async fn leave(recording: OpenRecording) -> SessionId {
    let (id, left) = (recording.id(), Arc::downgrade(&recording.0));
    drop(recording);
    while left.strong_count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    id
}
