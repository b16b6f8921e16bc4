//! Where recordings begin.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::RecordingError;
use super::header::{Header, Metadata};
use super::notary::{Entered, Entry, Notary};
use super::open::OpenRecording;
use super::pack::ToPack;
use super::recipients::Recipients;
use super::spool::{SpoolKey, SpoolWriter};
use super::statement::{Chain, Encrypted, Standing, Stretch};
use super::writing::{Carrying, Inner, Protection};
use crate::clock;
use crate::config::RecordInput;
use crate::store::{Beginning, Part, RecordingStore};

/// Opens recordings: in a store, under a key, entered into a log. Clones open in the same.
#[derive(Clone, Debug)]
pub struct Recorder {
    store: Arc<dyn RecordingStore>,
    notary: Arc<dyn Notary>,
    /// Where sealed recordings go to be packed.
    sealed: Option<mpsc::Sender<ToPack>>,
}

/// What is kept of a session, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// What is kept of input.
    pub record_input: RecordInput,
    /// Who can read it; `None` if the store's own protection is enough.
    pub recipients: Option<Arc<Recipients>>,
    /// Keep the request index in clear even so.
    pub requests_in_clear: bool,
}

impl Keeping {
    /// In clear.
    pub fn clear(record_input: RecordInput) -> Self {
        Self {
            record_input,
            recipients: None,
            requests_in_clear: false,
        }
    }

    fn encrypted(&self) -> Encrypted {
        let cast = self.recipients.is_some();
        Encrypted {
            cast,
            requests: cast && !self.requests_in_clear,
        }
    }
}

impl Recorder {
    /// One that opens in `store`. What is sealed is left as it lies.
    pub fn new(store: Arc<dyn RecordingStore>, notary: Arc<dyn Notary>) -> Self {
        Self {
            store,
            notary,
            sealed: None,
        }
    }

    /// The same, with somebody who packs what is sealed.
    pub fn with_packer(self, sealed: mpsc::Sender<ToPack>) -> Self {
        Self {
            sealed: Some(sealed),
            ..self
        }
    }

    /// Opens a recording. When this returns, it survives a power cut and is in the log; if it fails, nothing may run.
    pub async fn open(
        &self,
        metadata: Metadata,
        keeping: Keeping,
    ) -> Result<OpenRecording, RecordingError> {
        let started = clock::monotonic();
        let header = Header::new(metadata, keeping.record_input);
        let session = header.metadata().session;
        let encrypted = keeping.encrypted();
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        let plain_bytes = line.len() as u64;
        let mut protection = Protection::new(&keeping, encrypted)?;
        let first = Bytes::from(protection.cast(line)?);
        let mut cast = Stretch::of(protection.cast_part());
        cast.add(&first);
        let spool_key: Option<Bytes> = protection.wrapped_key(&keeping)?;
        let mut key = Stretch::of(Part::SpoolKey);
        key.add(spool_key.as_deref().unwrap_or_default());

        let mut chain = Chain::begin(session);
        let standing = Standing::Opened {
            bastion: Box::new(header.bastion.in_clear(encrypted)),
            encrypted,
        };
        let text = chain.text(
            header.metadata().opened,
            key.take().into_iter().chain(cast.take()).collect(),
            standing,
        )?;
        let note = chain.signed(&self.notary.sign(text).await?);
        let beginning = Beginning {
            cast: first,
            note: note.into(),
            spool_key,
            requests: protection.requests_part(),
        };
        let sink = self.store.create(session, beginning).await?;
        let entry = Entry {
            session,
            note: chain.last().unwrap_or_default().to_owned(),
            what: Entered::Opened {
                parent: header.metadata().parent.map(|parent| parent.session),
            },
        };
        self.notary.enter(entry).await?;
        let carrying = Carrying::new(protection, cast, plain_bytes);
        let inner = Inner::new(
            header,
            keeping,
            self.clone(),
            sink,
            started,
            carrying,
            chain,
        );
        Ok(OpenRecording::start(Arc::new(inner)))
    }

    pub(super) fn notary(&self) -> &Arc<dyn Notary> {
        &self.notary
    }

    /// Hands a sealed recording on. It is whole as it is; nobody waits for more.
    pub(super) fn pack(&self, recording: ToPack) {
        let session = recording.session;
        if let Some(sealed) = &self.sealed
            && sealed.try_send(recording).is_err()
        {
            tracing::warn!(
                "recording {session} is left as it was written: too many wait to be packed"
            );
        }
    }
}

impl Protection {
    fn new(keeping: &Keeping, encrypted: Encrypted) -> Result<Self, RecordingError> {
        if keeping.recipients.is_none() {
            return Ok(Self::default());
        }
        let key = SpoolKey::generate()?;
        Ok(Self {
            cast: Some(SpoolWriter::new(&key, Part::CastSpool)?),
            requests: match encrypted.requests {
                true => Some(SpoolWriter::new(&key, Part::RequestsSpool)?),
                false => None,
            },
            key: Some(key),
        })
    }

    fn wrapped_key(&self, keeping: &Keeping) -> Result<Option<Bytes>, RecordingError> {
        match (&self.key, &keeping.recipients) {
            (Some(key), Some(recipients)) => Ok(Some(key.wrapped(recipients)?.into())),
            _ => Ok(None),
        }
    }
}
