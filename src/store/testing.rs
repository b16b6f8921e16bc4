//! Recordings and stores for the tests of what becomes of recordings.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;

use super::room::Room;
use super::s3::testing::{ACCESS_KEY, BUCKET, SECRET_KEY, Server};
use super::s3::{Bucket, S3Store};
use super::{FsStore, Part};
use crate::audit::Audit;
use crate::clock::{Clock, ManualClock};
use crate::config::{RecordInput, S3};
use crate::recording::roundtrip::metadata;
use crate::recording::{
    Ending, Metadata, Notary as _, OpenRecording, Standing, Stream, statement, testing,
};
use crate::session::SessionId;

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A state directory with its clock and its audit log.
pub(crate) struct State {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) audit: Audit,
    pub(crate) local: FsStore,
}

impl State {
    /// At the moment at which the recordings that it makes are closed.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::new(at("2026-11-26T12:00:00Z")));
        let log = dir.path().join("audit.jsonl");
        let signing = crate::signing::testing::signing();
        let audit = Audit::open(
            &log,
            dir.path(),
            "main",
            signing,
            clock.clone(),
            Room::new(dir.path()),
        )
        .unwrap();
        let local = FsStore::new(dir.path());
        Self {
            dir,
            clock,
            audit,
            local,
        }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// The events on record whose name begins so.
    pub(crate) fn events(&self, prefix: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap();
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let named =
            |event: &serde_json::Value| event["event"].as_str().unwrap().starts_with(prefix);
        events.filter(named).collect()
    }

    pub(crate) fn directory(&self, id: SessionId) -> PathBuf {
        let day = id.opened().strftime("%Y/%m/%d").to_string();
        self.dir
            .path()
            .join("recordings")
            .join(day)
            .join(id.to_string())
    }

    /// A recording that goes on.
    pub(crate) async fn live(&self, edit: impl FnOnce(&mut Metadata)) -> OpenRecording {
        let mut metadata = metadata(true);
        edit(&mut metadata);
        let recording = testing::open(&self.local, metadata, RecordInput::Auto)
            .await
            .unwrap();
        recording
            .output(Stream::Stdout, b"hello\r\n")
            .await
            .unwrap();
        recording
    }

    /// A recording that has come to rest, closed at the clock's time. With a packed cast of so many bytes, if any.
    pub(crate) async fn closed(&self, large: usize, edit: impl FnOnce(&mut Metadata)) -> SessionId {
        let recording = self.live(edit).await;
        recording.seal(Ending::Exit(0)).await.unwrap();
        let id = recording.id();
        let directory = self.directory(id);
        let path = directory.join(Part::Manifest.name());
        let text = std::fs::read_to_string(&path).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        // As recovery leaves it, which is at rest whatever packs the others.
        manifest["state"] = "interrupted".into();
        manifest["closed"] = self.clock.now().to_string().into();
        let json = serde_json::to_vec(&manifest).unwrap();
        sign_again(&directory, statement::sha256(&json)).await;
        std::fs::write(&path, json).unwrap();
        if large > 0 {
            write(&directory.join(Part::CastPacked.name()), &noise(large));
        }
        id
    }

    pub(crate) fn settings(&self, server: &Server) -> S3 {
        let credentials = self.dir.path().join("credentials");
        if !credentials.exists() {
            let text =
                format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
            write(&credentials, text.as_bytes());
        }
        S3 {
            bucket: BUCKET.to_owned(),
            prefix: "main".to_owned(),
            region: "eu-test-1".to_owned(),
            endpoint: Some(server.endpoint()),
            ca_file: None,
            credentials_file: Some(credentials),
            sse: None,
            object_lock: None,
            keep_local: None,
        }
    }

    pub(crate) fn bucket(&self, server: &Server) -> Arc<Bucket> {
        Arc::new(
            Bucket::patient(
                &self.settings(server),
                self.clock(),
                std::time::Duration::from_secs(2),
            )
            .unwrap(),
        )
    }

    pub(crate) fn store(&self, bucket: &Arc<Bucket>) -> S3Store {
        S3Store::new(self.local.clone(), Arc::clone(bucket))
    }
}

/// Has a sealed recording's last checkpoint say that it was interrupted, with this manifest.
async fn sign_again(directory: &Path, manifest: String) {
    let path = directory.join(Part::Checkpoints.name());
    let (mut notes, _, _) = statement::read_whole(std::fs::File::open(&path).unwrap()).unwrap();
    let said = notes.pop().unwrap().statement;
    let mut chain = statement::Chain::after(notes.last().unwrap());
    let standing = Standing::Interrupted {
        manifest,
        reason: "the daemon ended before the session did".to_owned(),
        missing: Vec::new(),
    };
    let text = chain.text(said.at, said.files, standing).unwrap();
    let note = chain.signed(&testing::TestNotary::new().sign(text).await.unwrap());
    let kept: Vec<String> = notes.iter().map(|it| format!("{}\n", it.note)).collect();
    std::fs::write(&path, [kept.concat().as_bytes(), &note].concat()).unwrap();
}

/// Bytes that no two parts have in common.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

fn write(path: &Path, bytes: &[u8]) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}
