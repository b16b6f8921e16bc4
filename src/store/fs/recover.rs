//! After a crash: every recording that nobody seals any more is closed as interrupted.
//!
//! Only the daemon that holds the lock of the state directory may do this: to anyone else a live recording looks
//! the same. Dying in the midst of it does no harm; the next start goes on from there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, SHA256};
use jiff::Timestamp;

use super::layout::{self, Layout};
use super::{slowly_once, walk};
use crate::recording::requests::{IndexReader, RequestsSummary};
use crate::recording::{CastSummary, ReadError, Reader, Survivors, hex};
use crate::session::SessionId;
use crate::store::StoreError;

/// A recording that was found unsealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// Its session.
    pub session: SessionId,
    /// Whether it is closed now. If not, it stays as it is, is shown as interrupted, and is tried again at the
    /// next start.
    pub closed: bool,
    /// Why it is interrupted, or why it could not be closed.
    pub reason: String,
}

/// Closes what an earlier daemon left open under `state_dir`: cuts a torn last line off, and writes a manifest
/// that says `interrupted`, never `complete`.
pub async fn recover(state_dir: &Path, now: Timestamp) -> Result<Vec<Interrupted>, StoreError> {
    let layout = Layout::new(state_dir);
    let open = slowly_once(move || unsealed(&layout)).await?;
    let mut interrupted = Vec::new();
    for (session, directory) in open {
        let reason =
            format!("the daemon ended before the session did; found and closed at {now:.0}");
        let (closed, reason) = match close(directory, reason).await {
            Ok(reason) => (true, reason),
            Err(error) => (false, error.to_string()),
        };
        interrupted.push(Interrupted {
            session,
            closed,
            reason,
        });
    }
    Ok(interrupted)
}

/// The recordings without a manifest, oldest first. Removes what never became one: nothing ran under it.
fn unsealed(layout: &Layout) -> Result<Vec<(SessionId, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for day in walk::days(layout.root())? {
        for name in walk::names(&day)? {
            let directory = day.join(&name);
            if let Some(id) = name.strip_prefix(layout::DRAFT)
                && SessionId::parse(id).is_ok()
            {
                std::fs::remove_dir_all(&directory).map_err(|error| {
                    StoreError::io(format!("removing {}", directory.display()), error)
                })?;
            } else if let Ok(id) = SessionId::parse(&name)
                && !directory.join(layout::MANIFEST).exists()
                && directory.join(layout::CAST).exists()
            {
                found.push((id, directory));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

async fn close(directory: PathBuf, mut reason: String) -> Result<String, ReadError> {
    let path = directory.join(layout::CAST);
    let doing = format!("closing {}", directory.display());
    let cast = {
        let (path, doing) = (path.clone(), doing.clone());
        slowly_once(move || cut_torn_line(&path).map_err(|error| StoreError::io(doing, error)))
            .await?
    };
    let mut reader = Reader::open(tokio::fs::File::from_std(cast)).await?;
    let mut survivors = Survivors::default();
    loop {
        match reader.next().await {
            Ok(Some(event)) => survivors.add(event),
            Ok(None) => break,
            Err(damage @ ReadError::Line { .. }) => {
                // What follows may be of use to someone: it stays, and its digest with it.
                reason = format!("{reason}; {damage}");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let (requests, damage) = close_requests(&directory).await?;
    if let Some(damage) = damage {
        reason = format!("{reason}; {damage}");
    }
    let header = reader.header().clone();
    let told = reason.clone();
    slowly_once(move || {
        let failed = |error| StoreError::io(doing.clone(), error);
        let cast = summary(&path).map_err(failed)?;
        let json = survivors
            .manifest(&header, told, cast, requests)
            .to_json()
            .map_err(|error| failed(error.into()))?;
        layout::put_manifest(&directory, &json).map_err(failed)
    })
    .await?;
    Ok(reason)
}

/// Cuts the request index at its last whole line and adds it up. An intent without an outcome stays: the daemon
/// died before it could say what came of it. Also what is wrong with it, if something is.
async fn close_requests(
    directory: &Path,
) -> Result<(Option<RequestsSummary>, Option<ReadError>), ReadError> {
    let path = directory.join(layout::REQUESTS);
    let there = {
        let path = path.clone();
        let failed = format!("closing {}", path.display());
        slowly_once(move || match cut_torn_line(&path) {
            Ok(file) => Ok(Some((
                file,
                summary(&path).map_err(|error| StoreError::io(&failed, error))?,
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(failed, error)),
        })
        .await?
    };
    let Some((file, file_summary)) = there else {
        return Ok((None, None));
    };
    let mut reader = match IndexReader::open(tokio::fs::File::from_std(file)).await {
        Ok(Some(reader)) => reader,
        Ok(None) => return Ok((None, None)),
        // Nothing in it is understood. Its digest is all that can be said.
        Err(damage @ ReadError::Index { .. }) => {
            return Ok((RequestsSummary::unread(file_summary), Some(damage)));
        }
        Err(error) => return Err(error),
    };
    let damage = loop {
        match reader.next().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(damage @ ReadError::Index { .. }) => break Some(damage),
            Err(error) => return Err(error),
        }
    };
    Ok((reader.summary(file_summary), damage))
}

/// Cuts the file at its last line feed and returns it, at its start.
fn cut_torn_line(path: &Path) -> io::Result<File> {
    const STEP: u64 = 64 * 1024;
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut end = length;
    let mut step = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        step.clear();
        (&file)
            .take(end.saturating_sub(start))
            .read_to_end(&mut step)?;
        if let Some(at) = step.iter().rposition(|&byte| byte == b'\n') {
            end = start.saturating_add(at as u64).saturating_add(1);
            break;
        }
        end = start;
    }
    // A header is on disk before its recording has a name, so there is a line; if not, nothing is touched. The first
    // line of a request index may be torn: then it says nothing, as if it were not there.
    if end > 0 && end < length {
        file.set_len(end)?;
    }
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

fn summary(path: &Path) -> io::Result<CastSummary> {
    let (bytes, digest) = digest(path)?;
    Ok(CastSummary {
        bytes,
        sha256: hex(&digest),
    })
}

pub(super) fn digest(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let mut writer = DigestWriter(digest::Context::new(&SHA256));
    let bytes = io::copy(&mut file, &mut writer)?;
    Ok((bytes, writer.0.finish().as_ref().to_vec()))
}

struct DigestWriter(digest::Context);

impl io::Write for DigestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
