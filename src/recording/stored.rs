//! Recordings as readers want them: in clear, whatever form they lie in.

use std::io::{self, BufReader, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::check::read_manifest;
use super::error::ReadError;
use super::header::{Bastion, Metadata};
use super::manifest::Manifest;
use super::reader::LineReader;
use super::recipients::decrypted;
use super::spool::{SpoolKey, SpoolReader};
use super::statement::{Checkpoints, Standing};
use crate::session::SessionId;
use crate::store::{Part, RecordingStore, Span, StoreError, StoredFile, StoredFiles};

/// Private keys of recipients.
#[derive(Clone, Default)]
pub struct Identities(Arc<Vec<Box<dyn age::Identity + Send + Sync>>>);

impl Identities {
    /// These.
    pub fn new(identities: Vec<Box<dyn age::Identity + Send + Sync>>) -> Self {
        Self(Arc::new(identities))
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

/// Bytes in clear, from the beginning.
pub(crate) type Plain = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// Reads the recordings of a store.
#[derive(Clone, Debug)]
pub struct Recordings {
    store: Arc<dyn RecordingStore>,
    identities: Identities,
}

impl Recordings {
    /// Those of `store`. What is encrypted is read as far as `identities` can.
    pub fn new(store: Arc<dyn RecordingStore>, identities: Identities) -> Self {
        Self { store, identities }
    }

    /// The recordings that were begun within a span of time, newest first.
    pub async fn list(&self, span: Span) -> Result<Vec<SessionId>, StoreError> {
        self.store.list(span).await
    }

    /// Opens one.
    pub async fn open(&self, id: SessionId) -> Result<Stored, StoreError> {
        Ok(Stored {
            id,
            files: self.store.open(id).await?,
            identities: self.identities.clone(),
        })
    }
}

/// A recording that is open for reading.
pub struct Stored {
    id: SessionId,
    files: Box<dyn StoredFiles>,
    identities: Identities,
}

impl Stored {
    /// Its files as they are stored.
    pub fn files(&self) -> &dyn StoredFiles {
        &*self.files
    }

    /// Its manifest, if it is closed.
    pub async fn manifest(&self) -> Result<Option<Manifest>, ReadError> {
        match read_manifest(&*self.files).await? {
            Some(bytes) => Manifest::parse(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// What was known when it was opened; of an encrypted one what may be read by everybody.
    pub async fn beginning(&self) -> Result<Bastion, ReadError> {
        let Some(file) = self.files.read(Part::Checkpoints).await? else {
            // Before there were checkpoints.
            let reader = LineReader::open(self.cast().await?).await?;
            return Ok(reader.header().bastion.clone());
        };
        let mut checkpoints = Checkpoints::new(tokio::io::BufReader::new(file.reader));
        match checkpoints.next().await?.map(|it| it.statement.standing) {
            Some(Standing::Opened { bastion, .. }) => Ok(*bastion),
            _ => Err(ReadError::Checkpoint {
                number: 0,
                what: "it does not open a recording".to_owned(),
            }),
        }
    }

    /// What its header says, where a key to it is at hand: of an encrypted recording all that everybody may not know, too.
    pub(crate) async fn described(&self) -> Option<Metadata> {
        if self.identities.0.is_empty() {
            return None;
        }
        let reader = LineReader::open(self.cast().await.ok()?).await.ok()?;
        Some(reader.header().metadata().clone())
    }

    /// The cast.
    pub async fn cast(&self) -> Result<Plain, ReadError> {
        let parts = [
            Part::Cast,
            Part::CastPacked,
            Part::CastEncrypted,
            Part::CastSpool,
        ];
        let cast = self.first(&parts).await?;
        cast.ok_or(ReadError::Store(StoreError::NotFound(self.id)))
    }

    /// The request index, if there is one.
    pub async fn requests(&self) -> Result<Option<Plain>, ReadError> {
        self.first(&[
            Part::Requests,
            Part::RequestsPacked,
            Part::RequestsEncrypted,
            Part::RequestsSpool,
        ])
        .await
    }

    /// Where to begin in the middle, if that is written down.
    pub(crate) async fn keyframes(&self) -> Result<Option<Plain>, ReadError> {
        self.first(&[Part::Keyframes, Part::KeyframesEncrypted])
            .await
    }

    /// The cast from a frame that begins at this byte of what was packed.
    pub(crate) async fn cast_from(&self, frame: u64) -> Result<Plain, ReadError> {
        for part in [Part::CastPacked, Part::CastEncrypted] {
            if let Some(file) = self.files.read(part).await? {
                return self.plain(part, file, frame).await;
            }
        }
        Err(ReadError::Store(StoreError::NotFound(self.id)))
    }

    async fn first(&self, parts: &[Part]) -> Result<Option<Plain>, ReadError> {
        for part in parts {
            if let Some(file) = self.files.read(*part).await? {
                return self.plain(*part, file, 0).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn plain(&self, part: Part, file: StoredFile, from: u64) -> Result<Plain, ReadError> {
        let encrypted = matches!(
            part,
            Part::CastSpool
                | Part::RequestsSpool
                | Part::CastEncrypted
                | Part::RequestsEncrypted
                | Part::KeyframesEncrypted
        );
        if encrypted && self.identities.0.is_empty() {
            return Err(ReadError::Encrypted);
        }
        let identities = self.identities.clone();
        match part {
            Part::CastSpool | Part::RequestsSpool => {
                let key = self.spool_key().await?;
                Ok(decoded(file, move |input| {
                    Ok(Box::new(SpoolReader::new(input, &key, part)?))
                }))
            }
            Part::CastPacked | Part::RequestsPacked | Part::Keyframes => {
                Ok(decoded(file, move |mut input| {
                    io::Seek::seek(&mut input, io::SeekFrom::Start(from))?;
                    unpacked(input)
                }))
            }
            Part::CastEncrypted | Part::RequestsEncrypted | Part::KeyframesEncrypted => {
                Ok(decoded(file, move |input| {
                    let mut plain = decrypted(input, &identities.0)?;
                    io::Seek::seek(&mut plain, io::SeekFrom::Start(from))?;
                    unpacked(plain)
                }))
            }
            Part::Cast | Part::Requests | Part::SpoolKey | Part::Checkpoints | Part::Manifest => {
                Ok(Box::new(file.reader))
            }
        }
    }

    async fn spool_key(&self) -> Result<SpoolKey, ReadError> {
        let missing = || ReadError::Manifest("the key of its spool is missing".to_owned());
        let file = self.files.read(Part::SpoolKey).await?;
        let mut wrapped = Vec::new();
        let reader = file.ok_or_else(missing)?.reader;
        reader.take(MAX_KEY).read_to_end(&mut wrapped).await?;
        Ok(SpoolKey::unwrap(&wrapped, &self.identities.0)?)
    }
}

/// The longest wrapped key that is read: a hundred bytes for each recipient.
const MAX_KEY: u64 = 1 << 20;

type Input = BufReader<SyncIoBridge<Box<dyn crate::store::StoredReader>>>;

fn unpacked(input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(zstd::Decoder::new(input)?))
}

/// Chunks under way from the thread that decodes.
const CHUNKS: usize = 4;
const CHUNK: usize = 128 * 1024;

/// Decodes on a thread of its own, which ends when nobody reads any more: the libraries that decrypt and unpack wait for
/// what they read.
fn decoded(
    file: StoredFile,
    open: impl FnOnce(Input) -> io::Result<Box<dyn Read + Send>> + Send + 'static,
) -> Plain {
    let (chunks, received) = mpsc::channel(CHUNKS);
    let bridge = SyncIoBridge::new(file.reader);
    tokio::task::spawn_blocking(move || {
        let decode = || {
            let mut input = open(BufReader::with_capacity(CHUNK, bridge))?;
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = input.read(&mut chunk)?;
                chunk.truncate(read);
                if read == 0 || chunks.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = decode() {
            // Who has stopped reading does not want to know.
            drop(chunks.blocking_send(Err(error)));
        }
    });
    Box::new(StreamReader::new(Received(received)))
}

struct Received(mpsc::Receiver<io::Result<Bytes>>);

impl futures_util::Stream for Received {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
