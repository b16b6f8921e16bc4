//! What tests of recordings need: a notary with a key of its own, in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, UnparsedPublicKey, ED25519};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{
    Entry, Identities, Keeping, Metadata, Notary, NotaryError, OpenRecording, Recorder, Recordings,
    RecordingError,
};
use crate::config::RecordInput;
use crate::store::RecordingStore;

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
            key: Ed25519KeyPair::generate().unwrap(),
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

/// One that records in clear, in `store`.
pub(crate) fn recorder(store: &(impl RecordingStore + Clone + 'static)) -> Recorder {
    Recorder::new(Arc::new(store.clone()), TestNotary::new())
}

pub(crate) async fn open(
    store: &(impl RecordingStore + Clone + 'static),
    metadata: Metadata,
    record_input: RecordInput,
) -> Result<OpenRecording, RecordingError> {
    recorder(store)
        .open(metadata, Keeping::clear(record_input))
        .await
}

/// The recordings of `store`, without a key.
pub(crate) fn recordings(store: &(impl RecordingStore + Clone + 'static)) -> Recordings {
    Recordings::new(Arc::new(store.clone()), Identities::default())
}
