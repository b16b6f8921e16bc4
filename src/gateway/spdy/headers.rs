//! Header blocks: name and value pairs, deflated. The compression's state spans all blocks of one direction, so
//! that every block must be read, whatever its frame is worth.

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::{DICTIONARY, DICTIONARY_ID};
use super::error::SpdyError;

/// The most that a block may inflate to. Kubernetes sends five short ones.
pub(super) const MAX_BLOCK: usize = 32 * 1024;

/// The most headers in a block.
pub(super) const MAX_HEADERS: u32 = 64;

/// A block's headers, in their order. Names are in lower case and differ; a value that holds NUL is several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Bytes)>);

impl Headers {
    /// With these; for the encoder, which takes names as they are.
    pub fn new(pairs: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The value under a name, all of it.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let pair = self.0.iter().find(|(known, _)| known == name)?;
        Some(&pair.1)
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), &value[..]))
    }

    fn parse(mut block: Bytes) -> Result<Self, SpdyError> {
        let count = block.try_get_u32().map_err(|_| SpdyError::HeaderLengths)?;
        if count > MAX_HEADERS {
            return Err(SpdyError::TooManyHeaders {
                count,
                limit: MAX_HEADERS,
            });
        }
        let mut headers: Vec<(String, Bytes)> = Vec::new();
        for _ in 0..count {
            let name = name(&field(&mut block)?)?;
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(SpdyError::DuplicateHeader);
            }
            headers.push((name, field(&mut block)?));
        }
        if block.is_empty() {
            Ok(Self(headers))
        } else {
            Err(SpdyError::HeaderLengths)
        }
    }

    fn block(&self) -> Result<Vec<u8>, SpdyError> {
        let length = |n: usize| u32::try_from(n).map_err(|_| SpdyError::Unsendable);
        let mut block = Vec::new();
        block.extend_from_slice(&length(self.0.len())?.to_be_bytes());
        for (name, value) in &self.0 {
            block.extend_from_slice(&length(name.len())?.to_be_bytes());
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(&length(value.len())?.to_be_bytes());
            block.extend_from_slice(value);
        }
        Ok(block)
    }
}

fn field(block: &mut Bytes) -> Result<Bytes, SpdyError> {
    let length = block.try_get_u32().map_err(|_| SpdyError::HeaderLengths)?;
    let length = usize::try_from(length).map_err(|_| SpdyError::HeaderLengths)?;
    if length > block.len() {
        return Err(SpdyError::HeaderLengths);
    }
    Ok(block.split_to(length))
}

/// Visible ASCII without capitals; `:` may be first (SPDY's own, such as `:status`).
fn name(bytes: &[u8]) -> Result<String, SpdyError> {
    let fits = |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() && bytes.iter().all(fits) => Ok(name.to_owned()),
        _ => Err(SpdyError::HeaderName),
    }
}

/// Reads the header blocks of one direction.
#[derive(Debug)]
pub struct Inflater {
    zlib: Decompress,
    out: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            zlib: Decompress::new(true),
            out: Vec::new(),
        }
    }
}

impl Inflater {
    /// Reads one block. After an error the direction cannot be read any more.
    pub fn read(&mut self, mut compressed: &[u8]) -> Result<Headers, SpdyError> {
        // One byte more than may come out, to see what would.
        self.out.resize(MAX_BLOCK + 1, 0);
        let mut filled = 0;
        while !compressed.is_empty() {
            let before = (self.zlib.total_in(), self.zlib.total_out());
            let room = self.out.get_mut(filled..).unwrap_or_default();
            let result = self
                .zlib
                .decompress(compressed, room, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before.0);
            let given = usize::try_from(self.zlib.total_out() - before.1);
            let (Ok(taken), Ok(given)) = (taken, given) else {
                return Err(SpdyError::Inflate);
            };
            compressed = compressed.get(taken..).unwrap_or_default();
            filled += given;
            if filled > MAX_BLOCK {
                return Err(SpdyError::HeadersTooLong { limit: MAX_BLOCK });
            }
            match result {
                Ok(Status::Ok) if taken + given > 0 => {}
                Ok(_) => return Err(SpdyError::Inflate),
                Err(error) if error.needs_dictionary() == Some(DICTIONARY_ID) => {
                    self.zlib
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| SpdyError::Inflate)?;
                }
                Err(_) => return Err(SpdyError::Inflate),
            }
        }
        Headers::parse(Bytes::copy_from_slice(
            self.out.get(..filled).unwrap_or_default(),
        ))
    }
}

/// Writes the header blocks of one direction.
#[derive(Debug)]
pub(super) struct Deflater {
    zlib: Compress,
    dictionary_set: bool,
}

impl Default for Deflater {
    fn default() -> Self {
        Self {
            zlib: Compress::new(Compression::fast(), true),
            dictionary_set: false,
        }
    }
}

impl Deflater {
    pub(super) fn write(&mut self, headers: &Headers, out: &mut Vec<u8>) -> Result<(), SpdyError> {
        if !self.dictionary_set {
            self.zlib
                .set_dictionary(&DICTIONARY)
                .map_err(|_| SpdyError::Deflate)?;
            self.dictionary_set = true;
        }
        let block = headers.block()?;
        let mut rest = block.as_slice();
        loop {
            out.reserve(rest.len() / 2 + 512);
            let before = self.zlib.total_in();
            self.zlib
                .compress_vec(rest, out, FlushCompress::Sync)
                .map_err(|_| SpdyError::Deflate)?;
            let taken = usize::try_from(self.zlib.total_in() - before);
            rest = rest.get(taken.unwrap_or(usize::MAX)..).unwrap_or_default();
            // Room that is left says that the flush is complete (zlib.h, deflate).
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }
}
