//! What is written is what is read.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::config::{Name, RecordInput, SessionKind};
use crate::messages::{Peer, Terminal, WindowSize};
use crate::session::SessionId;
use crate::store::faulty::{Fault, FaultyStore};

pub(crate) fn metadata(terminal: bool) -> Metadata {
    let opened: Timestamp = "2026-11-24T03:00:00.5Z".parse().unwrap();
    let name = |name| Name::new(name).unwrap();
    Metadata {
        session: SessionId::new(opened),
        instance: name("main"),
        identity: name("operator-a"),
        groups: BTreeSet::from(["sre".to_owned()]),
        fingerprint: "SHA256:abc".to_owned(),
        certificate: None,
        role: name("viewer"),
        binding: name("sre-viewers"),
        reason: Some("on call".to_owned()),
        cluster: name("prod"),
        subject: "system:serviceaccount:bastion-viewer:viewer".to_owned(),
        kind: if terminal {
            SessionKind::Shell
        } else {
            SessionKind::Exec
        }
        .into(),
        parent: None,
        pod: None,
        command: (!terminal).then(|| "kubectl get pods".to_owned()),
        client: Peer {
            address: SocketAddr::from(([10, 0, 0, 1], 50000)),
            client: "SSH-2.0-OpenSSH_9.2".to_owned(),
        },
        terminal: terminal.then(|| Terminal {
            term: "xterm-256color".to_owned(),
            size: WindowSize { cols: 80, rows: 24 },
            modes: vec![(1, 3)],
        }),
        config_digest: "00".to_owned(),
        opened,
        ends: "2026-11-24T11:00:00Z".parse().unwrap(),
    }
}

async fn read(cast: &[u8]) -> (Header, Vec<Event>) {
    let mut reader = Reader::open(cast).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = reader.next().await.unwrap() {
        events.push(event);
    }
    (reader.header().clone(), events)
}

fn carried(events: &[Event], of: Stream) -> Vec<u8> {
    events
        .iter()
        .flat_map(|event| match &event.what {
            Happening::Output { stream, bytes, .. } if *stream == of => bytes.clone(),
            _ => Vec::new(),
        })
        .collect()
}

fn shown(events: &[Event]) -> String {
    events
        .iter()
        .map(|event| match &event.what {
            Happening::Output {
                shown: Shown::Text(text),
                ..
            } => text.as_str(),
            _ => "",
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Act {
    Output(Stream, Vec<u8>),
    Input(Vec<u8>),
    Resize(u16, u16),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        any::<String>().prop_map(String::into_bytes),
        // Halves of characters.
        proptest::collection::vec(
            prop_oneof![
                Just(0xe2_u8),
                Just(0x82),
                Just(0xac),
                Just(0xf0),
                Just(b'a')
            ],
            0..5
        ),
    ];
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let act = prop_oneof![
        4 => (stream, bytes.clone()).prop_map(|(stream, bytes)| Act::Output(stream, bytes)),
        1 => bytes.prop_map(Act::Input),
        1 => (1..=4096_u16, 1..=4096_u16).prop_map(|(cols, rows)| Act::Resize(cols, rows)),
    ];
    proptest::collection::vec(act, 0..20)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #[test]
    fn every_byte_comes_back(acts in acts(), terminal in any::<bool>(), cut in any::<prop::sample::Index>()) {
        block_on(async {
            let store = FaultyStore::default();
            let metadata = metadata(terminal);
            let id = metadata.session;
            let recording = crate::recording::testing::open(&store, metadata.clone(), RecordInput::Always).await.unwrap();
            let (mut stdout, mut stderr, mut stdin, mut sizes) = (vec![], vec![], vec![], vec![]);
            for act in &acts {
                match act {
                    Act::Output(stream, bytes) => {
                        recording.output(*stream, bytes).await.unwrap();
                        match stream { Stream::Stdout => &mut stdout, Stream::Stderr => &mut stderr }.extend_from_slice(bytes);
                    }
                    Act::Input(bytes) => {
                        recording.input(bytes).await.unwrap();
                        stdin.extend_from_slice(bytes);
                    }
                    Act::Resize(cols, rows) => {
                        let size = WindowSize { cols: *cols, rows: *rows };
                        recording.resize(size).await.unwrap();
                        sizes.push(size);
                    }
                }
                // Before the session ends, and whatever comes later: all of it is on record.
                let (_, events) = read(&store.cast(id).unwrap()).await;
                assert_eq!(carried(&events, Stream::Stdout), stdout);
                assert_eq!(carried(&events, Stream::Stderr), stderr);
            }
            let sealed = recording.seal(Ending::Exit(3)).await.unwrap();

            let cast = store.cast(id).unwrap();
            let (header, events) = read(&cast).await;
            assert_eq!(header.metadata(), &metadata);
            assert_eq!(carried(&events, Stream::Stdout), stdout);
            assert_eq!(carried(&events, Stream::Stderr), stderr);
            let input: Vec<u8> = events.iter().flat_map(|event| match &event.what {
                Happening::Input(bytes) => bytes.clone(),
                _ => vec![],
            }).collect();
            assert_eq!(input, stdin);
            let resizes: Vec<WindowSize> = events.iter().filter_map(|event| match event.what {
                Happening::Resize(size) => Some(size),
                _ => None,
            }).collect();
            assert_eq!(resizes, sizes);
            assert_eq!(events.last().map(|event| &event.what), Some(&Happening::End(Ending::Exit(3))));
            assert_eq!(sealed.cast_bytes, cast.len() as u64);
            assert_eq!(sealed.output_bytes, (stdout.len() + stderr.len()) as u64);

            // Torn anywhere after the header, it is read up to the tear.
            let header_end = cast.iter().position(|&byte| byte == b'\n').unwrap() + 1;
            let torn = header_end + cut.index(cast.len() - header_end + 1);
            let (_, events) = read(&cast[..torn]).await;
            assert!(stdout.starts_with(&carried(&events, Stream::Stdout)));
        });
    }

    #[test]
    fn text_is_shown_whole_however_it_is_cut(text in "[a-z\u{e9}\u{20ac}\u{1f600}\n]{0,300}", sizes in proptest::collection::vec(1..7_usize, 1..10), terminal in any::<bool>()) {
        block_on(async {
            let store = FaultyStore::default();
            let metadata = metadata(terminal);
            let id = metadata.session;
            let recording = crate::recording::testing::open(&store, metadata, RecordInput::Auto).await.unwrap();
            let mut rest = text.as_bytes();
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                recording.output(Stream::Stdout, piece).await.unwrap();
                rest = after;
            }
            recording.seal(Ending::Exit(0)).await.unwrap();
            let (_, events) = read(&store.cast(id).unwrap()).await;
            assert_eq!(shown(&events), text);
        });
    }

    #[test]
    fn no_cast_makes_the_reader_panic(lines in proptest::collection::vec("\\[[0-9.e-]{1,6}, \"[oibBpfjrxzkdem?]\", \"[a-zA-Z0-9+/=x{}:\\\\]{0,12}\"\\]", 0..30), noise in proptest::collection::vec(any::<u8>(), 0..50)) {
        block_on(async {
            let header = serde_json::to_string(&Header::new(metadata(true), RecordInput::Auto)).unwrap();
            let mut cast = format!("{header}\n{}\n", lines.join("\n")).into_bytes();
            cast.extend_from_slice(&noise);
            let mut reader = Reader::open(cast.as_slice()).await.unwrap();
            while let Ok(Some(_)) = reader.next().await {}
        });
    }
}

#[tokio::test]
async fn the_lines_are_those_of_the_document() {
    let store = FaultyStore::default();
    let metadata = metadata(true);
    let id = metadata.session;
    tokio::time::pause();
    let recording = crate::recording::testing::open(&store, metadata, RecordInput::Auto)
        .await
        .unwrap();
    let wait = |ms| tokio::time::advance(std::time::Duration::from_millis(ms));
    wait(1500).await;
    recording
        .output(Stream::Stdout, "a\"\\\r\n\u{1b}[1m\u{20ac}".as_bytes())
        .await
        .unwrap();
    recording
        .output(Stream::Stdout, b"x\xe2\x82")
        .await
        .unwrap();
    wait(1).await;
    recording.output(Stream::Stdout, b"\xac").await.unwrap();
    recording.output(Stream::Stdout, b"\xff").await.unwrap();
    recording.input(b"secret").await.unwrap();
    recording
        .resize(WindowSize {
            cols: 100,
            rows: 40,
        })
        .await
        .unwrap();
    recording
        .lease("j1", Some("a1"), "2026-11-24T03:15:00Z".parse().unwrap())
        .await
        .unwrap();
    recording.notice("one minute left").await.unwrap();
    recording
        .seal(Ending::Signal("TERM".to_owned()))
        .await
        .unwrap();

    let cast = String::from_utf8(store.cast(id).unwrap()).unwrap();
    let lines: Vec<&str> = cast.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            r#"[1.500000, "o", "a\"\\\r\n\u001b[1m€"]"#,
            r#"[0.000000, "o", "x"]"#,
            r#"[0.000000, "p", "4oI="]"#,
            r#"[0.001000, "o", "€"]"#,
            r#"[0.000000, "B", "/w=="]"#,
            "[0.000000, \"o\", \"\u{fffd}\"]",
            r#"[0.000000, "r", "100x40"]"#,
            r#"[0.000000, "k", "{\"jti\":\"j1\",\"auditId\":\"a1\",\"expires\":\"2026-11-24T03:15:00Z\"}"]"#,
            r#"[0.000000, "m", "one minute left"]"#,
            r#"[0.000000, "z", "{\"signal\":\"TERM\"}"]"#,
            r#"[0.000000, "x", "143"]"#,
        ]
    );
    let manifest = Manifest::parse(&store.manifest(id).unwrap()).unwrap();
    // How the terminal was set up is in the header, once.
    let shown = manifest.session.terminal.unwrap();
    assert_eq!(
        (shown.term.as_str(), shown.modes),
        ("xterm-256color", vec![])
    );
    let (header, _) = read(&store.cast(id).unwrap()).await;
    assert_eq!(header.bastion.metadata.terminal.unwrap().modes, [(1, 3)]);
    assert_eq!(manifest.coverage.stdin, Covered::Off);
    assert_eq!(manifest.leases.len(), 1);
    assert_eq!(
        manifest.totals,
        Totals {
            stdout_bytes: 17,
            stderr_bytes: 0,
            stdin_bytes: 6
        }
    );
    assert_eq!(manifest.closed.to_string(), "2026-11-24T03:00:02.001Z");
}

#[tokio::test]
async fn a_pipe_of_zeros_is_base64_and_streams_stand_apart() {
    let store = FaultyStore::default();
    let metadata = metadata(false);
    let id = metadata.session;
    let recording = crate::recording::testing::open(&store, metadata, RecordInput::Digest)
        .await
        .unwrap();
    recording.output(Stream::Stdout, &[0; 6]).await.unwrap();
    recording.output(Stream::Stderr, b"oops\n").await.unwrap();
    recording.input(b"se").await.unwrap();
    recording.input(b"cret").await.unwrap();
    recording.input_end().await.unwrap();
    recording
        .seal(Ending::Cut {
            reason: "revoked".to_owned(),
        })
        .await
        .unwrap();
    let (_, events) = read(&store.cast(id).unwrap()).await;
    let what: Vec<Happening> = events.into_iter().map(|event| event.what).collect();
    assert_eq!(
        what,
        [
            Happening::Output {
                stream: Stream::Stdout,
                bytes: vec![0; 6],
                shown: Shown::Binary
            },
            Happening::Output {
                stream: Stream::Stderr,
                bytes: b"oops\n".to_vec(),
                shown: Shown::Text("oops\n".to_owned())
            },
            Happening::InputEnd,
            Happening::InputDigest {
                length: 6,
                sha256: "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
                    .to_owned(),
            },
            Happening::End(Ending::Cut {
                reason: "revoked".to_owned()
            }),
        ]
    );
}

#[tokio::test]
async fn after_a_failure_every_call_fails() {
    let store = FaultyStore::new(Fault::NoSpaceAt(1));
    let recording = crate::recording::testing::open(&store, metadata(true), RecordInput::Always)
        .await
        .unwrap();
    recording.output(Stream::Stdout, b"one").await.unwrap();
    assert!(matches!(
        recording.output(Stream::Stdout, b"two").await,
        Err(RecordingError::NoSpace)
    ));
    for result in [
        recording.output(Stream::Stdout, b"three").await,
        recording.input(b"x").await,
        recording.notice("x").await,
        recording.seal(Ending::Exit(0)).await.map(drop),
    ] {
        assert!(
            matches!(result, Err(RecordingError::Failed { .. })),
            "{result:?}"
        );
    }
    assert!(store.manifest(recording.id()).is_none());
}

#[tokio::test]
async fn without_a_store_there_is_no_recording() {
    let store = FaultyStore::new(Fault::Create);
    let refused = crate::recording::testing::open(&store, metadata(true), RecordInput::Auto).await;
    assert!(matches!(refused, Err(RecordingError::NoSpace)));
}

#[tokio::test]
async fn a_sealed_recording_takes_nothing_more() {
    let store = FaultyStore::default();
    let recording = crate::recording::testing::open(&store, metadata(true), RecordInput::Auto)
        .await
        .unwrap();
    recording.clone().seal(Ending::Exit(0)).await.unwrap();
    assert!(matches!(
        recording.output(Stream::Stdout, b"x").await,
        Err(RecordingError::Sealed)
    ));
    assert!(matches!(
        recording.seal(Ending::Exit(0)).await,
        Err(RecordingError::Sealed)
    ));
}

#[tokio::test]
async fn beyond_its_quota_a_recording_takes_nothing_but_its_end() {
    let store = FaultyStore::default();
    let metadata = metadata(true);
    let (recording, recorder) = crate::recording::testing::open_within(&store, metadata, 4096)
        .await
        .unwrap();
    recording
        .output(Stream::Stdout, &[b'x'; 4096])
        .await
        .unwrap();
    for _ in 0..2 {
        assert!(matches!(
            recording.output(Stream::Stdout, b"more").await,
            Err(RecordingError::Quota { quota: 4096 })
        ));
    }
    let sealed = recording.seal(Ending::Exit(0)).await.unwrap();
    assert_eq!(sealed.output_bytes, 4096);
    assert_eq!(recorder.failures(), 0);
}

#[tokio::test]
async fn an_outcome_beyond_the_quota_is_on_record_and_ends_the_session() {
    use super::requests::{CopiedFile, Direction, Intent, Note, Outcome};
    let store = FaultyStore::default();
    let (recording, _) = crate::recording::testing::open_within(&store, metadata(true), 8192)
        .await
        .unwrap();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(recording.intent(Intent::default()).await.unwrap());
    }
    let small = Outcome::default();
    recording.outcome_soon(numbers[0], small.clone()).unwrap();
    // It is as long as it is: a tar of many files.
    let file = |n: u64| CopiedFile {
        name: format!("a/file/of/a/long/name/{n}"),
        direction: Direction::FromPod,
        bytes: n,
        sha256: None,
    };
    let long = Outcome {
        files: (0..400).map(file).collect(),
        ..Outcome::default()
    };
    let is_over = |result: Result<(), RecordingError>| {
        matches!(result, Err(RecordingError::Quota { quota: 8192 }))
    };
    assert!(is_over(recording.outcome_soon(numbers[1], long)));
    assert!(is_over(recording.outcome(numbers[2], small).await));
    let files = Note::Files(vec![file(0)]);
    assert!(is_over(recording.note(numbers[2], files).await));
    assert!(recording.intent(Intent::default()).await.is_err());
    recording.seal(Ending::Exit(0)).await.unwrap();
    let summary = store.manifest(recording.id()).unwrap();
    let summary = Manifest::parse(&summary).unwrap().requests.unwrap();
    assert_eq!((summary.counts.total, summary.counts.unanswered), (3, 0));
}

#[tokio::test]
async fn what_could_not_be_opened_or_written_is_counted_once() {
    let full = FaultyStore::new(Fault::NoSpaceAt(0));
    let (recording, recorder) =
        crate::recording::testing::open_within(&full, metadata(true), u64::MAX)
            .await
            .unwrap();
    for _ in 0..2 {
        assert!(recording.output(Stream::Stdout, b"lost").await.is_err());
    }
    assert!(recording.seal(Ending::Exit(0)).await.is_err());
    assert_eq!(recorder.failures(), 1);
}

#[tokio::test]
async fn a_seal_that_fails_seals_nothing() {
    let store = FaultyStore::new(Fault::Seal);
    let recording = crate::recording::testing::open(&store, metadata(true), RecordInput::Auto)
        .await
        .unwrap();
    assert!(matches!(
        recording.seal(Ending::Exit(0)).await,
        Err(RecordingError::NoSpace)
    ));
    assert!(matches!(
        recording.seal(Ending::Exit(0)).await,
        Err(RecordingError::Failed { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_up_the_recording_and_nothing_else() {
    let store = FaultyStore::new(Fault::HangAt(0));
    let recording = crate::recording::testing::open(&store, metadata(true), RecordInput::Auto)
        .await
        .unwrap();
    let limit = std::time::Duration::from_secs(5);
    assert!(
        tokio::time::timeout(limit, recording.output(Stream::Stdout, b"x"))
            .await
            .is_err()
    );
    // Whoever comes next waits for the same write: nothing overtakes it.
    assert!(
        tokio::time::timeout(limit, recording.seal(Ending::Exit(0)))
            .await
            .is_err()
    );
}
