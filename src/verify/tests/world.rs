//! A daemon's recordings, key and log, and the same in memory, where they are changed faster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::clock::{Clock, ManualClock};
use crate::config::RecordInput;
use crate::log::{EvidenceLog, Leaf, LogReader};
use crate::notary::DaemonNotary;
use crate::recording::requests::{Intent, RequestSummary};
use crate::recording::roundtrip::metadata;
use crate::recording::testing::{checkpoint, leave, to_pack};
use crate::recording::{
    Ending, Entry, Identities, Keeping, Notary, NotaryError, OpenRecording, Packer, Recipients,
    Recorder, Recordings, Stream,
};
use crate::session::SessionId;
use crate::signing::testing::signer;
use crate::signing::{Keys, Signing};
use crate::store::{
    Beginning, FsStore, Part, RecordingSink, RecordingStore, Span, StoreError, StoredFile,
    StoredFiles,
};
use crate::verify::{Entries, Verdict, recording};

/// A daemon's state.
pub(super) struct World {
    pub(super) state: TempDir,
    pub(super) store: FsStore,
    pub(super) signing: Signing,
    pub(super) log: EvidenceLog,
    pub(super) notary: Arc<DaemonNotary>,
    pub(super) identity: age::x25519::Identity,
}

/// A sort of recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sort {
    pub(super) terminal: bool,
    pub(super) requests: bool,
    pub(super) encrypted: bool,
    pub(super) packed: bool,
}

/// In clear and encrypted, packed and not, with requests and without, with a terminal and without.
pub(super) const SORTS: [Sort; 8] = {
    let mut sorts = [Sort {
        terminal: false,
        requests: false,
        encrypted: false,
        packed: false,
    }; 8];
    let mut n = 0;
    while n < 8 {
        sorts[n].encrypted = n & 1 > 0;
        sorts[n].packed = n & 2 > 0;
        sorts[n].terminal = n & 4 > 0;
        sorts[n].requests = n == 0 || n == 3 || n == 5 || n == 6;
        n += 1;
    }
    sorts
};

/// So small that even a short session has several frames.
const FRAME: usize = 700;

impl World {
    pub(super) fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let signing = Signing::new(Arc::new(signer(state.path(), "key"))).unwrap();
        Self::over(state, signing)
    }

    pub(super) fn over(state: TempDir, signing: Signing) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now()));
        let log = EvidenceLog::open(
            &state.path().join("log"),
            signing.clone(),
            &*clock,
            crate::store::room::Room::default(),
        )
        .unwrap();
        let notary = DaemonNotary::new(signing.clone(), log.clone(), Arc::clone(&clock));
        Self {
            store: FsStore::new(state.path()),
            notary: Arc::new(notary),
            identity: age::x25519::Identity::generate(),
            state,
            signing,
            log,
        }
    }

    /// As a start of the daemon does.
    pub(super) async fn start(&self) {
        let (version, key) = (String::new(), self.signing.key().clone());
        let at = now();
        let started = Leaf::Started { at, version, key };
        self.log.append(started).await.unwrap();
    }

    pub(super) fn keys(&self) -> &Keys {
        self.signing.keys()
    }

    pub(super) fn directory(&self, id: SessionId) -> std::path::PathBuf {
        self.store.directory(id)
    }

    fn keeping(&self, sort: Sort) -> Keeping {
        let to = self.identity.to_public().to_string().parse().unwrap();
        Keeping {
            recipients: sort
                .encrypted
                .then(|| Arc::new(Recipients::new(vec![to]).unwrap())),
            ..Keeping::clear(RecordInput::Always)
        }
    }

    /// One that goes on, with three checkpoints and something that none covers.
    pub(super) async fn open(&self, sort: Sort) -> OpenRecording {
        let recorder = Recorder::new(Arc::new(self.store.clone()), self.notary.clone());
        self.open_with(recorder, sort).await
    }

    pub(super) async fn open_with(&self, recorder: Recorder, sort: Sort) -> OpenRecording {
        let mut about = metadata(sort.terminal);
        // Another one with each call, also within one millisecond.
        about.session = SessionId::new(about.opened);
        let recording = recorder.open(about, self.keeping(sort)).await.unwrap();
        for round in 0..3 {
            for line in 0..4 {
                let text = format!("round {round} line {line} \u{20ac} of what is shown\r\n");
                let stream = match line % 2 == 1 && !sort.terminal {
                    true => Stream::Stderr,
                    false => Stream::Stdout,
                };
                recording.output(stream, text.as_bytes()).await.unwrap();
                recording
                    .output(stream, &[0xff, line, round])
                    .await
                    .unwrap();
            }
            recording.input(b"typed\n").await.unwrap();
            if sort.requests {
                recording.intent(request()).await.unwrap();
            }
            if round < 2 {
                checkpoint(&recording).await;
            }
        }
        recording
    }

    /// One that is sealed, and packed if it is to be.
    pub(super) async fn sealed(&self, sort: Sort) -> SessionId {
        let (sealed, packs) = mpsc::channel(1);
        let recorder = Recorder::new(Arc::new(self.store.clone()), self.notary.clone());
        let recording = self.open_with(recorder.with_packer(sealed), sort).await;
        recording.seal(Ending::Exit(0)).await.unwrap();
        if sort.packed {
            let packer = Packer::new(self.store.clone(), self.notary.clone());
            let packer = packer.with_frames_of(FRAME);
            packer.pack(to_pack(packs)).await.unwrap();
        }
        recording.id()
    }

    /// One in clear that is sealed before it has any checkpoint but its first, and packed in several frames.
    pub(super) async fn sealed_at_once(&self) -> SessionId {
        let (sealed, packs) = mpsc::channel(1);
        let recorder = Recorder::new(Arc::new(self.store.clone()), self.notary.clone());
        let mut about = metadata(false);
        about.session = SessionId::new(about.opened);
        let keeping = Keeping::clear(RecordInput::Always);
        let recorder = recorder.with_packer(sealed);
        let recording = recorder.open(about, keeping).await.unwrap();
        for line in 0..40 {
            let text = format!("line {line} of what is shown all at once\n");
            recording
                .output(Stream::Stdout, text.as_bytes())
                .await
                .unwrap();
        }
        recording.intent(request()).await.unwrap();
        recording.seal(Ending::Exit(0)).await.unwrap();
        let packer = Packer::new(self.store.clone(), self.notary.clone());
        let packer = packer.with_frames_of(FRAME);
        packer.pack(to_pack(packs)).await.unwrap();
        recording.id()
    }

    /// One that a daemon left behind that was killed.
    pub(super) async fn left(&self, sort: Sort) -> SessionId {
        leave(self.open(sort).await).await
    }

    /// Puts on record that retention deletes one. Its files are still there.
    pub(super) async fn deletes(&self, session: SessionId) {
        let leaf = Leaf::Deleted {
            session,
            at: now(),
            who: "retention".to_owned(),
            why: "30d after it was closed".to_owned(),
        };
        self.log.append(leaf).await.unwrap();
    }

    pub(super) fn entries(&self) -> Entries {
        read_log(&self.state.path().join("log"), self.keys()).1
    }

    /// Its recordings on disk, with the key to what is encrypted.
    pub(super) fn recordings(&self) -> Recordings {
        Recordings::new(Arc::new(self.store.clone()), self.identities())
    }

    pub(super) fn identities(&self) -> Identities {
        Identities::new(vec![Box::new(self.identity.clone())])
    }

    pub(super) async fn verdict(&self, id: SessionId) -> Verdict {
        let entries = self.entries();
        recording(&self.recordings(), id, self.keys(), Some(&entries))
            .await
            .unwrap()
    }

    /// What the next start of a daemon does.
    pub(super) async fn recover(&self) -> Vec<crate::store::fs::Interrupted> {
        let unsealed = crate::store::fs::unsealed(&self.store).await.unwrap();
        let entries = self.entries();
        let is_open = |id: &SessionId| {
            let entry = entries.of(*id);
            entry.is_some_and(|it| it.opened.is_some() && it.closed.is_empty())
        };
        let in_log = crate::store::fs::InLog {
            open: entries.sessions().filter(is_open).collect(),
            closed: (unsealed.iter().copied())
                .filter(|id| entries.of(*id).is_some_and(|it| !it.closed.is_empty()))
                .collect(),
        };
        crate::store::fs::recover(&self.store, &unsealed, &in_log, &*self.notary, now())
            .await
            .unwrap()
    }
}

pub(super) fn now() -> Timestamp {
    "2026-11-25T00:00:00Z".parse().unwrap()
}

fn request() -> Intent {
    Intent {
        audit_id: "of-a-request".to_owned(),
        method: "GET".to_owned(),
        path: "/api/v1/pods".to_owned(),
        info: RequestSummary {
            is_resource: true,
            verb: "list".to_owned(),
            resource: "pods".to_owned(),
            ..RequestSummary::default()
        },
        ..Intent::default()
    }
}

pub(super) fn read_log(directory: &Path, keys: &Keys) -> (LogReader, Entries) {
    let mut entries = Entries::default();
    let reader = LogReader::open(directory, keys, |position, leaf| {
        if position.0 == 0 {
            entries.clear();
        }
        entries.add(position, leaf);
    });
    (reader.unwrap(), entries)
}

/// Signs as the daemon does, and tells its log nothing.
#[derive(Debug)]
pub(super) struct Unlogged(pub(super) Arc<DaemonNotary>);

#[async_trait]
impl Notary for Unlogged {
    async fn sign(&self, statement: String) -> Result<String, NotaryError> {
        self.0.sign(statement).await
    }

    async fn enter(&self, _entry: Entry) -> Result<(), NotaryError> {
        Ok(())
    }

    fn head(&self) -> String {
        self.0.head()
    }

    fn is_ours(&self, note: &str) -> bool {
        self.0.is_ours(note)
    }
}

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Recordings in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(pub(super) BTreeMap<SessionId, Files>);

impl Memory {
    pub(super) fn of(world: &World, ids: &[SessionId]) -> Self {
        Self(
            ids.iter()
                .map(|id| (*id, files(&world.directory(*id))))
                .collect(),
        )
    }

    pub(super) async fn verdict(
        &self,
        world: &World,
        log: Option<&Entries>,
        id: SessionId,
    ) -> Verdict {
        let recordings = Recordings::new(Arc::new(self.clone()), Identities::default());
        recording(&recordings, id, world.keys(), log).await.unwrap()
    }
}

pub(super) fn files(directory: &Path) -> Files {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

pub(super) fn put(directory: &Path, files: &Files) {
    drop(std::fs::remove_dir_all(directory));
    std::fs::create_dir_all(directory).unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}

#[async_trait]
impl RecordingStore for Memory {
    async fn create(
        &self,
        id: SessionId,
        _beginning: Beginning,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        Err(StoreError::Exists(id))
    }

    async fn open(&self, id: SessionId) -> Result<Box<dyn StoredFiles>, StoreError> {
        let files = self.0.get(&id).ok_or(StoreError::NotFound(id))?;
        Ok(Box::new(Held(files.clone())))
    }

    async fn list(&self, _span: Span) -> Result<Vec<SessionId>, StoreError> {
        Ok(self.0.keys().rev().copied().collect())
    }
}

struct Held(Files);

#[async_trait]
impl StoredFiles for Held {
    async fn read(&self, part: Part) -> Result<Option<StoredFile>, StoreError> {
        Ok(self.0.get(part.name()).map(|bytes| StoredFile {
            bytes: bytes.len() as u64,
            reader: Box::new(std::io::Cursor::new(bytes.clone())),
        }))
    }

    async fn strangers(&self) -> Result<Vec<String>, StoreError> {
        let names = self.0.keys().filter(|name| Part::named(name).is_none());
        Ok(names.cloned().collect())
    }
}
