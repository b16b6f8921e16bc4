use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bytes::Bytes;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use super::layout::Begun;
use super::*;
use crate::config::RecordInput;
use crate::recording::roundtrip::metadata;
use crate::recording::testing::{manifest, recordings, recover};
use crate::recording::{Ending, OpenRecording, State, Stream};
use crate::store::Part;

fn now() -> Timestamp {
    "2026-11-25T00:00:00Z".parse().unwrap()
}

async fn begun(store: &FsStore) -> OpenRecording {
    crate::recording::testing::open(store, metadata(true), RecordInput::Auto)
        .await
        .unwrap()
}

fn directory(state: &TempDir, id: SessionId) -> PathBuf {
    state
        .path()
        .join("recordings/2026/11/24")
        .join(id.to_string())
}

#[tokio::test]
async fn a_recording_is_a_private_directory_and_is_sealed() {
    let state = TempDir::new().unwrap();
    let store = FsStore::new(state.path());
    let recording = begun(&store).await;
    let id = recording.id();
    let directory = directory(&state, id);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;

    recording
        .output(Stream::Stdout, b"hello\r\n")
        .await
        .unwrap();
    // Written before the call returned.
    assert!(
        std::fs::read_to_string(directory.join("session.cast"))
            .unwrap()
            .ends_with("\"o\", \"hello\\r\\n\"]\n")
    );
    assert!(manifest(&store, id).await.is_none());
    let sealed = recording.seal(Ending::Exit(0)).await.unwrap();

    for path in directory.ancestors().take(5) {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    for file in ["session.cast", "checkpoints", "manifest.json"] {
        assert_eq!(mode(&directory.join(file)), 0o600);
    }
    let manifest = manifest(&store, id).await.unwrap();
    assert_eq!(manifest.state, State::Complete);

    let stored = recordings(&store).open(id).await.unwrap();
    let mut cast = Vec::new();
    stored
        .cast()
        .await
        .unwrap()
        .read_to_end(&mut cast)
        .await
        .unwrap();
    assert_eq!(cast.len() as u64, sealed.cast_bytes);
    assert_eq!(manifest.cast.bytes, sealed.cast_bytes);
}

#[tokio::test]
async fn many_recordings_go_through_one_thread() {
    let state = TempDir::new().unwrap();
    let store = Arc::new(FsStore::new(state.path()));
    let mut sessions = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let store = Arc::clone(&store);
        sessions.spawn(async move {
            let recording = begun(&store).await;
            for n in 0..50 {
                recording
                    .output(Stream::Stdout, format!("line {n}\n").as_bytes())
                    .await
                    .unwrap();
            }
            recording.seal(Ending::Exit(0)).await.unwrap();
            recording.id()
        });
    }
    let mut ids = sessions.join_all().await;
    ids.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(store.list(Span::default()).await.unwrap(), ids);
    for id in ids {
        let cast = std::fs::read_to_string(directory(&state, id).join("session.cast")).unwrap();
        assert_eq!(cast.lines().count(), 52);
    }
    assert!(recover(&store, now()).await.unwrap().is_empty());
}

#[tokio::test]
async fn lists_by_day_and_moment_and_ignores_strangers() {
    let state = TempDir::new().unwrap();
    let store = FsStore::new(state.path());
    let mut ids = Vec::new();
    for opened in [
        "2026-01-31T23:59:59.999Z",
        "2026-02-01T00:00:00Z",
        "2026-02-01T12:00:00Z",
    ] {
        let opened: Timestamp = opened.parse().unwrap();
        let mut metadata = metadata(false);
        metadata.session = SessionId::new(opened);
        metadata.opened = opened;
        crate::recording::testing::open(&store, metadata.clone(), RecordInput::Auto)
            .await
            .unwrap();
        ids.insert(0, metadata.session);
    }
    std::fs::create_dir(state.path().join("recordings/2026/02/01/lost+found")).unwrap();
    std::fs::write(state.path().join("recordings/notes.txt"), "x").unwrap();
    assert_eq!(store.list(Span::default()).await.unwrap(), ids);
    let span = |since: &str, until: &str| Span {
        since: since.parse().ok(),
        until: until.parse().ok(),
    };
    assert_eq!(
        store
            .list(span("2026-02-01T00:00:00Z", "2026-02-01T11:00:00Z"))
            .await
            .unwrap(),
        ids[1..2]
    );
    assert_eq!(
        store.list(span("", "2026-02-01T00:00:00Z")).await.unwrap(),
        ids[1..]
    );
    assert_eq!(
        FsStore::new(&state.path().join("none"))
            .list(Span::default())
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn what_a_crash_leaves_is_closed_as_interrupted_once() {
    let state = TempDir::new().unwrap();
    let store = FsStore::new(state.path());
    let recording = begun(&store).await;
    let id = recording.id();
    recording.output(Stream::Stdout, b"whole").await.unwrap();
    recording.lease("j1", None, now()).await.unwrap();
    let cast = directory(&state, id).join("session.cast");
    let whole = std::fs::read(&cast).unwrap();
    // As a crash leaves it: half a line, half a manifest, half a recording.
    std::fs::write(&cast, [whole.as_slice(), b"[0.1, \"o\", \"tor"].concat()).unwrap();
    std::fs::write(cast.with_file_name("manifest.json.new"), "{").unwrap();
    let draft = cast
        .parent()
        .unwrap()
        .with_file_name(format!(".new-{}", SessionId::new(now())));
    std::fs::create_dir(&draft).unwrap();

    let interrupted = recover(&store, now()).await.unwrap();
    assert_eq!(interrupted.len(), 1);
    assert_eq!((interrupted[0].session, interrupted[0].closed), (id, true));
    assert_eq!(std::fs::read(&cast).unwrap(), whole);
    assert!(!draft.exists());
    let found = manifest(&store, id).await.unwrap();
    assert_eq!(found.state, State::Interrupted);
    assert_eq!(found.ending, None);
    assert_eq!(found.leases.len(), 1);
    assert_eq!(found.totals.stdout_bytes, 5);
    assert_eq!(found.cast.bytes, whole.len() as u64);
    assert!(found.reason.unwrap().contains("2026-11-25T00:00:00Z"));

    assert!(recover(&store, now()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_recording_that_ended_but_was_not_sealed_is_not_called_complete() {
    let state = TempDir::new().unwrap();
    let store = FsStore::new(state.path());
    let recording = begun(&store).await;
    recording.seal(Ending::Exit(7)).await.unwrap();
    std::fs::remove_file(directory(&state, recording.id()).join("manifest.json")).unwrap();
    recover(&store, now()).await.unwrap();
    let found = manifest(&store, recording.id()).await.unwrap();
    assert_eq!(
        (found.state, found.ending),
        (State::Interrupted, Some(Ending::Exit(7)))
    );
}

#[tokio::test]
async fn damage_is_said_and_does_not_stop_the_start() {
    let state = TempDir::new().unwrap();
    let store = FsStore::new(state.path());
    let (one, two) = (begun(&store).await, begun(&store).await);
    one.output(Stream::Stdout, b"good").await.unwrap();
    let cast = |id| directory(&state, id).join("session.cast");
    let mut bytes = std::fs::read(cast(one.id())).unwrap();
    bytes.extend_from_slice(b"\0\0\0\n[0.0, \"o\", \"after\"]\n");
    std::fs::write(cast(one.id()), &bytes).unwrap();
    std::fs::write(cast(two.id()), "no header\n").unwrap();

    let found = recover(&store, now()).await.unwrap();
    assert_eq!(found.len(), 2);
    let reason = |id| {
        let found = found.iter().find(|found| found.session == id).unwrap();
        assert!(found.closed, "{}", found.reason);
        found.reason.clone()
    };
    assert!(reason(one.id()).contains("damaged at line 3"));
    assert_eq!(std::fs::read(cast(one.id())).unwrap(), bytes);
    let lost = reason(two.id());
    assert!(lost.contains("which checkpoints cover, are gone"), "{lost}");
    assert!(lost.contains("no recording of ours"), "{lost}");
    assert_eq!(
        std::fs::read_to_string(cast(two.id())).unwrap(),
        "no header\n"
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_written_refuses_the_recording() {
    let state = TempDir::new().unwrap();
    std::fs::write(state.path().join("recordings"), "a file in the way").unwrap();
    let store = FsStore::new(state.path());
    let refused = crate::recording::testing::open(&store, metadata(true), RecordInput::Auto).await;
    assert!(refused.unwrap_err().to_string().contains("recordings"));
}

#[tokio::test]
async fn a_disk_that_is_full_fails_the_append() {
    // /dev/full takes opens and answers every write with ENOSPC.
    let full = std::fs::OpenOptions::new()
        .append(true)
        .open("/dev/full")
        .unwrap();
    let state = TempDir::new().unwrap();
    let writer = Arc::new(Writer::start(state.path()).unwrap());
    let begun = Begun {
        cast: full.try_clone().unwrap(),
        checkpoints: full,
        note_bytes: 0,
    };
    let target = Target::new(
        PathBuf::from("/nowhere"),
        begun,
        0,
        Part::Requests,
        Room::default(),
    );
    let sink = Arc::new(FsSink::new(target, writer, Arc::new(Semaphore::new(1))));
    let append = |text: &'static str| {
        Arc::clone(&sink).append(crate::store::Lines {
            cast: Bytes::from_static(text.as_bytes()),
            requests: Bytes::new(),
        })
    };
    assert!(matches!(append("x").await, Err(StoreError::NoSpace { .. })));
    assert!(matches!(append("x").await, Err(StoreError::Failed(_))));
}

#[tokio::test]
async fn nothing_is_copied_while_there_is_no_room() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    let store = FsStore::new(state.path()).with_room(room.clone());
    let recording = begun(&store).await;
    recording.seal(Ending::Exit(0)).await.unwrap();
    assert!(store.has_room_for_another(recording.id()).await.unwrap());
    room.note_error("a test", &rustix::io::Errno::NOSPC.into());
    assert!(!store.has_room_for_another(recording.id()).await.unwrap());
    // Nor where it would take nearly all that there is.
    let space = Space::at(state.path()).unwrap();
    assert!(space.can_take(space.bytes_free / 2));
    assert!(!space.can_take(space.bytes_free));
}
