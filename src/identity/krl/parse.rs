//! The bytes of a revocation list.

use russh::keys::ssh_encoding::Encode;

use super::{Bitmap, Krl, MAX_BITMAP, Section, sha256};

const MAGIC: &[u8] = b"SSHKRL\n\0";
const FORMAT: u32 = 1;

const CERTIFICATES: u8 = 1;
const EXPLICIT_KEY: u8 = 2;
const FINGERPRINT_SHA1: u8 = 3;
const SIGNATURE: u8 = 4;
const FINGERPRINT_SHA256: u8 = 5;
const EXTENSION: u8 = 255;

const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_ID: u8 = 0x23;
const CERTIFICATE_EXTENSION: u8 = 0x39;

/// Why bytes are no revocation list that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKrl {
    /// It begins otherwise.
    #[error("it is not an OpenSSH KRL")]
    Magic,
    /// A version that is not known.
    #[error("its format has version {0}, and only {FORMAT} is known")]
    Format(u32),
    /// It ends in the middle of something.
    #[error("it is cut off")]
    CutOff,
    /// Something is left over where it should have ended.
    #[error("there is something left over in it")]
    LeftOver,
    /// It is signed.
    #[error(
        "it is signed, and signatures on such lists are not verified, by OpenSSH neither; have it made without one"
    )]
    Signed,
    /// A kind of section that is not known.
    #[error("it has a section of the unknown kind {0}")]
    Section(u8),
    /// An extension that must not be passed over.
    #[error("it has an extension that is critical and not known")]
    CriticalExtension,
    /// No public key where one should be.
    #[error("a key in it is none")]
    Key,
    /// A fingerprint of another length.
    #[error("a fingerprint in it has not the length of one")]
    Fingerprint,
    /// Serials that are none: 0, a range that ends before it begins, a bitmap beyond the last serial.
    #[error("a serial in it is none")]
    Serial,
}

pub(super) fn krl(bytes: &[u8]) -> Result<Krl, NotAKrl> {
    let mut rest = Bytes(bytes.strip_prefix(MAGIC).ok_or(NotAKrl::Magic)?);
    let format = rest.u32()?;
    if format != FORMAT {
        return Err(NotAKrl::Format(format));
    }
    let version = rest.u64()?;
    let _generated = rest.u64()?;
    let _flags = rest.u64()?;
    let _reserved = rest.string()?;
    let _comment = rest.string()?;
    let mut krl = Krl {
        version,
        ..Krl::default()
    };
    while !rest.is_empty() {
        let kind = rest.u8()?;
        let mut section = Bytes(rest.string()?);
        match kind {
            CERTIFICATES => krl.sections.push(certificates(section)?),
            EXPLICIT_KEY => {
                while !section.is_empty() {
                    let key = section.string()?;
                    krl.keys.insert(sha256(plain_key(key)?));
                }
            }
            FINGERPRINT_SHA1 => fingerprints(section, 20, |one| krl.old_fingerprints.insert(one))?,
            FINGERPRINT_SHA256 => fingerprints(section, 32, |one| krl.keys.insert(one))?,
            EXTENSION => extension(section)?,
            SIGNATURE => return Err(NotAKrl::Signed),
            unknown => return Err(NotAKrl::Section(unknown)),
        }
    }
    Ok(krl)
}

/// A key written otherwise than it would be compared, or a certificate in place of one, would never be found.
fn plain_key(encoded: &[u8]) -> Result<&[u8], NotAKrl> {
    let key = russh::keys::key::parse_public_key(encoded).map_err(|_| NotAKrl::Key)?;
    let again = key.key_data().encode_vec().map_err(|_| NotAKrl::Key)?;
    if again == encoded && !key.key_data().is_certificate() {
        Ok(encoded)
    } else {
        Err(NotAKrl::Key)
    }
}

fn certificates(mut bytes: Bytes<'_>) -> Result<Section, NotAKrl> {
    let signed_by = bytes.string()?;
    let _reserved = bytes.string()?;
    let mut section = Section {
        ..Section::default()
    };
    if !signed_by.is_empty() {
        // Of a key that is written otherwise the whole section would be passed over.
        section.signed_by = Some(sha256(plain_key(signed_by)?));
    }
    while !bytes.is_empty() {
        let kind = bytes.u8()?;
        let mut part = Bytes(bytes.string()?);
        match kind {
            SERIAL_LIST => {
                while !part.is_empty() {
                    let serial = part.u64()?;
                    section.ranges.push(range(serial, serial)?);
                }
            }
            SERIAL_RANGE => {
                let (first, last) = (part.u64()?, part.u64()?);
                part.end()?;
                section.ranges.push(range(first, last)?);
            }
            SERIAL_BITMAP => {
                let (first, bits) = (part.u64()?, part.string()?);
                part.end()?;
                section.bitmaps.push(bitmap(first, bits)?);
            }
            KEY_ID => {
                while !part.is_empty() {
                    section.key_ids.insert(part.string()?.to_vec());
                }
            }
            CERTIFICATE_EXTENSION => extension(part)?,
            unknown => return Err(NotAKrl::Section(unknown)),
        }
    }
    section.ranges = merged(section.ranges);
    section.bitmaps.sort_by_key(|bitmap| bitmap.first);
    Ok(section)
}

fn range(first: u64, last: u64) -> Result<(u64, u64), NotAKrl> {
    if first == 0 || last < first {
        return Err(NotAKrl::Serial);
    }
    Ok((first, last))
}

fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// A number (RFC 4251, section 5, `mpint`) of which each bit is a serial.
fn bitmap(first: u64, number: &[u8]) -> Result<Bitmap, NotAKrl> {
    let negative = number.first().is_some_and(|byte| byte & 0x80 != 0);
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let bytes = number.get(zeros..).unwrap_or_default();
    if negative || bytes.len() > MAX_BITMAP {
        return Err(NotAKrl::Serial);
    }
    let bits = bytes.first().map_or(0, |top| {
        8 * bytes.len() - usize::try_from(top.leading_zeros()).unwrap_or(0)
    });
    let highest = u64::try_from(bits.saturating_sub(1)).unwrap_or(u64::MAX);
    let zero = first == 0 && bytes.last().is_some_and(|byte| byte & 1 == 1);
    if zero || first.checked_add(highest).is_none() {
        return Err(NotAKrl::Serial);
    }
    Ok(Bitmap {
        first,
        bytes: bytes.to_vec(),
    })
}

fn fingerprints(
    mut bytes: Bytes<'_>,
    length: usize,
    mut take: impl FnMut(Vec<u8>) -> bool,
) -> Result<(), NotAKrl> {
    while !bytes.is_empty() {
        let fingerprint = bytes.string()?;
        if fingerprint.len() != length {
            return Err(NotAKrl::Fingerprint);
        }
        take(fingerprint.to_vec());
    }
    Ok(())
}

/// None is known. One that says that it may be passed over is.
fn extension(mut bytes: Bytes<'_>) -> Result<(), NotAKrl> {
    let _name = bytes.string()?;
    let critical = bytes.u8()? != 0;
    let _contents = bytes.string()?;
    bytes.end()?;
    if critical {
        Err(NotAKrl::CriticalExtension)
    } else {
        Ok(())
    }
}

/// What is left to read.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn end(self) -> Result<(), NotAKrl> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(NotAKrl::LeftOver)
        }
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], NotAKrl> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(NotAKrl::CutOff)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotAKrl> {
        self.take(N)?.try_into().map_err(|_| NotAKrl::CutOff)
    }

    fn u8(&mut self) -> Result<u8, NotAKrl> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, NotAKrl> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, NotAKrl> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Result<&'b [u8], NotAKrl> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| NotAKrl::CutOff)?)
    }
}
