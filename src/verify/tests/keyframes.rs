//! Where a player may begin in the middle, what is shown is what reading from the beginning shows.

use std::time::Duration;

use tokio::sync::mpsc;

use super::world::{SORTS, World};
use crate::messages::WindowSize;
use crate::recording::testing::to_pack;
use crate::recording::{
    Ending, Event, Happening, Keyframe, Packer, Reader, Recorder, Shown, Stream, find_keyframe,
};
use crate::replay::SafeText;
use crate::replay::screen::Screen;

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

/// Colours, cursors, half sequences, sequences that hide text over many frames, sizes, other alphabets.
async fn drawn(world: &World, encrypted: bool) -> crate::session::SessionId {
    let sort = SORTS
        .into_iter()
        .find(|sort| sort.terminal && sort.encrypted == encrypted && !sort.packed);
    let (sealed, packs) = mpsc::channel(1);
    let recorder = Recorder::new(
        std::sync::Arc::new(world.store.clone()),
        world.notary.clone(),
    );
    let recording = world
        .open_with(recorder.with_packer(sealed), sort.unwrap())
        .await;
    for round in 0_u16..40 {
        for text in [
            format!(
                "\x1b[3{}mround {round}\x1b[{};{}",
                round % 8,
                round % 20 + 1,
                round % 60 + 1
            ),
            "Hplaced \x1b[1".to_owned(),
            "mbold\x1b[0m\r\n\x1b]52;c;".to_owned(),
            "aGlkZGVu".repeat(30),
            "not shown\x07shown \x1b(".to_owned(),
            "0lqqk\x1b(B caf\u{e9} \u{1f600}\r\n".to_owned(),
        ] {
            recording
                .output(Stream::Stdout, text.as_bytes())
                .await
                .unwrap();
        }
        if round % 7 == 3 {
            recording
                .resize(WindowSize {
                    cols: 60 + round,
                    rows: 20 + round % 9,
                })
                .await
                .unwrap();
        }
    }
    recording.seal(Ending::Exit(0)).await.unwrap();
    let packer = Packer::new(world.store.clone(), world.notary.clone());
    packer
        .with_frames_of(512)
        .pack(to_pack(packs))
        .await
        .unwrap();
    recording.id()
}

#[tokio::test]
async fn what_is_shown_from_a_keyframe_on_is_what_is_shown_from_the_beginning_on() {
    for encrypted in [false, true] {
        let world = World::new();
        let id = drawn(&world, encrypted).await;
        let stored = world.recordings().open(id).await.unwrap();
        let mut reader = Reader::open(stored.cast().await.unwrap()).await.unwrap();
        let header = reader.header().clone();
        let size = WindowSize {
            cols: header.term.cols,
            rows: header.term.rows,
        };
        let mut all = Vec::new();
        while let Some(event) = reader.next().await.unwrap() {
            all.push(event);
        }
        let (mut frames, mut in_sequences) = (Vec::new(), 0);
        for event in &all {
            let keyframes = stored.keyframes().await.unwrap().unwrap();
            let Some(keyframe) = find_keyframe(keyframes, event.at).await.unwrap() else {
                continue;
            };
            if frames.last() == Some(&keyframe) {
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
            // At the beginning of the frame, a little later, and at the end.
            for until in [0, 1, 2, 3, 7, rest.len()] {
                let until = until.min(rest.len());
                let whole = Seen::new(size).after(&all[..before + until]);
                let resumed = Seen::at(&keyframe).after(&rest[..until]);
                assert_eq!(resumed, whole, "{until} events after {keyframe:?}");
            }
            in_sequences += usize::from(!keyframe.sequence.is_empty());
            frames.push(keyframe);
        }
        assert!(frames.len() > 10, "{}", frames.len());
        assert!(in_sequences > 3, "{in_sequences}");
    }
}
