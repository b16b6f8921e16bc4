//! Where recordings begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::carrying::{Carrying, Protection};
use super::error::RecordingError;
use super::header::{Header, Metadata};
use super::masking::Secrets;
use super::notary::{Entered, Entry, Notary};
use super::open::OpenRecording;
use super::pack::ToPack;
use super::recipients::Recipients;
use super::spool::{SpoolKey, SpoolWriter};
use super::statement::{Chain, Encrypted, Standing, Stretch};
use super::writing::Inner;
use crate::clock;
use crate::config::RecordInput;
use crate::session::SessionId;
use crate::store::room::{Room, Trouble};
use crate::store::second::Second;
use crate::store::{Beginning, Part, RecordingSink, RecordingStore, StoreError};

/// Opens recordings: in a store, under a key, entered into a log. Clones open in the same.
#[derive(Clone, Debug)]
pub struct Recorder {
    store: Arc<dyn RecordingStore>,
    notary: Arc<dyn Notary>,
    /// What gets into none of them.
    secrets: Secrets,
    failures: Arc<AtomicU64>,
    /// Whether anything can be stored.
    room: Room,
    /// Where rescue sessions are recorded besides.
    second: Second,
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
    /// The most that its lines may take, in bytes as they are before they are encrypted or packed. Beyond, nothing more
    /// is recorded but its end.
    pub quota: u64,
    /// It may be made while no space is left, of what is kept back, and is told in a second place as well.
    pub rescue: bool,
}

impl Keeping {
    /// In clear, of whatever size.
    pub fn clear(record_input: RecordInput) -> Self {
        Self {
            record_input,
            recipients: None,
            requests_in_clear: false,
            quota: u64::MAX,
            rescue: false,
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
            secrets: Secrets::default(),
            failures: Arc::default(),
            room: Room::default(),
            second: Second::default(),
            sealed: None,
        }
    }

    /// The same, but no secret of `secrets`, now or later, gets into a recording.
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// The same, but nothing is recorded once that is known to be in vain, as far as `room` says.
    pub fn with_room(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// The same, with another place for the second record of rescue sessions than standard error.
    #[cfg(test)]
    pub(crate) fn with_second(self, second: Second) -> Self {
        Self { second, ..self }
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
        let opened = self.begin(metadata, keeping).await;
        if opened.is_err() {
            self.failed();
        }
        opened
    }

    /// How many recordings could not be opened, written or sealed. Of clones, all together.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// One could not.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    async fn begin(
        &self,
        metadata: Metadata,
        keeping: Keeping,
    ) -> Result<OpenRecording, RecordingError> {
        let started = clock::monotonic();
        self.make_way(&keeping).await;
        self.room_for(&keeping)?;
        let header = Header::new(metadata.masked(&self.secrets), keeping.record_input);
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
            bastion: Box::new(header.bastion.in_brief(encrypted)),
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
        let sink = self.sink(session, beginning, &keeping).await?;
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

    /// A rescuer's needs some room to begin.
    async fn make_way(&self, keeping: &Keeping) {
        if keeping.rescue && self.room.trouble() == Some(Trouble::NoSpace) {
            let room = self.room.clone();
            // Without it there is just less room.
            drop(tokio::task::spawn_blocking(move || room.make_way()).await);
        }
    }

    async fn sink(
        &self,
        session: SessionId,
        beginning: Beginning,
        keeping: &Keeping,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        match keeping.rescue {
            true => {
                let store = &*self.store;
                self.second.create(store, session, beginning).await
            }
            false => self.store.create(session, beginning).await,
        }
    }

    /// Whether something may be recorded. What is known to be in vain is not tried, so that what is kept back is
    /// left for seals.
    pub(super) fn room_for(&self, keeping: &Keeping) -> Result<(), RecordingError> {
        match self.room.trouble() {
            None => Ok(()),
            Some(Trouble::NoSpace) if keeping.rescue && !self.room.is_spent() => Ok(()),
            Some(trouble) => Err(RecordingError::NoRoom { trouble }),
        }
    }

    pub(super) fn notary(&self) -> &Arc<dyn Notary> {
        &self.notary
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::recording::roundtrip::metadata;
    use crate::recording::testing::TestNotary;
    use crate::recording::{Ending, Stream};
    use crate::store::faulty::FaultyStore;

    fn no_space() -> std::io::Error {
        rustix::io::Errno::NOSPC.into()
    }

    #[tokio::test]
    async fn on_a_full_disk_nothing_is_recorded_but_ends_and_what_a_rescuer_does() {
        let state = tempfile::TempDir::new().unwrap();
        let room = Room::new(state.path());
        room.keep(1 << 20);
        let second = Second::to(Arc::new(std::sync::Mutex::new(std::io::sink())));
        let recorder = Recorder::new(Arc::new(FaultyStore::default()), TestNotary::new())
            .with_room(room.clone())
            .with_second(second);
        let clear = Keeping::clear(RecordInput::Auto);
        let rescue = Keeping {
            rescue: true,
            ..clear.clone()
        };
        let open = |keeping: &Keeping| recorder.open(metadata(true), keeping.clone());
        let ordinary = open(&clear).await.unwrap();
        let is_full = |result: Result<_, RecordingError>| {
            let trouble = Trouble::NoSpace;
            matches!(result, Err(RecordingError::NoRoom { trouble: it }) if it == trouble)
        };

        room.note_error("a test", &no_space());
        assert!(is_full(ordinary.output(Stream::Stdout, b"x").await));
        assert!(is_full(open(&clear).await.map(drop)));
        ordinary.seal(Ending::Exit(0)).await.unwrap();
        let rescued = open(&rescue).await.unwrap();
        rescued.output(Stream::Stdout, b"x").await.unwrap();

        // What is left is for last words.
        let mut portions = 0;
        drop(room.with_room("a test", || {
            portions += 1;
            if portions <= 7 {
                Err(no_space())
            } else {
                Ok(())
            }
        }));
        assert!(is_full(rescued.output(Stream::Stdout, b"x").await));
        assert!(is_full(open(&rescue).await.map(drop)));
        rescued.seal(Ending::Exit(0)).await.unwrap();
    }

    #[tokio::test]
    async fn on_a_disk_that_takes_no_writes_nobody_is_recorded() {
        for errno in [rustix::io::Errno::ROFS, rustix::io::Errno::IO] {
            let state = tempfile::TempDir::new().unwrap();
            let room = Room::new(state.path());
            let recorder = Recorder::new(Arc::new(FaultyStore::default()), TestNotary::new())
                .with_room(room.clone());
            room.note_error("a test", &errno.into());
            for rescue in [false, true] {
                let keeping = Keeping {
                    rescue,
                    ..Keeping::clear(RecordInput::Auto)
                };
                let refused = recorder.open(metadata(true), keeping).await;
                assert!(matches!(refused, Err(RecordingError::NoRoom { .. })));
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_signed_is_not_recorded_and_what_is_is_in_the_log() {
        let store = FaultyStore::default();
        let notary = TestNotary::new();
        let recorder = Recorder::new(Arc::new(store.clone()), Arc::clone(&notary) as _);
        let open = || recorder.open(metadata(true), Keeping::clear(RecordInput::Auto));
        let recording = open().await.unwrap();
        let sealed = recording.seal(Ending::Exit(0)).await.unwrap();
        let entered = notary.entered();
        assert!(matches!(entered[0].what, Entered::Opened { .. }));
        assert_eq!(entered[1].what, Entered::Sealed);
        assert_eq!(entered[1].note, sealed.checkpoint);

        let recording = open().await.unwrap();
        notary.silent.store(true, Ordering::Relaxed);
        assert!(matches!(open().await, Err(RecordingError::Notary(_))));
        assert!(recording.seal(Ending::Exit(0)).await.is_err());
        assert!(store.manifest(recording.id()).is_none());
        assert_eq!(notary.entered().len(), 3);
    }
}
