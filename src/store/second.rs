//! A second record of the same bytes, for sessions that must be believed though their disk is full: JSON lines on the
//! daemon's standard error, which a supervisor keeps elsewhere.
//!
//! It is made of what the store is given: of an encrypted recording that is the encrypted form, with the key that only
//! the recipients can read. So no configuration puts plaintext there that is kept from the disk.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;

use super::{Beginning, Lines, Part, RecordingSink, RecordingStore, StoreError};
use crate::session::SessionId;

/// A standard error that takes nothing for so long is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a file in one line, at the most: journald cuts lines of 48 KiB in two.
const PIECE: usize = 16 << 10;

/// Where the second record goes. Clones go to the same place.
#[derive(Clone)]
pub(crate) struct Second(Arc<Mutex<dyn Write + Send>>);

impl Second {
    /// To somewhere else.
    #[cfg(test)]
    pub(crate) fn to(place: Arc<Mutex<dyn Write + Send>>) -> Self {
        Self(place)
    }

    /// Begins a recording in `store`, and tells everything of it here first. Not told means not recorded: the session
    /// ends.
    pub(crate) async fn create(
        &self,
        store: &dyn RecordingStore,
        id: SessionId,
        beginning: Beginning,
    ) -> Result<Arc<dyn RecordingSink>, StoreError> {
        let (cast, requests) = match beginning.spool_key {
            Some(_) => (Part::CastSpool, beginning.requests),
            None => (Part::Cast, beginning.requests),
        };
        let told = Told {
            second: self.clone(),
            id,
            ends: Mutex::default(),
        };
        let key = beginning.spool_key.clone().unwrap_or_default();
        told.tell([
            (Part::SpoolKey, key),
            (cast, beginning.cast.clone()),
            (Part::Checkpoints, beginning.note.clone()),
        ])
        .await?;
        let sink = store.create(id, beginning).await?;
        Ok(Arc::new(Both {
            told,
            cast,
            requests,
            sink,
        }))
    }
}

impl Default for Second {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(std::io::stderr())))
    }
}

impl std::fmt::Debug for Second {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Second(..)")
    }
}

/// What was told of one recording.
#[derive(Debug)]
struct Told {
    second: Second,
    id: SessionId,
    /// How long each file is by now.
    ends: Mutex<Vec<(Part, usize)>>,
}

#[derive(Debug)]
struct Both {
    told: Told,
    cast: Part,
    requests: Part,
    sink: Arc<dyn RecordingSink>,
}

#[async_trait]
impl RecordingSink for Both {
    async fn append(self: Arc<Self>, lines: Lines) -> Result<(), StoreError> {
        self.told
            .tell([
                (self.requests, lines.requests.clone()),
                (self.cast, lines.cast.clone()),
            ])
            .await?;
        Arc::clone(&self.sink).append(lines).await
    }

    async fn checkpoint(self: Arc<Self>, note: Bytes) -> Result<(), StoreError> {
        self.told.tell([(Part::Checkpoints, note.clone())]).await?;
        Arc::clone(&self.sink).checkpoint(note).await
    }

    async fn seal(self: Arc<Self>, note: Bytes, manifest: Bytes) -> Result<(), StoreError> {
        self.told
            .tell([
                (Part::Checkpoints, note.clone()),
                (Part::Manifest, manifest.clone()),
            ])
            .await?;
        Arc::clone(&self.sink).seal(note, manifest).await
    }
}

impl Told {
    /// Each piece as `{"rescue": SESSION, "file": NAME, "from": OFFSET, "text": TEXT}`, or with `base64` where it is no
    /// text.
    async fn tell<const N: usize>(&self, files: [(Part, Bytes); N]) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        for (part, bytes) in &files {
            let mut from = self.grown(*part, bytes.len());
            for piece in pieces(bytes) {
                let mut told = json!({ "rescue": self.id, "file": part.name(), "from": from });
                let (key, text) = match std::str::from_utf8(piece) {
                    Ok(text) => ("text", text.to_owned()),
                    Err(_) => ("base64", STANDARD.encode(piece)),
                };
                if let Some(told) = told.as_object_mut() {
                    told.insert(key.to_owned(), text.into());
                }
                lines.extend_from_slice(told.to_string().as_bytes());
                lines.push(b'\n');
                from = from.saturating_add(piece.len());
            }
        }
        let Second(place) = self.second.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            place.write_all(&lines).and_then(|()| place.flush())
        });
        let failed = |error| StoreError::io("keeping a second record on standard error", error);
        match tokio::time::timeout(PATIENCE, writing).await {
            Ok(Ok(written)) => written.map_err(failed),
            Ok(Err(_)) => Err(StoreError::WriterGone),
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// A file is longer by so much; its length before.
    fn grown(&self, part: Part, by: usize) -> usize {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        match ends.iter_mut().find(|(there, _)| *there == part) {
            Some((_, end)) => {
                let before = *end;
                *end = before.saturating_add(by);
                before
            }
            None => {
                ends.push((part, by));
                0
            }
        }
    }
}

/// No longer than [`PIECE`], and text between two characters.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (mut piece, mut rest) = bytes.split_at_checked(PIECE).unwrap_or((bytes, &[]));
        if let Err(error) = std::str::from_utf8(piece)
            && error.error_len().is_none()
            && let Some((whole, _)) = bytes.split_at_checked(error.valid_up_to())
            && !whole.is_empty()
        {
            (piece, rest) = bytes.split_at_checked(whole.len())?;
        }
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::RecordInput;
    use crate::recording::roundtrip::metadata;
    use crate::recording::testing::TestNotary;
    use crate::recording::{Ending, Keeping, Recipients, Recorder, Stream};
    use crate::store::faulty::FaultyStore;

    type Place = Arc<Mutex<Vec<u8>>>;

    fn rescued() -> Keeping {
        Keeping {
            rescue: true,
            ..Keeping::clear(RecordInput::Auto)
        }
    }

    fn recorder(store: &FaultyStore) -> (Recorder, Place) {
        let place = Place::default();
        let recorder = Recorder::new(Arc::new(store.clone()), TestNotary::new())
            .with_second(Second::to(Arc::clone(&place) as _));
        (recorder, place)
    }

    /// Each file as it can be put together from what was told, and that it can.
    fn files(place: &Place) -> BTreeMap<String, Vec<u8>> {
        let told = place.lock().unwrap();
        let mut files = BTreeMap::<String, Vec<u8>>::new();
        for line in told
            .split(|byte| *byte == b'\n')
            .filter(|it| !it.is_empty())
        {
            assert!(line.len() < 48 << 10, "{}", line.len());
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            let file = files
                .entry(line["file"].as_str().unwrap().to_owned())
                .or_default();
            assert_eq!(line["from"], file.len(), "{line}");
            match line["text"].as_str() {
                Some(text) => file.extend_from_slice(text.as_bytes()),
                None => file.extend(STANDARD.decode(line["base64"].as_str().unwrap()).unwrap()),
            }
        }
        files
    }

    #[tokio::test]
    async fn what_a_rescuer_does_is_told_byte_for_byte_in_a_second_place() {
        let store = FaultyStore::default();
        let (recorder, place) = recorder(&store);
        let recording = recorder.open(metadata(false), rescued()).await.unwrap();
        let long = "\u{e4}\"\\".repeat(40_000);
        recording
            .output(Stream::Stdout, long.as_bytes())
            .await
            .unwrap();
        recording.seal(Ending::Exit(0)).await.unwrap();
        let id = recording.id();
        let told = files(&place);
        assert_eq!(told["session.cast"], store.cast(id).unwrap());
        assert_eq!(told["checkpoints"], store.checkpoints(id).unwrap());
        assert_eq!(told["manifest.json"], store.manifest(id).unwrap());

        // And of nobody else.
        place.lock().unwrap().clear();
        let keeping = Keeping::clear(RecordInput::Auto);
        let other = recorder.open(metadata(false), keeping).await.unwrap();
        other.seal(Ending::Exit(0)).await.unwrap();
        assert!(place.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn of_an_encrypted_recording_the_second_place_has_no_plaintext() {
        let store = FaultyStore::default();
        let (recorder, place) = recorder(&store);
        let identity = age::x25519::Identity::generate();
        let to = identity.to_public().to_string().parse().unwrap();
        let keeping = Keeping {
            recipients: Some(Arc::new(Recipients::new(vec![to]).unwrap())),
            ..rescued()
        };
        let recording = recorder.open(metadata(false), keeping).await.unwrap();
        recording
            .output(Stream::Stdout, b"what nobody shall read")
            .await
            .unwrap();
        recording.seal(Ending::Exit(0)).await.unwrap();
        let told = files(&place);
        assert_eq!(told["session.spool"], store.cast(recording.id()).unwrap());
        assert!(told.contains_key("spool.key.age"));
        let needle = b"what nobody shall read";
        let clear = |bytes: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
        assert!(!clear(&place.lock().unwrap()));
        assert!(!told.values().any(|file| clear(file)));
    }

    #[tokio::test]
    async fn what_is_not_told_is_not_recorded() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let store = FaultyStore::default();
        let recorder = Recorder::new(Arc::new(store.clone()), TestNotary::new())
            .with_second(Second::to(Arc::new(Mutex::new(Broken))));
        let metadata = metadata(false);
        let session = metadata.session;
        assert!(recorder.open(metadata, rescued()).await.is_err());
        assert!(store.cast(session).is_none());
    }
}
