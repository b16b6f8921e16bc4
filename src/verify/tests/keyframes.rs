//! Where a player may begin in the middle, what is shown is what reading from the beginning shows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::world::{Files, Sort, World, files};
use crate::messages::WindowSize;
use crate::recording::testing::to_pack;
use crate::recording::{
    Ending, Event, Happening, Header, Keyframe, OpenRecording, Packer, Reader, Recorder, Shown,
    Stream, ToPack, find_keyframe,
};
use crate::replay::SafeText;
use crate::replay::screen::Screen;
use crate::session::SessionId;

type Packs = mpsc::Receiver<ToPack>;

/// What a terminal shows.
struct Seen {
    safe: SafeText,
    screen: Screen,
}

impl Seen {
    fn new(size: WindowSize) -> Self {
        Self {
            safe: SafeText::default(),
            screen: Screen::new(size).unwrap(),
        }
    }

    fn at(keyframe: &Keyframe) -> Self {
        let mut seen = Self::new(keyframe.size.unwrap());
        seen.screen.feed(keyframe.screen.as_ref().unwrap());
        let mut shown = String::new();
        seen.safe.feed(&keyframe.sequence, &mut shown);
        assert_eq!(shown, "");
        seen
    }

    fn after(mut self, events: &[Event]) -> String {
        for event in events {
            match &event.what {
                Happening::Output {
                    shown: Shown::Text(text),
                    ..
                } => {
                    let mut safe = String::new();
                    self.safe.feed(text, &mut safe);
                    self.screen.feed(&safe);
                }
                Happening::Resize(size) => drop(self.screen.resize(*size)),
                _ => {}
            }
        }
        self.screen.dump()
    }
}

/// One that goes on, and where it goes to be packed.
async fn begun(world: &World, encrypted: bool, terminal: bool) -> (OpenRecording, Packs) {
    let sort = Sort {
        terminal,
        requests: false,
        encrypted,
        packed: false,
    };
    let (sealed, packs) = mpsc::channel(1);
    let store = Arc::new(world.store.clone());
    let recorder = Recorder::new(store, world.notary.clone()).with_packer(sealed);
    (world.open_with(recorder, sort).await, packs)
}

async fn packed(world: &World, recording: OpenRecording, packs: Packs) -> SessionId {
    recording.seal(Ending::Exit(0)).await.unwrap();
    let packer = Packer::new(world.store.clone(), world.notary.clone()).with_frames_of(512);
    packer.pack(to_pack(packs)).await.unwrap();
    recording.id()
}

/// Colours, cursors, half sequences, sequences that hide text over many frames, sizes, other alphabets, stray bytes.
async fn drawn(world: &World, encrypted: bool) -> SessionId {
    let (recording, packs) = begun(world, encrypted, true).await;
    let output = async |bytes: &[u8]| recording.output(Stream::Stdout, bytes).await.unwrap();
    for round in 0_u16..40 {
        let (colour, line, column) = (round % 8, round % 20 + 1, round % 60 + 1);
        output(format!("\x1b[3{colour}mround {round}\x1b[{line};{column}").as_bytes()).await;
        output(b"Hplaced \x1b[1").await;
        output(b"mbold\x1b[0m\r\n\x1b]52;c;").await;
        output("aGlkZGVu".repeat(30).as_bytes()).await;
        output(b"not shown\x07shown \x1b(").await;
        output("0lqqk\x1b(B caf\u{e9} \u{1f600}\r\n".as_bytes()).await;
        output(&[b"stray \xe9".as_slice(), &vec![b'.'; round.into()]].concat()).await;
        if round % 7 == 3 {
            let size = WindowSize {
                cols: 60 + round,
                rows: 20 + round % 9,
            };
            recording.resize(size).await.unwrap();
        }
    }
    packed(world, recording, packs).await
}

/// Some of one stream, some of the other.
async fn written(world: &World, encrypted: bool) -> SessionId {
    let (recording, packs) = begun(world, encrypted, false).await;
    for line in 0_u16..200 {
        let stream = match line / 7 % 2 == 0 {
            true => Stream::Stdout,
            false => Stream::Stderr,
        };
        let text = format!("line {line} of {}\n", stream.as_str());
        recording.output(stream, text.as_bytes()).await.unwrap();
    }
    packed(world, recording, packs).await
}

/// A recording from its beginning, and from each keyframe.
struct Read {
    header: Header,
    all: Vec<Event>,
    entered: Vec<(Keyframe, Vec<Event>)>,
}

async fn read(world: &World, id: SessionId) -> Read {
    let stored = world.recordings().open(id).await.unwrap();
    let mut reader = Reader::open(stored.cast().await.unwrap()).await.unwrap();
    let header = reader.header().clone();
    let mut all = Vec::new();
    while let Some(event) = reader.next().await.unwrap() {
        all.push(event);
    }
    let mut entered: Vec<(Keyframe, Vec<Event>)> = Vec::new();
    for event in &all {
        let keyframes = stored.keyframes().await.unwrap().unwrap();
        let Some(keyframe) = find_keyframe(keyframes, event.at).await.unwrap() else {
            continue;
        };
        if entered.last().is_some_and(|(last, _)| *last == keyframe) {
            continue;
        }
        assert!(Duration::from_micros(keyframe.at) <= event.at);
        let cast = stored.cast_from(keyframe.frame).await.unwrap();
        let mut reader = Reader::resume(cast, header.clone(), &keyframe);
        let mut rest = Vec::new();
        while let Some(event) = reader.next().await.unwrap() {
            rest.push(event);
        }
        let before = all.len() - rest.len();
        assert!(all[before..] == rest[..], "{keyframe:?}");
        entered.push((keyframe, rest));
    }
    assert!(entered.len() > 10, "{}", entered.len());
    Read {
        header,
        all,
        entered,
    }
}

#[tokio::test]
async fn what_is_shown_from_a_keyframe_on_is_what_is_shown_from_the_beginning_on() {
    for encrypted in [false, true] {
        let world = World::new();
        let id = drawn(&world, encrypted).await;
        let Read {
            header,
            all,
            entered,
        } = read(&world, id).await;
        let size = WindowSize {
            cols: header.term.cols,
            rows: header.term.rows,
        };
        let mut in_sequences = 0;
        for (keyframe, rest) in &entered {
            let before = all.len() - rest.len();
            // At the beginning of the frame, a little later, and at the end.
            for until in [0, 1, 2, 3, 7, rest.len()] {
                let until = until.min(rest.len());
                let whole = Seen::new(size).after(&all[..before + until]);
                let resumed = Seen::at(keyframe).after(&rest[..until]);
                assert_eq!(resumed, whole, "{until} events after {keyframe:?}");
            }
            in_sequences += usize::from(!keyframe.sequence.is_empty());
        }
        assert!(in_sequences > 3, "{in_sequences}");
    }
}

#[tokio::test]
async fn from_a_keyframe_on_output_is_of_the_stream_that_it_came_from() {
    for encrypted in [false, true] {
        let world = World::new();
        let id = written(&world, encrypted).await;
        let entered = read(&world, id).await.entered;
        let in_stderr = entered
            .iter()
            .filter(|(keyframe, _)| keyframe.from == Stream::Stderr);
        assert!(in_stderr.count() > 3);
    }
}

fn states(files: &Files) -> usize {
    let notes = String::from_utf8(files["checkpoints"].clone()).unwrap();
    notes.matches("\"state\":").count()
}

#[tokio::test]
async fn of_a_short_recording_as_little_as_can_be_is_kept() {
    let world = World::new();
    for encrypted in [false, true] {
        let (recording, packs) = begun(&world, encrypted, true).await;
        recording.output(Stream::Stdout, b"short").await.unwrap();
        recording.seal(Ending::Exit(0)).await.unwrap();
        let packer = Packer::new(world.store.clone(), world.notary.clone());
        packer.pack(to_pack(packs)).await.unwrap();
        let short = files(&world.directory(recording.id()));
        // Opened, sealed, packed: its one frame is under the last of them.
        assert_eq!(states(&short), 3, "{encrypted}");
        let lines = short["manifest.json"].split(|byte| *byte == b'\n').count();
        assert_eq!(lines, 2, "{encrypted}");
    }
    // Of many frames each has its own.
    let long = files(&world.directory(drawn(&world, false).await));
    assert!(states(&long) > 10);
}
