use super::*;

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
    play(&recordings(store), id, &mut out, &mut pressed, how)
        .await
        .unwrap();
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
