//! The spool of an encrypted recording: records that only the recipients can read, and whoever wrote them while they live.
//!
//! A spool begins with a line that says what it is. Each record is its length (4 bytes, big endian), and the ciphertext
//! of AES-256-GCM with its tag. The nonce is the file's letter and the record's number: records cannot be left out,
//! doubled, exchanged, or taken from elsewhere, for each recording has a key of its own.

use std::io::{self, Read};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::error::RecordingError;
use super::recipients::{Recipients, decrypted};
use crate::store::Part;

/// The first line of a spool.
const FIRST_LINE: &[u8] = b"bastion-audit/spool/v1\n";

/// The longest record that is read: what waits for the store at once is less.
const MAX_RECORD: usize = 8 << 20;

const TAG: usize = 16;

/// The key of a recording's spools.
pub(crate) struct SpoolKey(Zeroizing<[u8; 32]>);

impl SpoolKey {
    /// A new one.
    pub(super) fn generate() -> Result<Self, RecordingError> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(key.as_mut()).map_err(|_| RecordingError::Cipher)?;
        Ok(Self(key))
    }

    /// As the recipients can read it.
    pub(super) fn wrapped(&self, recipients: &Recipients) -> Result<Vec<u8>, RecordingError> {
        let mut wrapped = Vec::new();
        let mut writer = recipients.encrypt(&mut wrapped)?;
        io::Write::write_all(&mut writer, self.0.as_slice())
            .and_then(|()| writer.finish())
            .map_err(RecordingError::Encrypt)?;
        Ok(wrapped)
    }

    /// Reads it with an identity of one of the recipients.
    pub(crate) fn unwrap(
        wrapped: &[u8],
        identities: &[Box<dyn age::Identity + Send + Sync>],
    ) -> io::Result<Self> {
        let mut reader = decrypted(wrapped, identities)?;
        let mut key = Zeroizing::new([0; 32]);
        reader.read_exact(key.as_mut())?;
        Ok(Self(key))
    }

    /// A copy, for whoever packs the recording once it is sealed.
    pub(super) fn again(&self) -> Self {
        Self(self.0.clone())
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM, self.0.as_slice()).ok()?;
        Some(LessSafeKey::new(key))
    }
}

impl std::fmt::Debug for SpoolKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpoolKey(..)")
    }
}

/// Writes the records of one file.
pub(super) struct SpoolWriter {
    cipher: LessSafeKey,
    letter: u8,
    next: u64,
}

impl SpoolWriter {
    pub(super) fn new(key: &SpoolKey, part: Part) -> Result<Self, RecordingError> {
        Ok(Self {
            cipher: key.cipher().ok_or(RecordingError::Cipher)?,
            letter: letter(part),
            next: 0,
        })
    }

    /// `plain` as a record, with the first line before the first.
    pub(super) fn record(&mut self, plain: &[u8]) -> Result<Vec<u8>, RecordingError> {
        if plain.is_empty() {
            return Ok(Vec::new());
        }
        let length = plain.len().saturating_add(TAG);
        let said = u32::try_from(length).map_err(|_| RecordingError::Cipher)?;
        let mut out = Vec::with_capacity(length.saturating_add(4 + FIRST_LINE.len()));
        if self.next == 0 {
            out.extend_from_slice(FIRST_LINE);
        }
        out.extend_from_slice(&said.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(plain);
        let body = out.get_mut(start..).unwrap_or_default();
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce(self.letter, self.next), Aad::empty(), body)
            .map_err(|_| RecordingError::Cipher)?;
        out.extend_from_slice(tag.as_ref());
        self.next = self.next.saturating_add(1);
        Ok(out)
    }
}

/// Reads what the records of one file hold. At a torn last record it ends, as a recording does that goes on or was
/// interrupted.
pub(crate) struct SpoolReader<R> {
    input: R,
    cipher: LessSafeKey,
    letter: u8,
    next: u64,
    plain: Vec<u8>,
    at: usize,
}

impl<R: Read> SpoolReader<R> {
    pub(crate) fn new(mut input: R, key: &SpoolKey, part: Part) -> io::Result<Self> {
        let cipher = key.cipher().ok_or_else(|| damaged("its key is none"))?;
        // Torn before its first record, it has none.
        begins(&mut input)?;
        Ok(Self {
            input,
            cipher,
            letter: letter(part),
            next: 0,
            plain: Vec::new(),
            at: 0,
        })
    }

    fn next_record(&mut self) -> io::Result<bool> {
        let Some(record) = next_record(&mut self.input)? else {
            return Ok(false);
        };
        self.plain = record;
        let opened =
            self.cipher
                .open_in_place(nonce(self.letter, self.next), Aad::empty(), &mut self.plain);
        let length = opened
            .map_err(|_| damaged(&format!("record {} is not what was written", self.next)))?
            .len();
        self.plain.truncate(length);
        self.at = 0;
        self.next = self.next.saturating_add(1);
        Ok(true)
    }
}

impl<R: Read> Read for SpoolReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.plain.len() {
            if !self.next_record()? {
                return Ok(0);
            }
        }
        let rest = self.plain.get(self.at..).unwrap_or_default();
        let taken = rest.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..taken), rest.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(taken);
        Ok(taken)
    }
}

/// How long the whole records of a spool are, first line included: what is behind is torn.
pub(crate) fn whole_records(mut input: impl Read) -> io::Result<u64> {
    if !begins(&mut input)? {
        return Ok(0);
    }
    let mut whole = FIRST_LINE.len() as u64;
    while let Some(record) = next_record(&mut input)? {
        whole = whole.saturating_add(4).saturating_add(record.len() as u64);
    }
    Ok(whole)
}

/// Whether the whole first line is there.
fn begins(input: &mut impl Read) -> io::Result<bool> {
    let mut first = [0; FIRST_LINE.len()];
    match input.read_exact(&mut first) {
        Ok(()) if first == FIRST_LINE => Ok(true),
        Ok(()) => Err(damaged("it does not begin as a spool")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The ciphertext of the next record; `None` at the end and at a torn one.
fn next_record(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let torn = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Ok(None),
        _ => Err(error),
    };
    let mut length = [0; 4];
    if let Err(error) = input.read_exact(&mut length) {
        return torn(error);
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(TAG..=MAX_RECORD).contains(&length) {
        return Err(damaged("a record has no possible length"));
    }
    let mut record = Vec::new();
    let read = input.take(length as u64).read_to_end(&mut record)?;
    Ok((read == length).then_some(record))
}

fn nonce(letter: u8, number: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    Nonce::assume_unique_for_key([letter, 0, 0, 0, a, b, c, d, e, f, g, h])
}

/// One key, but no nonce twice.
fn letter(part: Part) -> u8 {
    match part {
        Part::RequestsSpool => b'r',
        _ => b'c',
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
