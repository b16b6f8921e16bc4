//! A recording that is being written.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, MutexGuard};

use super::encode::Encoder;
use super::error::RecordingError;
use super::header::{Header, Metadata, VERSION};
use super::manifest::{
    CastSummary, Coverage, Ending, InputCoverage, LeaseRecord, Manifest, State, Totals,
};
use super::{Stream, code};
use crate::clock;
use crate::config::RecordInput;
use crate::messages::WindowSize;
use crate::session::SessionId;
use crate::store::{RecordingSink, RecordingStore, StoreError};

/// A recording that is being written. Clones write to the same one; events have the order of the calls.
///
/// Every call returns when what it was given has reached the kernel, or fails; after a failure all fail. A call
/// whose future is dropped has happened or not, as a whole, and the next call waits for it to end. There is no
/// recording that discards: whoever holds none of these cannot run a session.
#[derive(Clone)]
pub struct OpenRecording(Arc<Inner>);

struct Inner {
    id: SessionId,
    writing: Mutex<Writing>,
}

struct Writing {
    sink: Arc<dyn RecordingSink>,
    metadata: Metadata,
    record_input: RecordInput,
    started: tokio::time::Instant,
    encoder: Encoder,
    input: Input,
    stored: digest::Context,
    cast_bytes: u64,
    totals: Totals,
    leases: Vec<LeaseRecord>,
    stage: Stage,
    /// The append under way. Kept here, so that it goes on when its caller goes away.
    under_way: Option<StoreFuture>,
}

type StoreFuture = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

enum Stage {
    Open,
    /// The last events are written.
    Ending(Ending),
    Sealing(Sealed, StoreFuture),
    Sealed,
    Failed(String),
}

enum Input {
    Full,
    /// One digest of all of it, at its end: digests of single keystrokes would give them away.
    Digest(digest::Context),
    Off,
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

impl OpenRecording {
    /// Opens a recording. When this returns, it survives a power cut; if it fails, nothing may run.
    pub async fn open(
        store: &dyn RecordingStore,
        metadata: Metadata,
        record_input: RecordInput,
    ) -> Result<Self, RecordingError> {
        let id = metadata.session;
        let started = clock::monotonic();
        let terminal = metadata.terminal.is_some();
        let header = Header::new(metadata, record_input);
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        let line = Bytes::from(line);

        let sink = store.create(id, line.clone()).await?;
        let mut stored = digest::Context::new(&SHA256);
        stored.update(&line);
        let writing = Writing {
            sink,
            metadata: header.bastion.metadata,
            record_input,
            started,
            encoder: Encoder::new(terminal),
            input: match InputCoverage::of(terminal, record_input) {
                InputCoverage::Full => Input::Full,
                InputCoverage::Digest => Input::Digest(digest::Context::new(&SHA256)),
                InputCoverage::Off => Input::Off,
            },
            stored,
            cast_bytes: line.len() as u64,
            totals: Totals::default(),
            leases: Vec::new(),
            stage: Stage::Open,
            under_way: None,
        };
        Ok(Self(Arc::new(Inner {
            id,
            writing: Mutex::new(writing),
        })))
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// Records output. Call it before the bytes go to the client.
    pub async fn output(&self, stream: Stream, bytes: &[u8]) -> Result<(), RecordingError> {
        let mut writing = self.writing().await?;
        let at = writing.elapsed();
        let total = match stream {
            Stream::Stdout => &mut writing.totals.stdout_bytes,
            Stream::Stderr => &mut writing.totals.stderr_bytes,
        };
        *total = total.saturating_add(bytes.len() as u64);
        // Text grows by a line break here and there, base64 by a third.
        let mut lines = Vec::with_capacity(bytes.len() + bytes.len() / 2 + 64);
        writing.encoder.output(at, stream, bytes, &mut lines);
        writing.append(lines).await
    }

    /// Records input, as far as the role has it recorded. Call it before the command reads the bytes.
    pub async fn input(&self, bytes: &[u8]) -> Result<(), RecordingError> {
        let mut writing = self.writing().await?;
        let at = writing.elapsed();
        writing.totals.stdin_bytes = writing
            .totals
            .stdin_bytes
            .saturating_add(bytes.len() as u64);
        let mut lines = Vec::new();
        let Writing { input, encoder, .. } = &mut *writing;
        match input {
            Input::Full => encoder.input(at, bytes, &mut lines),
            Input::Digest(digest) => digest.update(bytes),
            Input::Off => {}
        }
        writing.append(lines).await
    }

    /// Records that the client sends no more input.
    pub async fn input_end(&self) -> Result<(), RecordingError> {
        let mut writing = self.writing().await?;
        let at = writing.elapsed();
        let mut lines = Vec::new();
        writing
            .encoder
            .event(at, code::INPUT_END, "stdin", &mut lines);
        writing.append(lines).await
    }

    /// Records a new size of the terminal.
    pub async fn resize(&self, size: WindowSize) -> Result<(), RecordingError> {
        let mut writing = self.writing().await?;
        let at = writing.elapsed();
        let mut lines = Vec::new();
        writing.encoder.resize(at, size, &mut lines);
        writing.append(lines).await
    }

    /// Records a sentence of ours to the operator as a marker, so that it can be told from the command's output.
    /// At a terminal it is output as well: what the terminal showed.
    pub async fn notice(&self, text: &str) -> Result<(), RecordingError> {
        let mut writing = self.writing().await?;
        let at = writing.elapsed();
        let mut lines = Vec::new();
        writing.encoder.event(at, code::MARKER, text, &mut lines);
        writing.append(lines).await
    }

    /// Records that a credential was issued: its id, never itself. Call it before the credential is used.
    pub async fn lease(
        &self,
        jti: &str,
        audit_id: Option<&str>,
        expires: Timestamp,
    ) -> Result<(), RecordingError> {
        let mut writing = self.writing().await?;
        let at = writing.elapsed();
        let lease = LeaseRecord {
            jti: jti.to_owned(),
            audit_id: audit_id.map(str::to_owned),
            expires,
        };
        let mut lines = Vec::new();
        writing
            .encoder
            .event(at, code::LEASE, &serde_json::to_string(&lease)?, &mut lines);
        // One for each renewal, which are minutes apart: bounded by the length of the session.
        writing.leases.push(lease);
        writing.append(lines).await
    }

    /// Records the end and closes the recording for good. A call that was dropped midway may be made again.
    pub async fn seal(&self, ending: Ending) -> Result<Sealed, RecordingError> {
        let mut writing = self.0.writing.lock().await;
        writing.settle().await?;
        if matches!(writing.stage, Stage::Open) {
            let at = writing.elapsed();
            let mut lines = Vec::new();
            writing.last_events(at, &ending, &mut lines)?;
            writing.stage = Stage::Ending(ending);
            writing.append(lines).await?;
        }
        if let Stage::Ending(ending) = &writing.stage {
            let manifest = writing.manifest(ending.clone());
            let sealed = Sealed {
                sha256: manifest.cast.sha256.clone(),
                cast_bytes: manifest.cast.bytes,
                output_bytes: manifest
                    .totals
                    .stdout_bytes
                    .saturating_add(manifest.totals.stderr_bytes),
                input_bytes: manifest.totals.stdin_bytes,
            };
            let json = Bytes::from(manifest.to_json()?);
            let future = Arc::clone(&writing.sink).seal(json);
            writing.stage = Stage::Sealing(sealed, future);
        }
        match &mut writing.stage {
            Stage::Sealing(sealed, future) => {
                let sealed = sealed.clone();
                match future.await {
                    Ok(()) => {
                        writing.stage = Stage::Sealed;
                        Ok(sealed)
                    }
                    Err(error) => Err(writing.fail(error)),
                }
            }
            Stage::Failed(first) => Err(RecordingError::Failed {
                first: first.clone(),
            }),
            Stage::Open | Stage::Ending(_) | Stage::Sealed => Err(RecordingError::Sealed),
        }
    }

    /// What it was opened with, and how long ago.
    pub(super) async fn described(&self) -> (Metadata, RecordInput, Duration) {
        let writing = self.0.writing.lock().await;
        (
            writing.metadata.clone(),
            writing.record_input,
            writing.elapsed(),
        )
    }

    /// The right to write the next event.
    async fn writing(&self) -> Result<MutexGuard<'_, Writing>, RecordingError> {
        let mut writing = self.0.writing.lock().await;
        writing.settle().await?;
        match &writing.stage {
            Stage::Open => Ok(writing),
            Stage::Failed(first) => Err(RecordingError::Failed {
                first: first.clone(),
            }),
            Stage::Ending(_) | Stage::Sealing(..) | Stage::Sealed => Err(RecordingError::Sealed),
        }
    }
}

impl Writing {
    fn elapsed(&self) -> Duration {
        clock::monotonic().saturating_duration_since(self.started)
    }

    /// Waits for an append whose caller went away.
    async fn settle(&mut self) -> Result<(), RecordingError> {
        let Some(append) = &mut self.under_way else {
            return Ok(());
        };
        let result = append.await;
        self.under_way = None;
        result.map_err(|error| self.fail(error))
    }

    async fn append(&mut self, lines: Vec<u8>) -> Result<(), RecordingError> {
        if lines.is_empty() {
            return Ok(());
        }
        let lines = Bytes::from(lines);
        let mut append = Arc::clone(&self.sink).append(lines.clone());
        // A first push sets the write going; it and the digest then take the same time.
        let mut at_once = None;
        poll_fn(|context| {
            if let Poll::Ready(result) = append.as_mut().poll(context) {
                at_once = Some(result);
            }
            Poll::Ready(())
        })
        .await;
        self.stored.update(&lines);
        self.cast_bytes = self.cast_bytes.saturating_add(lines.len() as u64);
        drop(lines);
        match at_once {
            Some(result) => result.map_err(|error| self.fail(error)),
            None => {
                self.under_way = Some(append);
                self.settle().await
            }
        }
    }

    fn fail(&mut self, error: StoreError) -> RecordingError {
        self.under_way = None;
        self.stage = Stage::Failed(error.to_string());
        error.into()
    }

    fn last_events(
        &mut self,
        at: Duration,
        ending: &Ending,
        lines: &mut Vec<u8>,
    ) -> Result<(), RecordingError> {
        self.encoder.finish_output(at, lines);
        if let Input::Digest(digest) = &self.input {
            let digest = serde_json::json!({
                "length": self.totals.stdin_bytes,
                "sha256": hex(digest.clone().finish().as_ref()),
            });
            self.encoder
                .event(at, code::INPUT_DIGEST, &digest.to_string(), lines);
        }
        let status = ending.exit_status();
        if !matches!(ending, Ending::Exit(code) if Some(*code) == status) {
            self.encoder
                .event(at, code::ENDING, &serde_json::to_string(ending)?, lines);
        }
        if let Some(status) = status {
            self.encoder
                .event(at, code::EXIT, &status.to_string(), lines);
        }
        Ok(())
    }

    fn manifest(&self, ending: Ending) -> Manifest {
        // The length of the session by the clock that does not jump.
        let length = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        let opened = self.metadata.opened;
        Manifest {
            version: VERSION,
            state: State::Complete,
            reason: None,
            ending: Some(ending),
            closed: opened.checked_add(length).unwrap_or(opened),
            cast: CastSummary {
                bytes: self.cast_bytes,
                sha256: hex(self.stored.clone().finish().as_ref()),
            },
            totals: self.totals,
            leases: self.leases.clone(),
            coverage: Coverage::of(&self.metadata, self.record_input),
            session: self.metadata.clone(),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Debug for OpenRecording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenRecording").field(&self.0.id).finish()
    }
}
