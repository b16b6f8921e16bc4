use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::*;
use crate::config::{Name, RecordInput};
use crate::export::{Export, Format, export};
use crate::messages::WindowSize;
use crate::recording::roundtrip::metadata;
use crate::recording::testing::recordings;
use crate::recording::{Ending, Metadata, OpenRecording, Stream};
use crate::session::SessionId;
use crate::store::faulty::FaultyStore;

mod exporting;
mod finding;
mod playing;
mod requests;

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
    crate::recording::testing::open(store, metadata, RecordInput::Auto)
        .await
        .unwrap()
}

async fn pass(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
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
    let (status, error) = parse_word(&["sessions", "-n", "prod"]).unwrap_err();
    assert!(status == 2 && error.contains("--touched"), "{error}");
    let (status, error) = parse_word(&["replay", "x", "--speed", "1e9"]).unwrap_err();
    assert!(status == 2 && error.contains("0.0625 to 64"), "{error}");
}
