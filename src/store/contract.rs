//! What every store promises, tried on each.

use std::io::SeekFrom;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::s3::testing::Server;
use super::ship::{Pace, Shipper};
use super::testing::{State, at, noise};
use super::{Beginning, Lines, Part, RecordingStore, Span, StoreError};
use crate::session::SessionId;

fn beginning() -> Beginning {
    Beginning {
        cast: Bytes::from_static(b"{\"version\": 3}\n"),
        note: Bytes::from_static(b"opened\n"),
        spool_key: None,
        requests: Part::Requests,
    }
}

fn lines(cast: &'static str, requests: &'static str) -> Lines {
    Lines {
        cast: Bytes::from_static(cast.as_bytes()),
        requests: Bytes::from_static(requests.as_bytes()),
    }
}

async fn read(store: &dyn RecordingStore, id: SessionId, part: Part) -> Option<String> {
    let files = store.open(id).await.unwrap();
    let mut file = files.read(part).await.unwrap()?;
    let mut text = String::new();
    file.reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.len() as u64, file.bytes);
    Some(text)
}

async fn a_recording_is_read_while_it_is_written_and_closed_for_good(store: &dyn RecordingStore) {
    let id = SessionId::new(at("2026-11-26T10:00:00Z"));
    assert!(matches!(store.open(id).await, Err(StoreError::NotFound(missing)) if missing == id));
    let sink = store.create(id, beginning()).await.unwrap();
    assert!(matches!(
        store.create(id, beginning()).await,
        Err(StoreError::Exists(taken)) if taken == id
    ));
    assert_eq!(
        read(store, id, Part::Cast).await.unwrap(),
        "{\"version\": 3}\n"
    );
    assert_eq!(read(store, id, Part::Requests).await, None);
    Arc::clone(&sink).append(lines("one\n", "")).await.unwrap();
    Arc::clone(&sink)
        .append(lines("two\n", "asked\n"))
        .await
        .unwrap();
    Arc::clone(&sink)
        .checkpoint(Bytes::from_static(b"so far\n"))
        .await
        .unwrap();
    let cast = "{\"version\": 3}\none\ntwo\n";
    assert_eq!(read(store, id, Part::Cast).await.unwrap(), cast);
    assert_eq!(read(store, id, Part::Requests).await.unwrap(), "asked\n");
    assert_eq!(
        read(store, id, Part::Checkpoints).await.unwrap(),
        "opened\nso far\n"
    );
    assert_eq!(read(store, id, Part::Manifest).await, None);

    let (note, manifest) = (Bytes::from_static(b"sealed\n"), Bytes::from_static(b"{}"));
    sink.seal(note, manifest).await.unwrap();
    assert_eq!(read(store, id, Part::Manifest).await.unwrap(), "{}");
    assert_eq!(
        read(store, id, Part::Checkpoints).await.unwrap(),
        "opened\nso far\nsealed\n"
    );
    assert_eq!(read(store, id, Part::Cast).await.unwrap(), cast);
}

async fn an_encrypted_recording_is_spools_and_a_key(store: &dyn RecordingStore) {
    let id = SessionId::new(at("2026-11-26T10:00:00Z"));
    let mut beginning = beginning();
    beginning.spool_key = Some(Bytes::from_static(b"wrapped"));
    beginning.requests = Part::RequestsSpool;
    let sink = store.create(id, beginning).await.unwrap();
    sink.append(lines("record", "request")).await.unwrap();
    assert_eq!(read(store, id, Part::SpoolKey).await.unwrap(), "wrapped");
    assert_eq!(
        read(store, id, Part::CastSpool).await.unwrap(),
        "{\"version\": 3}\nrecord"
    );
    assert_eq!(
        read(store, id, Part::RequestsSpool).await.unwrap(),
        "request"
    );
    assert_eq!(read(store, id, Part::Cast).await, None);
    assert_eq!(read(store, id, Part::Requests).await, None);
}

/// `ids` were begun at these moments, in this order.
const MOMENTS: [&str; 5] = [
    "2025-12-31T23:59:59.999Z",
    "2026-01-01T00:00:00Z",
    "2026-01-31T12:00:00Z",
    "2026-02-01T00:00:00Z",
    "2026-11-26T09:00:00Z",
];

async fn lists_are_by_time_and_the_newest_is_the_first(
    store: &dyn RecordingStore,
    ids: &[SessionId],
) {
    let newest_first = |some: &[SessionId]| some.iter().rev().copied().collect::<Vec<_>>();
    let spans: [(&str, &str, &[SessionId]); 7] = [
        ("", "", ids),
        ("2026-01-01T00:00:00Z", "", &ids[1..]),
        ("", "2026-01-31T23:00:00Z", &ids[..3]),
        ("2026-01-31T12:00:00Z", "2026-02-01T00:00:00Z", &ids[2..4]),
        ("2026-01-31T12:00:01Z", "2026-02-01T00:00:00Z", &ids[3..4]),
        ("2026-03-01T00:00:00Z", "2026-10-01T00:00:00Z", &[]),
        ("2027-01-01T00:00:00Z", "", &[]),
    ];
    for (since, until, expected) in spans {
        let span = Span {
            since: since.parse().ok(),
            until: until.parse().ok(),
        };
        let listed = store.list(span).await.unwrap();
        assert_eq!(listed, newest_first(expected), "{since} to {until}");
    }
}

async fn begin_at_all_moments(store: &dyn RecordingStore) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for moment in MOMENTS {
        let id = SessionId::new(at(moment));
        store.create(id, beginning()).await.unwrap();
        ids.push(id);
    }
    ids
}

async fn anything_can_be_sought(store: &dyn RecordingStore, id: SessionId, bytes: &[u8]) {
    let files = store.open(id).await.unwrap();
    let mut file = files.read(Part::CastPacked).await.unwrap().unwrap();
    assert_eq!(file.bytes, bytes.len() as u64);
    let mut all = Vec::new();
    file.reader.read_to_end(&mut all).await.unwrap();
    assert!(all == bytes);
    let middle = bytes.len() / 2;
    for (to, from) in [
        (SeekFrom::Start(middle as u64), middle),
        (SeekFrom::End(-100), bytes.len() - 100),
        (SeekFrom::Start(0), 0),
        (SeekFrom::Current(7), 23),
    ] {
        assert_eq!(file.reader.seek(to).await.unwrap(), from as u64);
        let mut some = [0; 16];
        file.reader.read_exact(&mut some).await.unwrap();
        assert_eq!(some, bytes[from..from + 16], "{to:?}");
    }
    file.reader
        .seek(SeekFrom::Start(file.bytes + 1))
        .await
        .unwrap();
    assert_eq!(file.reader.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(
        file.reader
            .seek(SeekFrom::End(-1 - bytes.len() as i64))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_local_store_keeps_the_contract() {
    a_recording_is_read_while_it_is_written_and_closed_for_good(&State::new().local).await;
    an_encrypted_recording_is_spools_and_a_key(&State::new().local).await;
    let state = State::new();
    let ids = begin_at_all_moments(&state.local).await;
    lists_are_by_time_and_the_newest_is_the_first(&state.local, &ids).await;
    let id = state.closed(3 << 20, |_| {}).await;
    anything_can_be_sought(&state.local, id, &noise(3 << 20)).await;
}

#[tokio::test]
async fn a_store_with_a_bucket_keeps_the_contract() {
    let server = Server::start().await;
    for test in 0..2 {
        let state = State::new();
        let store = state.store(&state.bucket(&server));
        match test {
            0 => a_recording_is_read_while_it_is_written_and_closed_for_good(&store).await,
            _ => an_encrypted_recording_is_spools_and_a_key(&store).await,
        }
    }
    let state = State::new();
    let store = state.store(&state.bucket(&server));
    let ids = begin_at_all_moments(&store).await;
    lists_are_by_time_and_the_newest_is_the_first(&store, &ids).await;
}

#[tokio::test]
async fn what_only_the_bucket_has_keeps_the_contract() {
    let (state, server) = (State::new(), Server::start().await);
    let bucket = state.bucket(&server);
    let store = state.store(&bucket);
    let mut ids = Vec::new();
    for moment in MOMENTS {
        let opened = at(moment);
        let edit = |metadata: &mut crate::recording::Metadata| {
            metadata.session = SessionId::new(opened);
            metadata.opened = opened;
        };
        ids.push(state.closed(3 << 20, edit).await);
    }
    let shipper = Shipper::open(
        state.dir.path(),
        state.local.clone(),
        Arc::clone(&bucket),
        Some(std::time::Duration::from_secs(1)),
        state.clock(),
        state.audit.clone(),
        Pace::default(),
    );
    let shipper = Arc::new(shipper.await.unwrap());
    shipper.round().await;
    // Of two the copies stay: a list is of both places, and each recording is in it once.
    state.clock.advance(jiff::SignedDuration::from_secs(2));
    shipper.round().await;
    assert_eq!(state.local.list(Span::default()).await.unwrap(), []);
    lists_are_by_time_and_the_newest_is_the_first(&store, &ids).await;
    for id in [ids[0], ids[4]] {
        anything_can_be_sought(&store, id, &noise(3 << 20)).await;
    }
    assert_eq!(read(&store, ids[0], Part::CastSpool).await, None);
    let manifest = read(&store, ids[0], Part::Manifest).await.unwrap();
    assert!(manifest.contains("interrupted"));
    let nobody = SessionId::new(at("2026-01-01T00:00:00Z"));
    assert!(matches!(
        store.open(nobody).await,
        Err(StoreError::NotFound(_))
    ));

    server.set_down(true);
    let gone = store.list(Span::default()).await.unwrap_err().to_string();
    assert!(gone.contains("object store"), "{gone}");
    let live = state.live(|_| {}).await;
    assert!(
        store.open(live.id()).await.is_ok(),
        "what is here needs no server"
    );
}
