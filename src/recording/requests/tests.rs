use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::config::RecordInput;
use crate::recording::roundtrip::metadata;
use crate::recording::testing::{Held, manifest, recover};
use crate::recording::{Ending, Manifest, OpenRecording, Reader, State};
use crate::store::FsStore;
use crate::store::faulty::{Fault, FaultyStore};

async fn begin(store: impl Held) -> OpenRecording {
    crate::recording::testing::open(store, metadata(true), RecordInput::Auto)
        .await
        .unwrap()
}

fn asks(verb: &str, marks: &[Mark]) -> Intent {
    Intent {
        audit_id: format!("of-{verb}"),
        method: "GET".to_owned(),
        path: "/api/v1/pods".to_owned(),
        info: RequestSummary {
            is_resource: true,
            verb: verb.to_owned(),
            resource: "pods".to_owned(),
            ..RequestSummary::default()
        },
        marks: marks.to_vec(),
        ..Intent::default()
    }
}

fn exec() -> Child {
    Child {
        request: RequestNumber::new(1),
        stream: PodStream::PodExec,
        pod: Pod {
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            container: None,
            command: vec!["sh".to_owned(), "-c".to_owned(), "a b".to_owned()],
        },
        tty: false,
        size: None,
    }
}

/// Every entry; or where it stops, and why.
async fn entries(bytes: &[u8]) -> Result<Vec<IndexEntry>, crate::recording::ReadError> {
    let mut all = Vec::new();
    let Some(mut index) = IndexReader::open(bytes).await? else {
        return Ok(all);
    };
    while let Some(entry) = index.next().await? {
        all.push(entry);
    }
    Ok(all)
}

#[tokio::test]
async fn an_intent_is_there_before_its_outcome_and_each_is_there_once() {
    let store = FaultyStore::new(Fault::None);
    let recording = begin(&store).await;
    let id = recording.id();
    let one = recording.intent(asks("list", &[])).await.unwrap();
    // It has reached the store when the call returns.
    assert!(
        String::from_utf8(store.requests(id).unwrap())
            .unwrap()
            .contains("of-list")
    );
    let two = recording
        .intent(asks("delete", &[Mark::Write]))
        .await
        .unwrap();
    let done = |status| Outcome {
        status: Some(status),
        ..Outcome::default()
    };
    recording.outcome(two, done(403)).await.unwrap();
    recording.outcome(one, done(200)).await.unwrap();
    // Neither twice, nor of what never was, nor a note after the end.
    assert!(recording.outcome(one, done(200)).await.is_err());
    assert!(
        recording
            .outcome(RequestNumber::new(9), done(200))
            .await
            .is_err()
    );
    let note = Note::Forwards(Vec::new());
    assert!(recording.note(one, note).await.is_err());
    recording.seal(Ending::Exit(0)).await.unwrap();

    let all = entries(&store.requests(id).unwrap()).await.unwrap();
    let steps: Vec<(u64, bool)> = all
        .iter()
        .map(|entry| {
            (
                entry.request.get(),
                matches!(entry.what, RequestStep::Intent(_)),
            )
        })
        .collect();
    assert_eq!(steps, [(1, true), (2, true), (2, false), (1, false)]);
    let manifest = Manifest::parse(&store.manifest(id).unwrap()).unwrap();
    let counts = manifest.requests.unwrap().counts;
    assert_eq!(
        (
            counts.total,
            counts.writes,
            counts.refused,
            counts.unanswered
        ),
        (2, 1, 1, 0)
    );
}

#[tokio::test]
async fn a_crash_leaves_an_intent_without_an_outcome_and_never_the_reverse() {
    // The index goes first: what is on the cast's timeline is in the index too.
    for fault in [Fault::NoSpaceAt(1), Fault::NoSpaceBetweenAt(1)] {
        let store = FaultyStore::new(fault);
        let recording = begin(&store).await;
        let one = recording.intent(asks("list", &[])).await.unwrap();
        assert!(
            recording.intent(asks("get", &[])).await.is_err(),
            "{fault:?}"
        );
        // Nothing is recorded after a failure.
        assert!(recording.outcome(one, Outcome::default()).await.is_err());
        let all = entries(&store.requests(recording.id()).unwrap())
            .await
            .unwrap();
        assert!(
            all.iter()
                .all(|entry| matches!(entry.what, RequestStep::Intent(_)))
        );
        let cast = store.cast(recording.id()).unwrap();
        let mut reader = Reader::open(cast.as_slice()).await.unwrap();
        let mut on_timeline = 0;
        while reader.next().await.unwrap().is_some() {
            on_timeline += 1;
        }
        assert!(on_timeline <= all.len(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_index_that_a_crash_left_is_closed_with_its_recording_and_its_streams() {
    let state = TempDir::new().unwrap();
    let store = FsStore::new(state.path());
    let recording = begin(&store).await;
    let one = recording
        .intent(asks("create", &[Mark::Exec]))
        .await
        .unwrap();
    let child = recording.child(exec()).await.unwrap();
    let two = recording.intent(asks("list", &[])).await.unwrap();
    recording
        .outcome(
            two,
            Outcome {
                status: Some(200),
                ..Outcome::default()
            },
        )
        .await
        .unwrap();
    assert_eq!((one.get(), two.get()), (1, 2));
    let (id, child) = (recording.id(), child.id());
    drop(recording);
    let path = state
        .path()
        .join("recordings/2026/11/24")
        .join(id.to_string())
        .join("requests.jsonl");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(
        &path,
        [&whole[..], b"{\"request\":3,\"at\":1,\"inte"].concat(),
    )
    .unwrap();

    let now = "2026-11-25T00:00:00Z".parse().unwrap();
    let found = recover(&store, now).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        std::fs::read(&path).unwrap(),
        whole,
        "cut after its last whole line"
    );
    for of in [id, child] {
        let manifest = manifest(&store, of).await.unwrap();
        assert_eq!(manifest.state, State::Interrupted);
        if of == child {
            let parent = manifest.session.parent.unwrap();
            assert_eq!((parent.session, parent.request), (id, one));
            continue;
        }
        let requests = manifest.requests.unwrap();
        assert_eq!((requests.counts.total, requests.counts.unanswered), (2, 1));
        assert_eq!(requests.children[0].session, child);
        assert_eq!(requests.file.bytes, whole.len() as u64);
    }
}

/// A kubelet attaches by what the container has, whatever a client says of a terminal.
#[tokio::test]
async fn what_is_typed_into_an_attach_is_kept_whatever_it_says_of_itself() {
    let store = FaultyStore::new(Fault::None);
    let recording = begin(&store).await;
    let asked = asks("create", &[Mark::Exec]);
    recording.intent(asked).await.unwrap();
    for (stream, kept) in [(PodStream::PodAttach, true), (PodStream::PodExec, false)] {
        let asked = Child {
            stream,
            tty: true,
            ..exec()
        };
        let child = recording.child(asked).await.unwrap();
        child.input(b"rm -rf /\n").await.unwrap();
        let cast = String::from_utf8(store.cast(child.id()).unwrap()).unwrap();
        assert_eq!(cast.contains("rm -rf"), kept, "{cast}");
    }
}

#[tokio::test]
async fn an_index_that_lies_is_not_believed() {
    let first = "{\"version\":1,\"session\":\"01M85QXXW06MENMG336WC0DT93\"}\n";
    let intent = |number: u64| {
        let intent = serde_json::to_string(&asks("list", &[])).unwrap();
        format!("{{\"request\":{number},\"at\":1.0,\"intent\":{intent}}}\n")
    };
    let outcome =
        "{\"request\":1,\"at\":1.0,\"outcome\":{\"seconds\":0.1,\"bytesIn\":0,\"bytesOut\":0}}\n";
    let good = format!("{first}{}{outcome}{}", intent(1), intent(2));
    assert_eq!(entries(good.as_bytes()).await.unwrap().len(), 3);
    for lie in [
        "{\"version\":2,\"session\":\"01M85QXXW06MENMG336WC0DT93\"}\n".to_owned(),
        "no index\n".to_owned(),
        format!("{first}{}", intent(2)),
        format!("{first}{}{}", intent(1), intent(1)),
        format!("{first}{}{}", intent(1), intent(3)),
        format!("{first}{outcome}"),
        format!("{first}{}{outcome}{outcome}", intent(1)),
        format!("{first}{{\"request\":1,\"at\":1.0}}\n"),
        format!("{first}{}garbage\n", intent(1)),
    ] {
        assert!(entries(lie.as_bytes()).await.is_err(), "{lie}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes in whatever order, the index says it, and any beginning of it is readable.
    #[test]
    fn what_was_written_is_read_and_so_is_any_beginning_of_it(
        steps in proptest::collection::vec((0_u8..4, 0_usize..6, any::<u16>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(FaultyStore::new(Fault::None));
            let recording = begin(&store).await;
            let mut open: BTreeMap<u64, RequestNumber> = BTreeMap::new();
            let (mut asked, mut written) = (0, 0);
            for (what, which, status) in steps {
                let request = open.values().nth(which).copied();
                match (what, request) {
                    (0 | 1, _) => {
                        let number = recording.intent(asks("get", &[])).await.unwrap();
                        asked += 1;
                        assert_eq!(number.get(), asked, "without gaps");
                        open.insert(number.get(), number);
                    }
                    (2, Some(number)) => {
                        let note = Note::Files(vec![CopiedFile {
                            name: "\"\\\u{1b}ä".repeat(which),
                            direction: Direction::ToPod,
                            bytes: status.into(),
                            sha256: None,
                        }]);
                        recording.note(number, note).await.unwrap();
                    }
                    (3, Some(number)) => {
                        let outcome = Outcome { status: Some(status), ..Outcome::default() };
                        recording.outcome(number, outcome).await.unwrap();
                        open.remove(&number.get());
                    }
                    _ => continue,
                }
                written += 1;
            }
            let bytes = store.requests(recording.id()).unwrap_or_default();
            let all = entries(&bytes).await.unwrap();
            assert_eq!(all.len(), written);
            recording.seal(Ending::Exit(0)).await.unwrap();
            let manifest = Manifest::parse(&store.manifest(recording.id()).unwrap()).unwrap();
            let counts = manifest.requests.map(|requests| requests.counts).unwrap_or_default();
            assert_eq!((counts.total, counts.unanswered), (asked, open.len() as u64));
            // A crash at any byte.
            let cut = cut.index(bytes.len() + 1);
            let beginning = entries(&bytes[..cut]).await.unwrap();
            assert_eq!(beginning.as_slice(), &all[..beginning.len()]);
        });
    }
}
