//! What goes through a session, on its way into the lines of a recording without the credentials in it.

use std::time::Duration;

use super::encode::Encoder;
use super::error::RecordingError;
use super::header::Metadata;
use super::manifest::Ending;
use super::masking::{Book, MASK, Masked, MaskedStream, Masking, OnRecord, Piece, Secrets};
use super::open::OpenRecording;
use super::writing::{Inner, Input, Writing};
use super::{Stream, code};

/// What each stream of a recording may be in the midst of.
#[derive(Default)]
pub(super) struct Maskings {
    stdout: Masking,
    stderr: Masking,
    stdin: Masking,
}

impl Maskings {
    fn of(&mut self, stream: Stream) -> &mut Masking {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl OpenRecording {
    /// Records output. Call it before the bytes go to the client. What may be the beginning of a credential is masked;
    /// who can wait for the rest of it calls [`OpenRecording::output_so_far`].
    pub async fn output(&self, stream: Stream, bytes: &[u8]) -> Result<(), RecordingError> {
        match self.output_so_far(stream, bytes).await? {
            OnRecord::Whole => Ok(()),
            OnRecord::InPart => self.settle(stream).await,
        }
    }

    /// Records output, and holds its end back while that may be part of a credential. Nothing of it may be shown
    /// before a later call answers that all is on record, or [`OpenRecording::settle`] has returned.
    pub async fn output_so_far(
        &self,
        stream: Stream,
        bytes: &[u8],
    ) -> Result<OnRecord, RecordingError> {
        let book = self.0.secrets().book();
        self.0
            .record(|writing, at| Ok(writing.output(&book, at, stream, bytes)))
            .await
    }

    /// Records what is held back of a stream as masked: nobody may wait for it any longer.
    pub async fn settle(&self, stream: Stream) -> Result<(), RecordingError> {
        let book = self.0.secrets().book();
        self.0
            .record(|writing, at| {
                writing.settle(&book, at, stream);
                Ok(())
            })
            .await
    }

    /// Records input, as far as the role has it recorded. Call it before the command reads the bytes.
    pub async fn input(&self, bytes: &[u8]) -> Result<(), RecordingError> {
        let book = self.0.secrets().book();
        self.0
            .record(|writing, at| {
                writing.input(&book, at, bytes);
                Ok(())
            })
            .await
    }
}

impl Writing {
    fn output(&mut self, book: &Book, at: Duration, stream: Stream, bytes: &[u8]) -> OnRecord {
        let total = match stream {
            Stream::Stdout => &mut self.totals.stdout_bytes,
            Stream::Stderr => &mut self.totals.stderr_bytes,
        };
        *total = total.saturating_add(bytes.len() as u64);
        // Text grows by a line break here and there, base64 by a third.
        self.cast.reserve(bytes.len() + bytes.len() / 2 + 64);
        let (encoder, cast) = (&mut self.encoder, &mut self.cast);
        let holding = self.maskings.of(stream).feed(book, bytes, |piece| {
            put_output(encoder, at, stream, piece, cast);
        });
        match holding {
            true => OnRecord::InPart,
            false => OnRecord::Whole,
        }
    }

    fn settle(&mut self, book: &Book, at: Duration, stream: Stream) {
        let (encoder, cast) = (&mut self.encoder, &mut self.cast);
        self.maskings.of(stream).settle(book, |piece| {
            put_output(encoder, at, stream, piece, cast);
        });
    }

    /// Both streams, at the end.
    pub(super) fn settle_all(&mut self, book: &Book, at: Duration) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.settle(book, at, stream);
        }
    }

    /// Nothing of an input is held back: a command may wait for the very bytes. So the beginning of a credential at the
    /// end of `bytes` is masked at once.
    fn input(&mut self, book: &Book, at: Duration, bytes: &[u8]) {
        self.totals.stdin_bytes = self.totals.stdin_bytes.saturating_add(bytes.len() as u64);
        let (encoder, cast) = (&mut self.encoder, &mut self.cast);
        match &mut self.input {
            Input::Full => {
                let mut put = |piece: Piece<'_>| put_input(encoder, at, piece, cast);
                self.maskings.stdin.feed(book, bytes, &mut put);
                self.maskings.stdin.settle(book, &mut put);
            }
            Input::Digest(digest) => digest.update(bytes),
            Input::Off => {}
        }
    }
}

fn put_output(
    encoder: &mut Encoder,
    at: Duration,
    stream: Stream,
    piece: Piece<'_>,
    cast: &mut Vec<u8>,
) {
    match piece {
        Piece::Plain(bytes) => encoder.output(at, stream, bytes, cast),
        Piece::Masked { .. } => {
            let masked = Masked::of(stream.into(), piece);
            if masked.shown > 0 {
                encoder.output(at, stream, MASK.as_bytes(), cast);
            }
            put_masked(encoder, at, &masked, cast);
        }
    }
}

fn put_input(encoder: &mut Encoder, at: Duration, piece: Piece<'_>, cast: &mut Vec<u8>) {
    match piece {
        Piece::Plain(bytes) => encoder.input(at, bytes, cast),
        Piece::Masked { .. } => {
            let masked = Masked::of(MaskedStream::Stdin, piece);
            if masked.shown > 0 {
                encoder.input(at, MASK.as_bytes(), cast);
            }
            put_masked(encoder, at, &masked, cast);
        }
    }
}

fn put_masked(encoder: &mut Encoder, at: Duration, masked: &Masked, cast: &mut Vec<u8>) {
    match serde_json::to_string(masked) {
        Ok(json) => encoder.event(at, code::MASKED, &json, cast),
        // Numbers and plain words: that does not happen, and the mask itself is there.
        Err(error) => tracing::error!("a mask that is not marked: {error}"),
    }
}

impl Masked {
    /// What is said of a masked piece; of a plain one, that nothing was masked.
    fn of(stream: MaskedStream, piece: Piece<'_>) -> Self {
        let (length, shown, jti) = match piece {
            Piece::Plain(_) => (0, false, None),
            Piece::Masked { length, shown, jti } => (length, shown, jti),
        };
        Self {
            stream,
            length: length as u64,
            shown: if shown { MASK.len() as u64 } else { 0 },
            jti: jti.map(|jti| jti.to_string()),
        }
    }
}

/// A body that is on record piece by piece.
pub(crate) struct BodyMasking {
    secrets: Secrets,
    masking: Masking,
}

impl OpenRecording {
    /// For the pieces of one body, in their order.
    pub(crate) fn body_masking(&self) -> BodyMasking {
        BodyMasking {
            secrets: self.0.secrets().clone(),
            masking: Masking::default(),
        }
    }
}

impl BodyMasking {
    /// What is to be recorded of the next piece; nothing if it is as it came.
    pub(crate) fn next(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let (mut changed, mut recorded) = (false, Vec::new());
        let book = self.secrets.book();
        let mut put = |piece: Piece<'_>| match piece {
            Piece::Plain(bytes) => recorded.extend_from_slice(bytes),
            Piece::Masked { shown, .. } => {
                changed = true;
                if shown {
                    recorded.extend_from_slice(MASK.as_bytes());
                }
            }
        };
        self.masking.feed(&book, piece, &mut put);
        self.masking.settle(&book, &mut put);
        changed.then_some(recorded)
    }
}

impl Inner {
    /// JSON without credentials. None of their bytes is written otherwise in JSON than as it is.
    pub(super) fn json(&self, what: &impl serde::Serialize) -> Result<String, RecordingError> {
        let json = serde_json::to_string(what)?;
        Ok(self.secrets().masked_text(&json).into_owned())
    }
}

impl Metadata {
    /// Without credentials in what the client said.
    pub(super) fn masked(mut self, secrets: &Secrets) -> Self {
        let pod = self.pod.iter_mut().flat_map(|pod| &mut pod.command);
        for text in pod.chain(&mut self.command) {
            if let std::borrow::Cow::Owned(masked) = secrets.masked_text(text) {
                *text = masked;
            }
        }
        self
    }
}

impl Ending {
    /// Without credentials in its sentence.
    pub(super) fn masked(self, secrets: &Secrets) -> Self {
        match self {
            Self::Cut { reason } => Self::Cut {
                reason: secrets.masked_text(&reason).into_owned(),
            },
            Self::Exit(_) | Self::Signal(_) => self,
        }
    }
}
