//! Lines on their way to the store, as they are stored there.

use std::future::Future;
use std::pin::Pin;

use super::error::RecordingError;
use super::spool::{SpoolKey, SpoolWriter};
use super::statement::{Encrypted, Extent, Stretch};
use super::writing::Sealed;
use crate::store::{Lines, Part, StoreError};

/// What is under the second lock.
pub(super) struct Carrying {
    pub(super) protection: Protection,
    /// The files as far as they have been handed to the store, since the last checkpoint.
    pub(super) cast: Stretch,
    pub(super) requests: Stretch,
    /// Size of the cast in clear.
    pub(super) plain_cast: u64,
    pub(super) plain_requests: u64,
    /// The last batch that has arrived.
    pub(super) arrived: u64,
    /// The append under way. Kept here, so that it goes on when its caller goes away.
    pub(super) under_way: Option<StoreFuture>,
    pub(super) sealing: Option<(Sealed, SealFuture)>,
}

pub(super) type StoreFuture = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;
/// Answers the digest of the last checkpoint.
pub(super) type SealFuture = Pin<Box<dyn Future<Output = Result<String, RecordingError>> + Send>>;

/// How bytes are kept from the disk; nothing of it where they are stored in clear.
#[derive(Default)]
pub(super) struct Protection {
    pub(super) cast: Option<SpoolWriter>,
    pub(super) requests: Option<SpoolWriter>,
    pub(super) key: Option<SpoolKey>,
}

impl Protection {
    pub(super) fn cast_part(&self) -> Part {
        match self.cast {
            Some(_) => Part::CastSpool,
            None => Part::Cast,
        }
    }

    pub(super) fn requests_part(&self) -> Part {
        match self.requests {
            Some(_) => Part::RequestsSpool,
            None => Part::Requests,
        }
    }

    pub(super) fn encrypted(&self) -> Encrypted {
        Encrypted {
            cast: self.cast.is_some(),
            requests: self.requests.is_some(),
        }
    }

    /// Lines of the cast as they are stored.
    pub(super) fn cast(&mut self, lines: Vec<u8>) -> Result<Vec<u8>, RecordingError> {
        protect(&mut self.cast, lines)
    }
}

fn protect(spool: &mut Option<SpoolWriter>, lines: Vec<u8>) -> Result<Vec<u8>, RecordingError> {
    match spool {
        Some(spool) => spool.record(&lines),
        None => Ok(lines),
    }
}

impl Carrying {
    pub(super) fn new(protection: Protection, cast: Stretch, plain_cast: u64) -> Self {
        Self {
            requests: Stretch::of(protection.requests_part()),
            protection,
            cast,
            plain_cast,
            plain_requests: 0,
            arrived: 0,
            under_way: None,
            sealing: None,
        }
    }

    /// Lines as they are stored.
    pub(super) fn protected(&mut self, taken: Taken) -> Result<Lines, RecordingError> {
        let grown = |size: &mut u64, lines: &[u8]| *size = size.saturating_add(lines.len() as u64);
        grown(&mut self.plain_cast, &taken.cast);
        grown(&mut self.plain_requests, &taken.requests);
        Ok(Lines {
            cast: self.protection.cast(taken.cast)?.into(),
            requests: protect(&mut self.protection.requests, taken.requests)?.into(),
        })
    }

    pub(super) fn extents(&mut self) -> Vec<Extent> {
        [self.requests.take(), self.cast.take()]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Lines that leave for the store, in clear.
pub(super) struct Taken {
    pub(super) cast: Vec<u8>,
    pub(super) requests: Vec<u8>,
}
