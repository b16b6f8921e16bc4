use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::*;
use crate::config::{Name, RecordInput};
use crate::export::{Export, Format, export};
use crate::messages::WindowSize;
use crate::recording::roundtrip::metadata;
use crate::recording::{Ending, Metadata, OpenRecording, Stream};
use crate::session::SessionId;
use crate::store::RecordingStore;
use crate::store::faulty::FaultyStore;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn everyone(_: &Metadata) -> bool {
    true
}

fn begun(opened: &str, terminal: bool) -> Metadata {
    let mut metadata = metadata(terminal);
    metadata.opened = at(opened);
    metadata.session = SessionId::new(metadata.opened);
    metadata
}

async fn open(store: &FaultyStore, metadata: Metadata) -> OpenRecording {
    OpenRecording::open(store, metadata, RecordInput::Auto)
        .await
        .unwrap()
}

async fn pass(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
}

/// Three sessions: an exec of operator-a that failed, a shell of operator-b that was cut, a live exec.
async fn three() -> (FaultyStore, [SessionId; 3], HashSet<SessionId>) {
    let store = FaultyStore::default();
    let mut first = begun("2026-11-24T03:00:00Z", false);
    first.command = Some("kubectl delete pod web-0".to_owned());
    let one = open(&store, first).await;
    one.lease("jti-1", Some("audit-1"), at("2026-11-24T03:15:00Z"))
        .await
        .unwrap();
    one.output(Stream::Stderr, b"forbidden\n").await.unwrap();
    pass(61_500).await;
    one.seal(Ending::Exit(1)).await.unwrap();

    let mut second = begun("2026-11-24T04:00:00Z", true);
    second.identity = Name::new("operator-b").unwrap();
    let two = open(&store, second).await;
    pass(3_600_000).await;
    two.seal(Ending::Cut {
        reason: "revoked".to_owned(),
    })
    .await
    .unwrap();

    let mut third = begun("2026-11-24T06:00:00Z", false);
    third.command = Some(format!("echo \x1b]0;x\x07 {}", "long ".repeat(50)));
    let three = open(&store, third).await;
    three
        .lease("jti-3", None, at("2026-11-24T06:15:00Z"))
        .await
        .unwrap();
    let ids = [one.id(), two.id(), three.id()];
    (store, ids, HashSet::from([three.id()]))
}

async fn ids(store: &FaultyStore, live: &HashSet<SessionId>, arguments: &[&str]) -> Vec<SessionId> {
    let arguments = [&["sessions"], arguments].concat();
    let ReadingWord::Sessions(filters) = parse_word(&arguments).unwrap() else {
        panic!("sessions");
    };
    let query = filters.query(at("2026-11-24T12:00:00Z")).unwrap();
    let found = find(store, &query, live, everyone).await.unwrap();
    found.sessions.iter().map(Summary::id).collect()
}

#[tokio::test(start_paused = true)]
async fn finds_by_every_filter() {
    let (store, [one, two, three], live) = three().await;
    for (arguments, expected) in [
        (&[][..], vec![three, two, one]),
        (&["--identity", "operator-a"], vec![three, one]),
        (&["--identity", "operator"], vec![]),
        (
            &["--role", "viewer", "--cluster", "prod"],
            vec![three, two, one],
        ),
        (&["--cluster", "test"], vec![]),
        (&["--since", "2026-11-24T04:00:00Z"], vec![three, two]),
        (&["--until", "2026-11-24 04:00"], vec![two, one]),
        (&["--since", "9h", "--until", "7h"], vec![two, one]),
        (&["--at", "04:30"], vec![two]),
        (&["--at", "11:00"], vec![three]),
        (&["--jti", "jti-1"], vec![one]),
        (&["--jti", "JTI=jti-3"], vec![three]),
        (&["--audit-id", "audit-1"], vec![one]),
        (&["--audit-id", "audit-2"], vec![]),
        (&["--command", "DELETE pod"], vec![one]),
        (&["--state", "live"], vec![three]),
        (&["--live"], vec![three]),
        (&["--state", "interrupted"], vec![]),
        (&["--limit", "1"], vec![three]),
        (&["--limit", "0"], vec![three, two, one]),
    ] {
        assert_eq!(
            ids(&store, &live, arguments).await,
            expected,
            "{arguments:?}"
        );
    }
    assert_eq!(
        ids(&store, &HashSet::new(), &["--state", "interrupted"]).await,
        [three]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_may_not_see_does_not_exist() {
    let (store, [one, two, _], live) = three().await;
    let only_b = |metadata: &Metadata| metadata.identity.as_str() == "operator-b";
    let found = find(&store, &Query::default(), &live, only_b)
        .await
        .unwrap();
    assert_eq!(
        found.sessions.iter().map(Summary::id).collect::<Vec<_>>(),
        [two]
    );
    let hidden = show(&store, &one.to_string(), &live, only_b)
        .await
        .unwrap_err();
    assert_eq!(
        hidden.to_string(),
        format!("no recording begins with {one}; the newest are {two}")
    );
    assert_eq!(
        resolve(&store, "latest", &live, only_b).await.unwrap().id(),
        two
    );
    // Nor does it make a prefix ambiguous.
    let prefix = &one.to_string()[..4];
    assert_eq!(
        resolve(&store, prefix, &live, only_b).await.unwrap().id(),
        two
    );
    let nobody = resolve(&store, "latest", &live, |_| false)
        .await
        .unwrap_err();
    assert_eq!(nobody.to_string(), "there are no recordings yet");
}

#[tokio::test(start_paused = true)]
async fn a_prefix_in_any_case_is_enough_and_errors_say_what_would_do() {
    let (store, [one, two, three], live) = three().await;
    let id = two.to_string();
    assert_eq!(
        resolve(&store, &id[..10].to_lowercase(), &live, everyone)
            .await
            .unwrap()
            .id(),
        two
    );
    assert_eq!(
        resolve(&store, &id, &live, everyone).await.unwrap().id(),
        two
    );
    let ambiguous = resolve(&store, &id[..4], &live, everyone)
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        ambiguous,
        format!(
            "3 recordings begin with {}; add a character or more: {three}, {two}, {one}",
            &id[..4]
        )
    );
    let unknown = resolve(&store, "7ZZ", &live, everyone)
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        unknown,
        format!("no recording begins with 7ZZ; the newest are {three}, {two}, {one}")
    );
    for bad in ["", "../x", "lol!", "\u{1b}[2J", &"0".repeat(27)] {
        let error = resolve(&store, bad, &live, everyone).await.unwrap_err();
        assert!(matches!(error, FindError::NotAnId(_)), "{bad:?}: {error}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_fits_and_is_harmless() {
    let (store, [one, _, three], live) = three().await;
    let found = find(&store, &Query::default(), &live, everyone)
        .await
        .unwrap();
    let table = table(&found.sessions, 80);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "SESSION    STARTED (UTC)    LENGTH END  IDENTITY   ROLE+CLUSTER WHAT"
    );
    assert!(lines[1].starts_with(&three.to_string()[..10]));
    assert!(
        lines[1].contains("2026-11-24 06:00 -      live operator-a viewer+prod  echo \\u{1b}"),
        "{table}"
    );
    assert!(
        lines[2].ends_with("2026-11-24 04:00 1h00m  cut  operator-b viewer+prod  shell"),
        "{table}"
    );
    assert!(lines[3].contains("1m01s  1    operator-a"), "{table}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let json = json_lines(&found.sessions).unwrap();
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last["session"]["session"], one.to_string());
    assert_eq!(last["state"], "complete");
    assert_eq!(last["leases"][0]["jti"], "jti-1");
}

#[tokio::test(start_paused = true)]
async fn one_page_says_it_all() {
    let (store, [one, two, three], live) = three().await;
    let (id, page) = show(&store, &one.to_string(), &live, everyone)
        .await
        .unwrap();
    assert_eq!(id, one);
    let expected = format!(
        "session     {one}, complete
who         operator-a
            in sre
            by the key SHA256:abc
allowed by  the binding sre-viewers
            because: on call
            under the configuration 00
as          viewer on prod
            system:serviceaccount:bastion-viewer:viewer
what        exec
            kubectl delete pod web-0
when        2026-11-24 03:00:00Z to 2026-11-24 03:01:01Z (1m01s)
            until 2026-11-24 11:00:00Z at the latest
ended       exit status 1
from        10.0.0.1:50000
            SSH-2.0-OpenSSH_9.2
at          the bastion main
credentials jti jti-1, expires 2026-11-24 03:15:00Z
            issued as Audit-Id audit-1
bytes       stdout 0, stderr 10, stdin 0
on record   stdin: yes, every byte
            stdout: yes, every byte
            stderr: yes, every byte
            requests to the cluster: no
cast        "
    );
    assert!(page.starts_with(&expected), "{page}");
    let (_, live_page) = show(&store, &three.to_string(), &live, everyone)
        .await
        .unwrap();
    assert!(
        live_page.contains("ended       not yet") && live_page.contains("jti jti-3"),
        "{live_page}"
    );
    let (_, lost) = show(&store, &three.to_string(), &HashSet::new(), everyone)
        .await
        .unwrap();
    assert!(
        lost.contains(", interrupted\n            nobody has sealed it\n"),
        "{lost}"
    );
    let (_, shell) = show(&store, &two.to_string(), &live, everyone)
        .await
        .unwrap();
    assert!(
        shell.contains("stdin: no\n") && shell.contains("cut: revoked"),
        "{shell}"
    );
    assert!(!shell.contains("stdout: "), "{shell}");
}

/// Plays, with keys pressed at moments (milliseconds). Returns what was written, each piece with its moment.
async fn played(
    store: &FaultyStore,
    id: SessionId,
    how: Play,
    keys: &[(u64, Key)],
) -> Vec<(u64, String)> {
    let (press, mut pressed) = mpsc::channel(8);
    let keys = keys.to_vec();
    let typist = tokio::spawn(async move {
        let start = crate::clock::monotonic();
        for (at, key) in keys {
            tokio::time::sleep_until(start + Duration::from_millis(at)).await;
            if press.send(key).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let (mut out, mut seen) = tokio::io::duplex(1 << 20);
    let start = crate::clock::monotonic();
    let watcher = tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        let mut pieces = Vec::new();
        let mut buffer = [0; 65536];
        while let Ok(read @ 1..) = seen.read(&mut buffer).await {
            let at = crate::clock::monotonic().duration_since(start).as_millis() as u64;
            pieces.push((at, String::from_utf8(buffer[..read].to_vec()).unwrap()));
        }
        pieces
    });
    play(store, id, &mut out, &mut pressed, how).await.unwrap();
    drop(out);
    typist.abort();
    watcher.await.unwrap()
}

fn moment_of(pieces: &[(u64, String)], text: &str) -> Option<u64> {
    pieces
        .iter()
        .find(|(_, piece)| piece.contains(text))
        .map(|(at, _)| *at)
}

fn joined(pieces: &[(u64, String)]) -> String {
    pieces.iter().map(|(_, piece)| piece.as_str()).collect()
}

async fn shell() -> (FaultyStore, SessionId) {
    let store = FaultyStore::default();
    let recording = open(&store, begun("2026-11-24T03:00:00Z", true)).await;
    recording
        .output(Stream::Stdout, b"first\r\n")
        .await
        .unwrap();
    pass(10_000).await;
    recording
        .output(Stream::Stdout, b"\x1b]52;c;ZXZpbA==\x07second\r\n")
        .await
        .unwrap();
    pass(10_000).await;
    recording
        .resize(WindowSize { cols: 60, rows: 20 })
        .await
        .unwrap();
    recording
        .output(Stream::Stdout, "th\u{ef}rd\r\n".as_bytes())
        .await
        .unwrap();
    recording.seal(Ending::Exit(0)).await.unwrap();
    let id = recording.id();
    (store, id)
}

#[tokio::test(start_paused = true)]
async fn plays_in_time_and_filters_and_leaves_a_sane_terminal() {
    let (store, id) = shell().await;
    let pieces = played(&store, id, Play::default(), &[]).await;
    assert_eq!(moment_of(&pieces, "first"), Some(0));
    assert_eq!(moment_of(&pieces, "second"), Some(10_000));
    assert_eq!(moment_of(&pieces, "th\u{ef}rd"), Some(20_000));
    let all = joined(&pieces);
    assert!(!all.contains("\x1b]52"));
    assert!(all.contains("ended with exit status 0"));
    assert!(all.ends_with("\x1b[0 q\x1b[9999;1H\r\n"), "{all:?}");

    let fast = Play {
        speed: 4.0,
        ..Play::default()
    };
    assert_eq!(
        moment_of(&played(&store, id, fast, &[]).await, "second"),
        Some(2_500)
    );
    let brisk = Play {
        idle_limit: Some(Duration::from_secs(1)),
        ..Play::default()
    };
    assert_eq!(
        moment_of(&played(&store, id, brisk, &[]).await, "th\u{ef}rd"),
        Some(2_000)
    );
}

#[tokio::test(start_paused = true)]
async fn keys_change_the_course() {
    let (store, id) = shell().await;
    let how = Play::default();
    // Stopped for 5 seconds.
    let pieces = played(&store, id, how, &[(4_000, Key::Pause), (9_000, Key::Pause)]).await;
    assert_eq!(moment_of(&pieces, "paused at 0:04"), Some(4_000));
    assert_eq!(moment_of(&pieces, "second"), Some(15_000));
    // Half of the gap at double speed.
    let pieces = played(&store, id, how, &[(5_000, Key::Faster)]).await;
    assert_eq!(moment_of(&pieces, "second"), Some(7_500));
    // Ahead by five.
    let pieces = played(&store, id, how, &[(1_000, Key::Forward)]).await;
    assert_eq!(moment_of(&pieces, "second"), Some(5_000));
    // Back over an event: the screen is as it was, and it comes again.
    let pieces = played(&store, id, how, &[(12_000, Key::Back)]).await;
    let again: Vec<u64> = pieces
        .iter()
        .filter(|(_, p)| p.contains("second"))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(again[..2], [10_000, 15_000]);
    let back = &pieces.iter().find(|(at, _)| *at == 12_000).unwrap().1;
    assert!(
        back.contains("first") && !back.contains("second"),
        "{back:?}"
    );
    // One thing at a time, and then no more.
    let pieces = played(
        &store,
        id,
        how,
        &[(1_000, Key::Pause), (2_000, Key::Step), (3_000, Key::Quit)],
    )
    .await;
    assert_eq!(moment_of(&pieces, "second"), Some(2_000));
    assert_eq!(moment_of(&pieces, "th\u{ef}rd"), None);
    assert!(joined(&pieces).ends_with("\x1b[9999;1H\r\n"));
}

#[tokio::test(start_paused = true)]
async fn begins_where_it_is_told() {
    let (store, id) = shell().await;
    let ReadingWord::Replay(arguments) =
        parse_word(&["replay", "latest", "--at", "2026-11-24T03:00:12Z"]).unwrap()
    else {
        panic!("replay");
    };
    let begin = arguments
        .begin(at("2026-11-24T03:00:00Z"), at("2026-11-25T00:00:00Z"))
        .unwrap();
    assert_eq!(begin, Duration::from_secs(12));
    let pieces = played(
        &store,
        id,
        Play {
            at: begin,
            ..Play::default()
        },
        &[],
    )
    .await;
    let shown = pieces
        .iter()
        .find(|(_, piece)| piece.contains("first"))
        .unwrap();
    assert!(shown.0 == 0 && shown.1.contains("second"));
    assert_eq!(moment_of(&pieces, "th\u{ef}rd"), Some(8_000));
}

async fn command() -> (FaultyStore, SessionId) {
    let store = FaultyStore::default();
    let recording = open(&store, begun("2026-11-24T03:00:00Z", false)).await;
    recording.input(b"echo hi\n\x1b[2J\n").await.unwrap();
    recording.input_end().await.unwrap();
    recording
        .output(Stream::Stdout, b"hi\nthere")
        .await
        .unwrap();
    pass(1_500).await;
    recording
        .output(Stream::Stderr, b"oh \x1b[1mno\x1b[0m\n")
        .await
        .unwrap();
    recording
        .output(Stream::Stdout, b" you\n\0\xff\x01")
        .await
        .unwrap();
    recording.seal(Ending::Exit(2)).await.unwrap();
    let id = recording.id();
    (store, id)
}

#[tokio::test(start_paused = true)]
async fn a_command_without_a_terminal_is_shown_well() {
    let (store, id) = command().await;
    let all = joined(&played(&store, id, Play::default(), &[]).await);
    assert!(all.contains("< echo hi\x1b[39m\r\n"), "{all:?}");
    assert!(all.contains("< \\u{1b}[2J"), "{all:?}");
    assert!(all.contains("hi\r\nthere"), "{all:?}");
    assert!(all.contains("\x1b[31moh \x1b[1mno\x1b[0m\r\n"), "{all:?}");
    assert!(all.contains("bytes of binary output]"), "{all:?}");
    assert!(all.contains("[ended with exit status 2]"), "{all:?}");
}

async fn exported(
    store: &FaultyStore,
    id: SessionId,
    format: Format,
    stream: Option<Stream>,
    timestamps: bool,
) -> Vec<u8> {
    let (mut out, mut seen) = tokio::io::duplex(64);
    let reading = tokio::spawn(async move {
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut seen, &mut bytes)
            .await
            .unwrap();
        bytes
    });
    export(
        store,
        id,
        Export {
            format,
            stream,
            timestamps,
        },
        &mut out,
    )
    .await
    .unwrap();
    drop(out);
    reading.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_command_as_text() {
    let (store, id) = command().await;
    let text = |stream, timestamps| {
        let store = &store;
        async move {
            String::from_utf8(exported(store, id, Format::Text, stream, timestamps).await).unwrap()
        }
    };
    assert_eq!(
        text(None, false).await,
        "< echo hi\n< \nhi\n! oh no\nthere\n[8 bytes of binary output]\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shell_as_text() {
    let (store, id) = shell().await;
    let text = String::from_utf8(exported(&store, id, Format::Text, None, false).await).unwrap();
    assert_eq!(text, "first\nsecond\nth\u{ef}rd\n");
    let text = String::from_utf8(exported(&store, id, Format::Text, None, true).await).unwrap();
    assert_eq!(
        text,
        "2026-11-24T03:00:00.000Z first\n2026-11-24T03:00:10.000Z second\n2026-11-24T03:00:20.000Z th\u{ef}rd\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_transcript_keeps_every_line_and_its_moment() {
    let store = FaultyStore::default();
    let recording = open(&store, begun("2026-11-24T03:00:00Z", true)).await;
    let long = "x".repeat(200);
    for n in 0..100 {
        recording
            .output(Stream::Stdout, format!("{n} {long}\r\n").as_bytes())
            .await
            .unwrap();
        pass(1_000).await;
    }
    recording
        .output(
            Stream::Stdout,
            b"\x1b[?1049hfull screen\x1b[2J\x1b[?1049l\x1b[2J\x1b[Hend",
        )
        .await
        .unwrap();
    recording.seal(Ending::Exit(0)).await.unwrap();
    let text = String::from_utf8(exported(&store, recording.id(), Format::Text, None, true).await)
        .unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 101, "{text}");
    for (n, line) in lines[..100].iter().enumerate() {
        let (minute, second) = (n / 60, n % 60);
        assert_eq!(
            *line,
            format!("2026-11-24T03:{minute:02}:{second:02}.000Z {n} {long}")
        );
    }
    assert!(lines[100].ends_with("end"));
}

#[tokio::test(start_paused = true)]
async fn raw_is_the_bytes_and_v3_the_cast() {
    let (store, id) = command().await;
    assert_eq!(
        exported(&store, id, Format::Raw, Some(Stream::Stdout), false).await,
        b"hi\nthere you\n\0\xff\x01"
    );
    assert_eq!(
        exported(&store, id, Format::Raw, Some(Stream::Stderr), false).await,
        b"oh \x1b[1mno\x1b[0m\n"
    );
    assert_eq!(
        exported(&store, id, Format::AsciicastV3, None, false).await,
        store.cast(id).unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn v2_has_times_from_the_start_and_only_its_own_codes() {
    let (store, id) = shell().await;
    let v2 =
        String::from_utf8(exported(&store, id, Format::AsciicastV2, None, false).await).unwrap();
    let lines: Vec<serde_json::Value> = v2
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (
            &lines[0]["version"],
            &lines[0]["width"],
            &lines[0]["env"]["TERM"]
        ),
        (&2.into(), &80.into(), &"xterm-256color".into())
    );
    let events: Vec<String> = lines[1..]
        .iter()
        .map(|line| format!("{} {}", line[0], line[1]))
        .collect();
    assert_eq!(
        events,
        ["0.0 \"o\"", "10.0 \"o\"", "20.0 \"r\"", "20.0 \"o\""]
    );
    let (store, id) = command().await;
    let v2 =
        String::from_utf8(exported(&store, id, Format::AsciicastV2, None, false).await).unwrap();
    assert!(v2.contains(r#""o", "hi\r\nthere""#), "{v2}");
}

#[tokio::test(start_paused = true)]
async fn a_live_recording_is_exported_up_to_its_last_whole_line() {
    let store = FaultyStore::default();
    let recording = open(&store, begun("2026-11-24T03:00:00Z", true)).await;
    recording.output(Stream::Stdout, b"so far").await.unwrap();
    let id = recording.id();
    assert_eq!(
        exported(&store, id, Format::AsciicastV3, None, false).await,
        store.cast(id).unwrap()
    );
    assert!(store.open(id).await.unwrap().manifest.is_none());
}

#[test]
fn words_are_parsed_and_help_is_no_error() {
    assert!(matches!(
        parse_word(&["show", "01K"]),
        Ok(ReadingWord::Show { .. })
    ));
    assert!(matches!(
        parse_word(&["fetch", "latest"]),
        Ok(ReadingWord::Fetch { .. })
    ));
    let (status, help) = parse_word(&["sessions", "--help"]).unwrap_err();
    assert!(status == 0 && help.contains("--jti"), "{help}");
    let (status, error) = parse_word(&["replay", "x", "--speed", "1e9"]).unwrap_err();
    assert!(status == 2 && error.contains("0.0625 to 64"), "{error}");
}

#[derive(Debug, clap::Parser)]
#[command(name = "bastion", no_binary_name = true)]
struct Line {
    #[command(subcommand)]
    word: ReadingWord,
}

/// The error is the status and the text.
fn parse_word<S: AsRef<str>>(arguments: &[S]) -> Result<ReadingWord, (u8, String)> {
    match <Line as clap::Parser>::try_parse_from(arguments.iter().map(AsRef::as_ref)) {
        Ok(line) => Ok(line.word),
        Err(error) => Err((
            if error.use_stderr() { 2 } else { 0 },
            error.render().to_string(),
        )),
    }
}
