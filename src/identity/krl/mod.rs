//! OpenSSH's key revocation lists (PROTOCOL.krl), as `ssh-keygen -k` writes them: keys and certificates that an authority has
//! taken back.
//!
//! Whatever is not understood makes the whole list unusable: an entry that was passed over would be a key that still works.

mod parse;

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use russh::keys::Certificate;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::public::KeyData;

pub use parse::NotAKrl;

/// The longest bitmap of serials, in bytes; OpenSSH's own limit on such numbers.
const MAX_BITMAP: usize = 2048;

/// What was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Krl {
    version: u64,
    sections: Vec<Section>,
    /// SHA-256 of keys as they are encoded: those that are listed whole, and those of which only this is.
    keys: HashSet<Vec<u8>>,
    /// SHA-1 of keys.
    old_fingerprints: HashSet<Vec<u8>>,
}

/// Certificates of one authority's key, or of any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Section {
    /// SHA-256 of the key that signed them, encoded; `None`: any.
    signed_by: Option<Vec<u8>>,
    /// First and last, sorted; they may overlap.
    ranges: Vec<(u64, u64)>,
    /// Sorted by their first serial.
    bitmaps: Vec<Bitmap>,
    key_ids: HashSet<Vec<u8>>,
}

/// Bit `n` stands for the serial `first + n`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bitmap {
    first: u64,
    /// Big endian, without leading zeros.
    bytes: Vec<u8>,
}

/// By what a certificate is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokedBy {
    /// Its key, or its key's fingerprint.
    Key,
    /// The authority's key that signed it.
    Authority,
    /// Its serial.
    Serial,
    /// Its key id.
    KeyId,
}

impl std::fmt::Display for RevokedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "its key",
            Self::Authority => "the key that signed it",
            Self::Serial => "its serial",
            Self::KeyId => "its key id",
        })
    }
}

impl Krl {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// If any of it is not understood, or it is signed: signatures on such lists are not verified, and one that nobody
    /// verifies promises what is not so.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAKrl> {
        parse::krl(bytes)
    }

    /// `krl_version`: the number that whoever made it gave it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many entries it has: keys, fingerprints, and serials, ranges, bitmaps and key ids of certificates.
    pub fn entries(&self) -> usize {
        let certificates = self
            .sections
            .iter()
            .map(|section| section.ranges.len() + section.bitmaps.len() + section.key_ids.len());
        self.keys.len() + self.old_fingerprints.len() + certificates.sum::<usize>()
    }

    /// Whether a key was taken back, by itself or by a fingerprint.
    pub fn has_key(&self, key: &KeyData) -> bool {
        match key.encode_vec() {
            Ok(encoded) => {
                self.keys.contains(&sha256(&encoded))
                    || self.old_fingerprints.contains(&sha1(&encoded))
            }
            // What cannot be looked for might be there.
            Err(_) => true,
        }
    }

    /// Whether a certificate was taken back, and by what. As OpenSSH looks it up: a serial of 0 means that the authority does not
    /// count its certificates, so it stands for none.
    pub fn has_certificate(&self, certificate: &Certificate) -> Option<RevokedBy> {
        if self.has_key(certificate.public_key()) {
            return Some(RevokedBy::Key);
        }
        if self.has_key(certificate.signature_key()) {
            return Some(RevokedBy::Authority);
        }
        let Ok(signer) = certificate.signature_key().encode_vec() else {
            return Some(RevokedBy::Authority);
        };
        let signer = sha256(&signer);
        let own = |section: &&Section| section.signed_by.as_ref().is_none_or(|by| *by == signer);
        self.sections
            .iter()
            .filter(own)
            .find_map(|section| section.revokes(certificate.serial(), certificate.key_id()))
    }
}

impl Section {
    fn revokes(&self, serial: u64, key_id: &str) -> Option<RevokedBy> {
        if self.key_ids.contains(key_id.as_bytes()) {
            return Some(RevokedBy::KeyId);
        }
        if serial == 0 {
            return None;
        }
        (self.in_a_range(serial) || self.in_a_bitmap(serial)).then_some(RevokedBy::Serial)
    }

    fn in_a_range(&self, serial: u64) -> bool {
        // Merged when they were read: only the last that begins before it can hold it.
        let after = self.ranges.partition_point(|(first, _)| *first <= serial);
        let before = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        before.is_some_and(|(_, last)| serial <= *last)
    }

    fn in_a_bitmap(&self, serial: u64) -> bool {
        const BITS: u64 = 8 * MAX_BITMAP as u64;
        let before = |bitmap: &Bitmap| {
            bitmap
                .first
                .checked_add(BITS)
                .is_some_and(|end| end <= serial)
        };
        let from = self.bitmaps.partition_point(before);
        self.bitmaps
            .iter()
            .skip(from)
            .take_while(|bitmap| bitmap.first <= serial)
            .any(|bitmap| bitmap.has(serial))
    }
}

impl Bitmap {
    fn has(&self, serial: u64) -> bool {
        let bit = serial
            .checked_sub(self.first)
            .and_then(|bit| usize::try_from(bit).ok());
        bit.and_then(|bit| {
            let byte = self.bytes.iter().rev().nth(bit / 8)?;
            Some(byte >> (bit % 8) & 1 == 1)
        })
        .unwrap_or(false)
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// For lists that have SHA-1 fingerprints. A collision takes back one key too many; it can let nobody in.
fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests;
