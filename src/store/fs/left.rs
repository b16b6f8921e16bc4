//! The files of a recording that a daemon left behind, at the next start. Whoever writes the store may have put anything in
//! their place: nothing is followed, waited for, read without end or written to that is no plain file of the recording's own.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::layout::{self, MANIFEST_DRAFT};
use crate::recording::{MAX_MANIFEST, whole_records};
use crate::store::Part;

/// The most that is read and signed behind what checkpoints cover. One is made within a second of what it covers or the
/// session ends, some ten seconds later: no disk takes as much in that time.
pub(super) const MOST_UNCOVERED: u64 = 64 << 30;

/// To read, and to cut off what is torn.
pub(super) fn open(directory: &Path, name: &str) -> io::Result<Option<File>> {
    open_as(directory, name, OFlags::RDWR)
}

fn open_as(directory: &Path, name: &str, access: OFlags) -> io::Result<Option<File>> {
    let only_itself = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | only_itself;
    let directory = openat(CWD, directory, flags, Mode::empty())?;
    let flags = access | OFlags::NONBLOCK | only_itself;
    let file = match openat(&directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match file.metadata()?.is_file() {
        true => Ok(Some(file)),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file")),
    }
}

/// Cuts the checkpoints where the last whole one ends.
pub(super) fn cut_checkpoints(directory: &Path, end: u64) -> io::Result<()> {
    let file = open(directory, Part::Checkpoints.name())?.ok_or(io::ErrorKind::NotFound)?;
    if end < file.metadata()?.len() {
        file.set_len(end)?;
    }
    file.sync_all()
}

/// A manifest that was being put in its place.
pub(super) fn manifest_draft(directory: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_as(directory, MANIFEST_DRAFT, OFlags::RDONLY)? else {
        return Ok(None);
    };
    let mut draft = Vec::new();
    file.take(MAX_MANIFEST).read_to_end(&mut draft)?;
    Ok(Some(draft))
}

/// Cuts a file after its last whole line or record, but nothing that checkpoints cover. How long it is; `None` if it is
/// not there.
pub(super) fn cut_torn(directory: &Path, part: Part, covered: u64) -> io::Result<Option<u64>> {
    let Some(mut file) = open(directory, part.name())? else {
        return Ok(None);
    };
    let length = file.metadata()?.len();
    if length.saturating_sub(covered) > MOST_UNCOVERED {
        let what = "there is more of it behind what checkpoints cover than a daemon writes";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let whole = match part {
        Part::CastSpool | Part::RequestsSpool => {
            whole_records(BufReader::new(&file)).unwrap_or(length)
        }
        Part::SpoolKey => length,
        _ => whole_lines(&mut file, length)?,
    };
    let end = whole.max(covered.min(length));
    if end < length {
        file.set_len(end)?;
    }
    file.sync_all()?;
    Ok(Some(end))
}

/// Where the last line feed is; all of it if there is none.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = length;
    let mut step = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        step.clear();
        (&*file)
            .take(end.saturating_sub(start))
            .read_to_end(&mut step)?;
        if let Some(at) = step.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start.saturating_add(at as u64).saturating_add(1));
        }
        end = start;
    }
    Ok(length)
}

/// The bytes from here on to the end.
pub(super) fn read_from(
    directory: &Path,
    part: Part,
    from: u64,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let file = open_as(directory, part.name(), OFlags::RDONLY)?;
    let mut file = file.ok_or(io::ErrorKind::NotFound)?;
    file.seek(SeekFrom::Start(from))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => take(bytes),
        }
    }
}

/// The manifest is ready before the checkpoint that means it, and in its place after.
pub(super) fn put(directory: &Path, note: &[u8], manifest: &[u8]) -> io::Result<()> {
    layout::draft_manifest(directory, manifest)?;
    let access = OFlags::WRONLY | OFlags::APPEND;
    let checkpoints = open_as(directory, Part::Checkpoints.name(), access)?;
    let mut checkpoints = checkpoints.ok_or(io::ErrorKind::NotFound)?;
    checkpoints.write_all(note)?;
    checkpoints.sync_all()?;
    layout::place_manifest(directory)
}
