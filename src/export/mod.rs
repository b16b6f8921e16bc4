//! Recordings in other shapes.

mod asciicast;
mod raw;
mod stored;
mod text;

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};

use crate::recording::{Recordings, Stream};
use crate::replay::PlayError;
use crate::session::SessionId;

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For asciinema 3, and for whoever wants all of it.
    AsciicastV3,
    /// As it is stored: of an encrypted recording the age file, for whoever has a key to it elsewhere; else as
    /// asciicast-v3.
    Stored,
    /// For asciinema 2: output, input, sizes and marks; without what is ours alone.
    AsciicastV2,
    /// The text that was seen, as a transcript.
    Text,
    /// The bytes of the output.
    Raw,
}

/// What to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// The shape.
    pub format: Format,
    /// Of text and raw: only this stream.
    pub stream: Option<Stream>,
    /// Of text: when each line came, before it.
    pub timestamps: bool,
    /// Of text: requests to the cluster as well.
    pub requests: bool,
    /// Of text: only lines that came so long after the start, or later.
    pub from: Duration,
}

/// Writes a recording to `out`.
pub async fn export(
    recordings: &Recordings,
    id: SessionId,
    what: Export,
    out: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<(), PlayError> {
    let stored = recordings.open(id).await?;
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    match what.format {
        Format::Stored => stored::export(&stored, &mut out).await?,
        Format::AsciicastV3 => asciicast::v3(&stored, &mut out).await?,
        Format::AsciicastV2 => asciicast::v2(&stored, &mut out).await?,
        Format::Text => text::export(&stored, &what, &mut out).await?,
        Format::Raw => raw::export(&stored, what.stream, &mut out).await?,
    }
    out.flush().await.map_err(PlayError::Write)
}

type Out<'a> = BufWriter<&'a mut (dyn AsyncWrite + Send + Unpin)>;

async fn put(out: &mut Out<'_>, bytes: &[u8]) -> Result<(), PlayError> {
    out.write_all(bytes).await.map_err(PlayError::Write)
}
