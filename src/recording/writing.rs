//! What is known of a recording that is being written, its lines on their way to the store, and the checkpoints over them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::carrying::{Carrying, SealFuture, Taken};
use super::code;
use super::encode::Encoder;
use super::error::RecordingError;
use super::header::Header;
use super::manifest::{
    CastSummary, Coverage, Ending, InputCoverage, LeaseRecord, Manifest, State, Totals, VERSION,
};
use super::masked::Maskings;
use super::masking::Secrets;
use super::notary::{Entered, Entry, NotaryError};
use super::pack::ToPack;
use super::recorder::{Keeping, Recorder};
use super::requests::{RequestsSummary, Tally};
use super::spool::SpoolKey;
use super::statement::{Chain, Standing, sha256};
use crate::clock;
use crate::store::{RecordingSink, StoreError};

/// From something on record to a checkpoint over it, beside a sync: every second of activity has one.
pub(super) const CHECKPOINT_AFTER: Duration = Duration::from_millis(600);

/// The longest that a checkpoint may take. What cannot be signed for so long, is not evidence.
const LATEST: Duration = Duration::from_secs(10);

/// Lines that wait for the store. Whoever finds more than this waiting, waits first: callers that went away leave
/// theirs behind, and nobody bounds how many those are.
const MAX_WAITING: usize = 1 << 20;

/// One recording. Two locks: what happens is put into lines under the first, which is never held while waiting;
/// lines are carried to the store under the second, all that have come together meanwhile at once.
pub(super) struct Inner {
    pub(super) header: Header,
    pub(super) keeping: Keeping,
    pub(super) recorder: Recorder,
    sink: Arc<dyn RecordingSink>,
    started: tokio::time::Instant,
    writing: Mutex<Writing>,
    carrying: tokio::sync::Mutex<Carrying>,
    /// The checkpoints. Who has this lock makes the next one; it is taken before `carrying`.
    chain: tokio::sync::Mutex<Chain>,
    /// There is something that no checkpoint covers.
    pub(super) activity: Arc<Notify>,
}

/// What is under the first lock.
pub(super) struct Writing {
    pub(super) encoder: Encoder,
    pub(super) maskings: Maskings,
    pub(super) input: Input,
    pub(super) totals: Totals,
    pub(super) leases: Vec<LeaseRecord>,
    /// How many of them are in checkpoints.
    stated_leases: usize,
    pub(super) tally: Tally,
    /// Lines that wait, of the cast and of the request index.
    pub(super) cast: Vec<u8>,
    pub(super) requests: Vec<u8>,
    /// How many batches have left; what waits goes with the next.
    left: u64,
    /// How many bytes were in them, and in the header.
    left_bytes: u64,
    stage: Stage,
}

pub(super) enum Input {
    Full,
    /// One digest of all of it, at its end: digests of single keystrokes would give them away.
    Digest(digest::Context),
    Off,
}

enum Stage {
    Open,
    /// The last events are in lines.
    Ending(Ending),
    Sealed,
    Failed(String),
}

/// What a sealed recording came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// SHA-256 (hex) of the last checkpoint, which covers everything.
    pub checkpoint: String,
    /// Size of the cast in clear.
    pub cast_bytes: u64,
    /// Bytes of output, both streams.
    pub output_bytes: u64,
    /// Bytes of input, recorded or not.
    pub input_bytes: u64,
}

impl Inner {
    pub(super) fn new(
        header: Header,
        keeping: Keeping,
        recorder: Recorder,
        sink: Arc<dyn RecordingSink>,
        started: tokio::time::Instant,
        carrying: Carrying,
        chain: Chain,
    ) -> Self {
        let terminal = header.metadata().terminal.is_some();
        let input = match InputCoverage::of(terminal, header.bastion.record_input) {
            InputCoverage::Full => Input::Full,
            InputCoverage::Digest => Input::Digest(digest::Context::new(&SHA256)),
            InputCoverage::Off => Input::Off,
        };
        Self {
            header,
            keeping,
            recorder,
            sink,
            started,
            chain: tokio::sync::Mutex::new(chain),
            activity: Arc::default(),
            writing: Mutex::new(Writing {
                encoder: Encoder::new(terminal),
                maskings: Maskings::default(),
                input,
                totals: Totals::default(),
                leases: Vec::new(),
                stated_leases: 0,
                tally: Tally::default(),
                cast: Vec::new(),
                requests: Vec::new(),
                left: 0,
                left_bytes: carrying.plain_cast,
                stage: Stage::Open,
            }),
            carrying: tokio::sync::Mutex::new(carrying),
        }
    }

    /// What gets into no line.
    pub(super) fn secrets(&self) -> &Secrets {
        self.recorder.secrets()
    }

    /// How long the session has been going on, by the clock that does not jump.
    pub(super) fn elapsed(&self) -> Duration {
        clock::monotonic().saturating_duration_since(self.started)
    }

    /// Puts something that happens now into lines, and returns when they have reached the kernel. If `put` fails,
    /// it must have added no lines. Fails once the recording has reached its quota, or the disk is known to take nothing.
    pub(super) async fn record<T>(
        &self,
        put: impl FnOnce(&mut Writing, Duration) -> Result<T, RecordingError>,
    ) -> Result<T, RecordingError> {
        self.recorder.room_for(&self.keeping)?;
        let quota = self.keeping.quota;
        self.record_last(|writing, at| match writing.bytes() > quota {
            true => Err(RecordingError::Quota { quota }),
            false => put(writing, at),
        })
        .await
    }

    /// The same for what ends something, and may go beyond the quota and take of what is kept back for it.
    pub(super) async fn record_last<T>(
        &self,
        put: impl FnOnce(&mut Writing, Duration) -> Result<T, RecordingError>,
    ) -> Result<T, RecordingError> {
        let waiting = {
            let writing = self.lock();
            (writing.waiting() > MAX_WAITING).then(|| writing.next_batch())
        };
        if let Some(batch) = waiting {
            self.carry(batch).await?;
        }
        let (told, batch) = self.put(put)?;
        if let Some(batch) = batch {
            self.carry(batch).await?;
        }
        Ok(told)
    }

    /// Fails once it has reached its quota.
    pub(super) fn within_quota(&self) -> Result<(), RecordingError> {
        let quota = self.keeping.quota;
        match self.lock().bytes() > quota {
            true => Err(RecordingError::Quota { quota }),
            false => Ok(()),
        }
    }

    /// Puts something that happens now into lines, which go with the next batch. Whoever lets many of them wait
    /// without having them carried has them in memory.
    pub(super) fn put<T>(
        &self,
        put: impl FnOnce(&mut Writing, Duration) -> Result<T, RecordingError>,
    ) -> Result<(T, Option<u64>), RecordingError> {
        let mut writing = self.lock();
        writing.check_open()?;
        let at = self.elapsed();
        let told = put(&mut writing, at)?;
        let batch = (writing.waiting() > 0).then(|| writing.next_batch());
        Ok((told, batch))
    }

    /// Returns when everything that was put into lines until now has reached the kernel.
    pub(super) async fn carry_waiting(&self) -> Result<(), RecordingError> {
        let batch = self.lock().next_batch();
        self.carry(batch).await
    }

    /// Returns when the batch has arrived. It may arrive together with later lines: many wait, one carries.
    async fn carry(&self, batch: u64) -> Result<(), RecordingError> {
        let mut carrying = self.carrying.lock().await;
        self.carry_with(&mut carrying, batch).await
    }

    async fn carry_with(&self, carrying: &mut Carrying, batch: u64) -> Result<(), RecordingError> {
        loop {
            if let Some(append) = &mut carrying.under_way {
                let result = append.await;
                carrying.under_way = None;
                self.arrived(carrying, result)?;
            }
            if carrying.arrived >= batch {
                return Ok(());
            }
            let Some(taken) = self.take()? else {
                return Ok(());
            };
            let lines = carrying
                .protected(taken)
                .map_err(|error| self.failed(error))?;
            let mut append = Arc::clone(&self.sink).append(lines.clone());
            // A first push sets the write going; it and the digests then take the same time.
            let at_once = poll_fn(|context| {
                Poll::Ready(match append.as_mut().poll(context) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                })
            })
            .await;
            carrying.cast.add(&lines.cast);
            carrying.requests.add(&lines.requests);
            match at_once {
                Some(result) => self.arrived(carrying, result)?,
                None => carrying.under_way = Some(append),
            }
        }
    }

    fn arrived(
        &self,
        carrying: &mut Carrying,
        result: Result<(), StoreError>,
    ) -> Result<(), RecordingError> {
        match result {
            Ok(()) => {
                carrying.arrived = carrying.arrived.saturating_add(1);
                self.activity.notify_one();
                Ok(())
            }
            Err(error) => Err(self.failed(error.into())),
        }
    }

    /// The lines that wait.
    fn take(&self) -> Result<Option<Taken>, RecordingError> {
        let mut writing = self.lock();
        writing.check_not_failed()?;
        if writing.waiting() == 0 {
            return Ok(None);
        }
        writing.left = writing.left.saturating_add(1);
        writing.left_bytes = writing.bytes();
        Ok(Some(Taken {
            cast: std::mem::take(&mut writing.cast),
            requests: std::mem::take(&mut writing.requests),
        }))
    }

    /// Nothing more can be recorded after this.
    fn failed(&self, error: RecordingError) -> RecordingError {
        let mut writing = self.lock();
        if !matches!(writing.stage, Stage::Failed(_)) {
            writing.stage = Stage::Failed(error.to_string());
            self.recorder.failed();
        }
        error
    }

    /// Makes a checkpoint over what has arrived since the last one. Whether there may be a next one.
    pub(super) async fn checkpoint(&self) -> bool {
        let made = match tokio::time::timeout(LATEST, self.next_checkpoint()).await {
            Ok(made) => made,
            Err(_) => Err(NotaryError::Late(LATEST).into()),
        };
        match made {
            Ok(more) => more,
            Err(error) => {
                let session = self.header.metadata().session;
                tracing::error!(%error, "session {session} has no checkpoint; it ends with the next event");
                drop(self.failed(error));
                false
            }
        }
    }

    async fn next_checkpoint(&self) -> Result<bool, RecordingError> {
        let mut chain = self.chain.lock().await;
        // The last one is the seal's.
        if !matches!(self.lock().stage, Stage::Open) {
            return Ok(false);
        }
        let extents = {
            let mut carrying = self.carrying.lock().await;
            let arriving = carrying.arrived;
            self.carry_with(&mut carrying, arriving).await?;
            carrying.extents()
        };
        // Before leases count as stated.
        if extents.is_empty() {
            return Ok(true);
        }
        let standing = {
            let mut writing = self.lock();
            writing.check_not_failed()?;
            let leases = writing.leases.get(writing.stated_leases..);
            let leases = leases.unwrap_or_default().to_vec();
            writing.stated_leases = writing.leases.len();
            Standing::Live {
                totals: writing.totals,
                leases,
            }
        };
        let text = chain.text(self.now(), extents, standing)?;
        let note = chain.signed(&self.recorder.notary().sign(text).await?);
        Arc::clone(&self.sink).checkpoint(note.into()).await?;
        Ok(true)
    }

    /// Wall-clock time as far as it goes with the session's own clock, which does not jump.
    fn now(&self) -> Timestamp {
        let opened = self.header.metadata().opened;
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        opened.checked_add(elapsed).unwrap_or(opened)
    }

    /// Puts the end on record and closes the recording. May be called again after it was dropped midway.
    pub(super) async fn seal(&self, ending: Ending) -> Result<Sealed, RecordingError> {
        let ending = ending.masked(self.secrets());
        {
            let mut writing = self.lock();
            if matches!(writing.stage, Stage::Open) {
                let at = self.elapsed();
                writing.settle_all(&self.secrets().book(), at);
                writing.last_events(at, &ending)?;
                writing.stage = Stage::Ending(ending);
            }
        }
        // None is begun any more; one that is under way ends first.
        let chain = self.chain.lock().await.clone();
        let mut carrying = self.carrying.lock().await;
        let (ending, batch) = {
            let writing = self.lock();
            writing.check_not_failed()?;
            match &writing.stage {
                Stage::Ending(ending) => (ending.clone(), writing.next_batch()),
                _ => return Err(RecordingError::Sealed),
            }
        };
        self.carry_with(&mut carrying, batch).await?;
        if carrying.sealing.is_none() {
            carrying.sealing = Some(self.sealing(&mut carrying, chain, ending)?);
        }
        let Some((sealed, sealing)) = &mut carrying.sealing else {
            return Err(RecordingError::Sealed);
        };
        let mut sealed = sealed.clone();
        let result = sealing.await;
        carrying.sealing = None;
        match result {
            Ok(checkpoint) => {
                sealed.checkpoint = checkpoint;
                self.lock().stage = Stage::Sealed;
                self.recorder.pack(ToPack {
                    session: self.header.metadata().session,
                    key: carrying.protection.key.as_ref().map(SpoolKey::again),
                    recipients: self.keeping.recipients.clone(),
                });
                Ok(sealed)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn sealing(
        &self,
        carrying: &mut Carrying,
        mut chain: Chain,
        ending: Ending,
    ) -> Result<(Sealed, SealFuture), RecordingError> {
        let manifest = self.manifest(carrying, ending);
        let json = Bytes::from(manifest.to_json()?);
        let standing = Standing::Sealed {
            manifest: sha256(&json),
        };
        let text = chain.text(self.now(), carrying.extents(), standing)?;
        let (sink, notary) = (Arc::clone(&self.sink), Arc::clone(self.recorder.notary()));
        let session = self.header.metadata().session;
        let sealing = Box::pin(async move {
            let note = Bytes::from(chain.signed(&notary.sign(text).await?));
            let digest = chain.last().unwrap_or_default().to_owned();
            sink.seal(note, json).await?;
            let entry = Entry {
                session,
                note: digest.clone(),
                what: Entered::Sealed,
            };
            notary.enter(entry).await?;
            Ok(digest)
        });
        Ok((sealed(&manifest), sealing))
    }

    fn manifest(&self, carrying: &Carrying, ending: Ending) -> Manifest {
        let encrypted = carrying.protection.encrypted();
        let clear = self.header.bastion.in_clear(encrypted);
        let writing = self.lock();
        Manifest {
            version: VERSION,
            state: State::Complete,
            reason: None,
            ending: Some(ending),
            closed: self.now(),
            cast: CastSummary::of(carrying.plain_cast),
            totals: writing.totals,
            leases: writing.leases.clone(),
            requests: RequestsSummary::of(&writing.tally, CastSummary::of(carrying.plain_requests)),
            coverage: Coverage::of(&self.header.bastion),
            encrypted,
            files: BTreeMap::new(),
            log_head: Some(self.recorder.notary().head()),
            session: clear.metadata,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Writing {
    fn waiting(&self) -> usize {
        self.cast.len().saturating_add(self.requests.len())
    }

    /// Bytes of all lines until now.
    fn bytes(&self) -> u64 {
        self.left_bytes.saturating_add(self.waiting() as u64)
    }

    /// The batch that takes everything that waits now.
    fn next_batch(&self) -> u64 {
        self.left.saturating_add(u64::from(self.waiting() > 0))
    }

    fn check_not_failed(&self) -> Result<(), RecordingError> {
        match &self.stage {
            Stage::Failed(first) => Err(RecordingError::Failed {
                first: first.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn check_open(&self) -> Result<(), RecordingError> {
        self.check_not_failed()?;
        match self.stage {
            Stage::Open => Ok(()),
            _ => Err(RecordingError::Sealed),
        }
    }

    fn last_events(&mut self, at: Duration, ending: &Ending) -> Result<(), RecordingError> {
        let said = serde_json::to_string(ending)?;
        self.encoder.finish_output(at, &mut self.cast);
        if let Input::Digest(digest) = &self.input {
            let digest = serde_json::json!({
                "length": self.totals.stdin_bytes,
                "sha256": hex(digest.clone().finish().as_ref()),
            });
            self.encoder
                .event(at, code::INPUT_DIGEST, &digest.to_string(), &mut self.cast);
        }
        let status = ending.exit_status();
        if !matches!(ending, Ending::Exit(code) if Some(*code) == status) {
            self.encoder.event(at, code::ENDING, &said, &mut self.cast);
        }
        if let Some(status) = status {
            self.encoder
                .event(at, code::EXIT, &status.to_string(), &mut self.cast);
        }
        Ok(())
    }
}

fn sealed(manifest: &Manifest) -> Sealed {
    let totals = &manifest.totals;
    Sealed {
        checkpoint: String::new(),
        cast_bytes: manifest.cast.bytes,
        output_bytes: totals.stdout_bytes.saturating_add(totals.stderr_bytes),
        input_bytes: totals.stdin_bytes,
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
