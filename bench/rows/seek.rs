//! Jumps in a recording of a working day: what `replay` does between being told a moment and showing the screen of it.
//!
//! The recording is made by the recorder itself, under a clock that is moved, and packed and encrypted as the daemon does
//! it. What is timed is a replay that begins at a moment and is left at once: it opens the recording, too.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{Name, RecordInput};
use bastion_audit::log::EvidenceLog;
use bastion_audit::notary::DaemonNotary;
use bastion_audit::recording::{
    Ending, Entry, Identities, Keeping, Metadata, Notary, NotaryError, Packer, Recipients,
    Recorder, Recordings, Stream, ToPack,
};
use bastion_audit::replay::{self, Key, Play};
use bastion_audit::session::SessionId;
use bastion_audit::signing::{FileSigner, KeyName, NoteKind, Signing, create_key};
use bastion_audit::store::room::Room;
use bastion_audit::store::{
    Beginning, FsStore, Lines, Part, RecordingSink, RecordingStore, Span, StoreError, StoredFiles,
};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use crate::files::Content;
use crate::stage::Stage;
use crate::stats::percentile;
use crate::table::{Measured, Reach, Unit};

/// Between two pieces of output.
const STEP: Duration = Duration::from_millis(250);
/// What a second of the session writes, so that 8 hours come to 500 MB.
const A_SECOND: usize = 500_000_000 / (8 * 3600);
/// What is written over and over: more than is packed at a time.
const TEXT: u64 = 4 << 20;
const OPENED: &str = "2026-11-24T08:00:00Z";

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let hours: u32 = stage.of(8, 2);
    let span = Duration::from_secs(3600) * hours;
    let state = stage.dir.join("seek");
    std::fs::create_dir(&state)?;
    let identity = age::x25519::Identity::generate();
    let (path, _) = stage.file(Content::Text, TEXT)?;
    let text = std::fs::read_to_string(&path)?.replace('\n', "\r\n");
    std::fs::remove_file(path)?;

    let recorded = record(&state, &identity, text.as_bytes(), span)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let times = runtime.block_on(async {
        recorded.packer.pack(recorded.sealed).await?;
        let store = Arc::new(recorded.store);
        let identities = Identities::new(vec![Box::new(identity)]);
        let recordings = Recordings::new(store, identities);
        jumps(&recordings, recorded.session, span, stage.of(300, 100)).await
    })?;
    let bytes = std::fs::metadata(recorded.directory.join(Part::CastEncrypted.name()))?.len();
    crate::say(&format!("it is {} MB when packed", bytes / 1_000_000));
    std::fs::remove_dir_all(state)?;
    let megabytes = A_SECOND as u64 * span.as_secs() / 1_000_000;
    let row = |work: &str, share, reach| Measured {
        work: format!("a jump in {hours} hours and {megabytes} MB, encrypted, {work}"),
        unit: Unit::Milliseconds,
        ours: percentile(&times, share),
        peer: None,
        reach,
    };
    Ok(vec![
        row("p50", 0.5, Reach::Nothing),
        row("p99", 0.99, Reach::Under(100.0)),
    ])
}

/// Milliseconds of each.
async fn jumps(
    recordings: &Recordings,
    session: SessionId,
    span: Duration,
    jumps: u32,
) -> anyhow::Result<Vec<f64>> {
    let seconds = span.as_secs();
    let mut times = Vec::new();
    for jump in 0..u64::from(jumps) {
        // All over the session, in no order.
        let at = Duration::from_secs((jump * 7919 + 4243) * 104_729 % seconds);
        let (press, mut keys) = mpsc::channel(1);
        press.send(Key::Quit).await?;
        let mut screen = Vec::new();
        let how = Play {
            at,
            ..Play::default()
        };
        let began = Instant::now();
        replay::play(recordings, session, &mut screen, &mut keys, how).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        let shown = String::from_utf8_lossy(&screen);
        anyhow::ensure!(shown.contains("Running"), "nothing is shown at {at:?}");
    }
    Ok(times)
}

struct Recorded {
    session: SessionId,
    directory: PathBuf,
    sealed: ToPack,
    store: FsStore,
    packer: Packer,
}

/// Eight hours in a minute.
fn record(
    state: &Path,
    identity: &age::x25519::Identity,
    text: &[u8],
    span: Duration,
) -> anyhow::Result<Recorded> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let key = state.join("key");
    create_key(&key, &KeyName::of(&Name::new("bench")?))?;
    let signing = Signing::new(Arc::new(FileSigner::open(&key)?))?;
    let log = state.join("log");
    let log = EvidenceLog::open(&log, signing.clone(), &*clock, Room::default())?;
    let notary: Arc<dyn Notary> = Arc::new(AtOnce {
        signing: signing.clone(),
        notary: DaemonNotary::new(signing, log, clock),
    });
    let about = about()?;
    let session = about.session;
    let directory = state
        .join("recordings/2026/11/24")
        .join(session.to_string());
    let store = FsStore::new(state);
    let unsynced = Unsynced {
        store: store.clone(),
        directory: directory.clone(),
    };
    let (packs, mut sealed) = mpsc::channel(1);
    let recorder = Recorder::new(Arc::new(unsynced), Arc::clone(&notary)).with_packer(packs);
    let recipients = Recipients::new(vec![identity.to_public().to_string().parse()?]);
    let keeping = Keeping {
        recipients: Some(Arc::new(recipients.context("nobody can read it")?)),
        ..Keeping::clear(RecordInput::Auto)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        // As long as there is always something to do, the clock moves only when it is moved.
        let busy = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let recording = recorder.open(about, keeping).await?;
        let piece = A_SECOND * STEP.as_millis() as usize / 1000;
        let pieces = span.as_millis() / STEP.as_millis();
        for (_, piece) in (0..pieces).zip(text.chunks_exact(piece).cycle()) {
            recording.output(Stream::Stdout, piece).await?;
            tokio::time::advance(STEP).await;
        }
        recording.seal(Ending::Exit(0)).await?;
        busy.abort();
        anyhow::Ok(())
    })?;
    Ok(Recorded {
        session,
        directory,
        sealed: sealed.try_recv()?,
        packer: Packer::new(store.clone(), notary),
        store,
    })
}

fn about() -> anyhow::Result<Metadata> {
    let session = SessionId::new(OPENED.parse()?);
    let about = json!({
        "session": session,
        "instance": "bench",
        "identity": "operator",
        "groups": ["sre"],
        "fingerprint": "SHA256:bench",
        "role": "viewer",
        "binding": "sre",
        "cluster": "prod",
        "subject": "system:serviceaccount:bastion-viewer:viewer",
        "kind": "shell",
        "client": {"address": "127.0.0.1:50000", "client": "SSH-2.0-bench"},
        "terminal": {"term": "xterm-256color", "size": {"cols": 132, "rows": 43}, "modes": []},
        "configDigest": "00",
        "opened": OPENED,
        "ends": "2026-11-24T17:00:00Z",
    });
    Ok(serde_json::from_value(about)?)
}

/// The daemon's notary, but signing at once: the clock may be moved beyond what a signature may take.
#[derive(Debug)]
struct AtOnce {
    signing: Signing,
    notary: DaemonNotary,
}

#[async_trait]
impl Notary for AtOnce {
    async fn sign(&self, statement: String) -> Result<String, NotaryError> {
        let first = self.signing.first_line(NoteKind::Recording);
        let signed = self.signing.sign_blocking(&format!("{first}\n{statement}"));
        let signed = signed.map_err(|error| NotaryError::Sign(Box::new(error)))?;
        Ok(signed.as_str().to_owned())
    }

    async fn enter(&self, entry: Entry) -> Result<(), NotaryError> {
        self.notary.enter(entry).await
    }

    fn head(&self) -> String {
        self.notary.head()
    }

    fn is_ours(&self, note: &str) -> bool {
        self.notary.is_ours(note)
    }
}

/// A store whose checkpoints do not wait for a sync, of which there would be 30,000.
#[derive(Debug)]
struct Unsynced {
    store: FsStore,
    directory: PathBuf,
}

#[derive(Debug)]
struct UnsyncedSink {
    sink: Arc<dyn RecordingSink>,
    checkpoints: File,
}

#[async_trait]
impl RecordingStore for Unsynced {
    async fn create(
        &self,
        id: SessionId,
        beginning: Beginning,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        let sink = self.store.create(id, beginning).await?;
        let path = self.directory.join(Part::Checkpoints.name());
        let checkpoints = File::options()
            .append(true)
            .open(path)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Arc::new(UnsyncedSink { sink, checkpoints }))
    }

    async fn open(&self, id: SessionId) -> Result<Box<dyn StoredFiles>, StoreError> {
        self.store.open(id).await
    }

    async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError> {
        self.store.list(span).await
    }
}

#[async_trait]
impl RecordingSink for UnsyncedSink {
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError> {
        Arc::clone(&self.sink).append(lines).await
    }

    async fn checkpoint(self: Arc<Self>, note: Bytes) -> Result<(), StoreError> {
        (&self.checkpoints)
            .write_all(&note)
            .map_err(|error| StoreError::Failed(error.to_string()))
    }

    async fn seal(self: Arc<Self>, note: Bytes, manifest: Bytes) -> Result<(), StoreError> {
        Arc::clone(&self.sink).seal(note, manifest).await
    }
}
