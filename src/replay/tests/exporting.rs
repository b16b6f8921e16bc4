use super::*;

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
        &recordings(store),
        id,
        Export {
            requests: false,
            from: Duration::ZERO,
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
    assert!(store.manifest(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_text_begins_where_it_is_told() {
    let text = |(store, id): (FaultyStore, SessionId), seconds| async move {
        let what = Export {
            format: Format::Text,
            stream: None,
            timestamps: false,
            requests: false,
            from: Duration::from_secs(seconds),
        };
        let mut text = Vec::new();
        export(&recordings(&store), id, what, &mut text)
            .await
            .unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(text(shell().await, 10).await, "second\nth\u{ef}rd\n");
    assert_eq!(text(shell().await, 11).await, "th\u{ef}rd\n");
    assert_eq!(text(shell().await, 21).await, "");
    assert_eq!(
        text(command().await, 1).await,
        "! oh no\nthere\n[8 bytes of binary output]\n"
    );
}
