//! What is known of a recording that is being written, and its lines on their way to the store.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use jiff::SignedDuration;

use super::code;
use super::encode::Encoder;
use super::error::RecordingError;
use super::header::{Header, VERSION};
use super::manifest::{
    CastSummary, Coverage, Ending, InputCoverage, LeaseRecord, Manifest, State, Totals,
};
use super::requests::{RequestsSummary, Tally};
use crate::clock;
use crate::store::{Lines, RecordingSink, StoreError};

/// Lines that wait for the store. Whoever finds more than this waiting, waits first: callers that went away leave
/// theirs behind, and nobody bounds how many those are.
const MAX_WAITING: usize = 1 << 20;

/// One recording. Two locks: what happens is put into lines under the first, which is never held while waiting;
/// lines are carried to the store under the second, all that have come together meanwhile at once.
pub(super) struct Inner {
    pub(super) header: Header,
    sink: Arc<dyn RecordingSink>,
    started: tokio::time::Instant,
    writing: Mutex<Writing>,
    carrying: tokio::sync::Mutex<Carrying>,
}

/// What is under the first lock.
pub(super) struct Writing {
    pub(super) encoder: Encoder,
    pub(super) input: Input,
    pub(super) totals: Totals,
    pub(super) leases: Vec<LeaseRecord>,
    pub(super) tally: Tally,
    /// Lines that wait, of the cast and of the request index.
    pub(super) cast: Vec<u8>,
    pub(super) requests: Vec<u8>,
    /// How many batches have left; what waits goes with the next.
    left: u64,
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

/// What is under the second lock.
struct Carrying {
    cast: Stored,
    requests: Stored,
    /// The last batch that has arrived.
    arrived: u64,
    /// The append under way. Kept here, so that it goes on when its caller goes away.
    under_way: Option<StoreFuture>,
    sealing: Option<(Sealed, StoreFuture)>,
}

type StoreFuture = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A file as far as it has been handed to the store.
struct Stored {
    bytes: u64,
    digest: digest::Context,
}

impl Stored {
    fn of(lines: &[u8]) -> Self {
        let mut stored = Self {
            bytes: 0,
            digest: digest::Context::new(&SHA256),
        };
        stored.add(lines);
        stored
    }

    fn add(&mut self, lines: &[u8]) {
        self.digest.update(lines);
        self.bytes = self.bytes.saturating_add(lines.len() as u64);
    }

    fn summary(&self) -> CastSummary {
        CastSummary {
            bytes: self.bytes,
            sha256: hex(self.digest.clone().finish().as_ref()),
        }
    }
}

/// What a sealed recording came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// SHA-256 of the cast as stored, hex.
    pub sha256: String,
    /// Size of the cast as stored.
    pub cast_bytes: u64,
    /// Bytes of output, both streams.
    pub output_bytes: u64,
    /// Bytes of input, recorded or not.
    pub input_bytes: u64,
}

impl Inner {
    pub(super) fn new(
        header: Header,
        first_line: &[u8],
        sink: Arc<dyn RecordingSink>,
        started: tokio::time::Instant,
    ) -> Self {
        let terminal = header.metadata().terminal.is_some();
        let input = match InputCoverage::of(terminal, header.bastion.record_input) {
            InputCoverage::Full => Input::Full,
            InputCoverage::Digest => Input::Digest(digest::Context::new(&SHA256)),
            InputCoverage::Off => Input::Off,
        };
        Self {
            header,
            sink,
            started,
            writing: Mutex::new(Writing {
                encoder: Encoder::new(terminal),
                input,
                totals: Totals::default(),
                leases: Vec::new(),
                tally: Tally::default(),
                cast: Vec::new(),
                requests: Vec::new(),
                left: 0,
                stage: Stage::Open,
            }),
            carrying: tokio::sync::Mutex::new(Carrying {
                cast: Stored::of(first_line),
                requests: Stored::of(&[]),
                arrived: 0,
                under_way: None,
                sealing: None,
            }),
        }
    }

    /// How long the session has been going on, by the clock that does not jump.
    pub(super) fn elapsed(&self) -> Duration {
        clock::monotonic().saturating_duration_since(self.started)
    }

    /// Puts something that happens now into lines, and returns when they have reached the kernel. If `put` fails,
    /// it must have added no lines.
    pub(super) async fn record<T>(
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
            let Some(lines) = self.take()? else {
                return Ok(());
            };
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
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The lines that wait.
    fn take(&self) -> Result<Option<Lines>, RecordingError> {
        let mut writing = self.lock();
        writing.check_not_failed()?;
        if writing.waiting() == 0 {
            return Ok(None);
        }
        writing.left = writing.left.saturating_add(1);
        Ok(Some(Lines {
            cast: std::mem::take(&mut writing.cast).into(),
            requests: std::mem::take(&mut writing.requests).into(),
        }))
    }

    fn fail(&self, error: StoreError) -> RecordingError {
        self.lock().stage = Stage::Failed(error.to_string());
        error.into()
    }

    /// Puts the end on record and closes the recording. May be called again after it was dropped midway.
    pub(super) async fn seal(&self, ending: Ending) -> Result<Sealed, RecordingError> {
        {
            let mut writing = self.lock();
            if matches!(writing.stage, Stage::Open) {
                let at = self.elapsed();
                writing.last_events(at, &ending)?;
                writing.stage = Stage::Ending(ending);
            }
        }
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
            let (cast, requests) = (carrying.cast.summary(), carrying.requests.summary());
            let manifest = self.manifest(ending, cast, requests);
            let json = Bytes::from(manifest.to_json()?);
            carrying.sealing = Some((sealed(&manifest), Arc::clone(&self.sink).seal(json)));
        }
        let Some((sealed, sealing)) = &mut carrying.sealing else {
            return Err(RecordingError::Sealed);
        };
        let sealed = sealed.clone();
        let result = sealing.await;
        carrying.sealing = None;
        match result {
            Ok(()) => {
                self.lock().stage = Stage::Sealed;
                Ok(sealed)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn manifest(&self, ending: Ending, cast: CastSummary, requests: CastSummary) -> Manifest {
        let length = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        let session = self.header.metadata().clone();
        let writing = self.lock();
        Manifest {
            version: VERSION,
            state: State::Complete,
            reason: None,
            ending: Some(ending),
            closed: session.opened.checked_add(length).unwrap_or(session.opened),
            cast,
            totals: writing.totals,
            leases: writing.leases.clone(),
            requests: RequestsSummary::of(&writing.tally, requests),
            coverage: Coverage::of(&self.header),
            session,
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
        sha256: manifest.cast.sha256.clone(),
        cast_bytes: manifest.cast.bytes,
        output_bytes: totals.stdout_bytes.saturating_add(totals.stderr_bytes),
        input_bytes: totals.stdin_bytes,
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
