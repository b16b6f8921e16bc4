//! Holds the files of a recording against its checkpoints. Needs no key to what is encrypted.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{self, SHA256};
use tokio::io::{AsyncReadExt, BufReader};

use super::error::ReadError;
use super::link::Link;
use super::manifest::Manifest;
use super::moved::moved;
use super::statement::{Checkpoint, Checkpoints, Extent, Standing, sha256};
use super::writing::hex;
use crate::session::SessionId;
use crate::store::{Part, StoredFiles};

/// The longest manifest that is read. They are some kilobytes.
pub(crate) const MAX_MANIFEST: u64 = 16 << 20;

/// Problems of one recording that are named; a recording that was replaced has one for each stretch.
const MOST_PROBLEMS: usize = 64;

/// Checkpoints that do not belong where they are, of which the rest is not read: the same one may be there any number of times.
const MOST_MISPLACED: usize = 64;

/// What is wrong with a recording, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There are no checkpoints, or what is there is none.
    #[error("checkpoints: {0}")]
    Checkpoints(String),
    /// A checkpoint is signed by none of the keys.
    #[error("checkpoint {0} is signed by no key that is known here")]
    Signature(u64),
    /// A checkpoint is signed by another key than the one that was in force when the recording was begun.
    #[error(
        "checkpoint {sequence} is signed by {by}, which is not the key that signed the recording's beginning"
    )]
    OtherKey {
        /// Its number.
        sequence: u64,
        /// Name and id of the key.
        by: String,
    },
    /// A checkpoint is of another recording.
    #[error("checkpoint {sequence} is of the recording {of}")]
    Spliced {
        /// Its number.
        sequence: u64,
        /// Whose it is.
        of: SessionId,
    },
    /// A checkpoint does not follow the one before it.
    #[error(
        "checkpoint {sequence} does not follow the one before it: one was changed, removed, doubled or moved"
    )]
    Unlinked {
        /// Its number.
        sequence: u64,
    },
    /// Checkpoints do not cover a file without gaps.
    #[error("checkpoint {sequence} does not go on in {file} where the one before it ended")]
    Gap {
        /// Its number.
        sequence: u64,
        /// The file's name.
        file: String,
    },
    /// A file is shorter than what checkpoints cover.
    #[error("{file} is cut short: it has {bytes} bytes, and {covered} were there")]
    CutShort {
        /// The file's name.
        file: String,
        /// What it has.
        bytes: u64,
        /// What it had.
        covered: u64,
    },
    /// Bytes were changed.
    #[error("{file}: bytes {from} to {to} were changed")]
    Changed {
        /// The file's name.
        file: String,
        /// The first byte of the stretch.
        from: u64,
        /// The byte after its last.
        to: u64,
    },
    /// A stretch stands where another one should.
    #[error("{file}: bytes {from} to {to} were reordered: what was at byte {really} is there")]
    Reordered {
        /// The file's name.
        file: String,
        /// The first byte of the stretch.
        from: u64,
        /// The byte after its last.
        to: u64,
        /// Where these bytes were.
        really: u64,
    },
    /// A closed recording has bytes that no checkpoint covers.
    #[error("{file}: bytes {from} to {to} were added after it was closed")]
    Added {
        /// The file's name.
        file: String,
        /// The first of them.
        from: u64,
        /// The byte after its last.
        to: u64,
    },
    /// A file that no checkpoint knows.
    #[error("{file} is extra: no checkpoint knows it")]
    Stranger {
        /// The file's name.
        file: String,
    },
    /// Its packing breaks off: a daemon puts a packed recording in its place when all of it is signed, and never before.
    #[error(
        "checkpoint {0} is over a part of what was packed, and none follows that covers all of it"
    )]
    HalfPacked(u64),
    /// The manifest is not the one that was signed.
    #[error("manifest.json was changed or exchanged")]
    Manifest,
    /// There is none, and there was one.
    #[error("manifest.json is missing")]
    NoManifest,
    /// There is one, and no checkpoint says so.
    #[error("manifest.json is there, but no checkpoint closes the recording")]
    NotClosed,
    /// Something was gone when the recording was closed as interrupted.
    #[error("{file}: bytes {from} to {to} were gone when it was closed as interrupted")]
    GoneBefore {
        /// The file's name.
        file: String,
        /// The first of them.
        from: u64,
        /// The byte after its last.
        to: u64,
    },
}

/// What came of the check.
#[derive(Debug)]
pub struct Checked {
    /// Everything that is wrong, in order.
    pub problems: Vec<Problem>,
    /// The first checkpoint and the last ones that say what it is.
    pub first: Option<Checkpoint>,
    /// The checkpoint that sealed it or closed it as interrupted.
    pub closed: Option<Checkpoint>,
    /// The last checkpoint.
    pub last: Option<Checkpoint>,
    /// How many checkpoints there are.
    pub checkpoints: u64,
    /// Size of each file, and SHA-256 (hex) of what checkpoints cover of it, by name.
    pub files: BTreeMap<String, (u64, String)>,
    /// Bytes of each file that no checkpoint covers: of a recording that is not closed, its end.
    pub uncovered: BTreeMap<String, u64>,
    /// The head of the evidence log that the manifest carries. Not proven by this check.
    pub log_head: Option<String>,
}

impl Checked {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// Who signed a note, by a name of the key's, if that is a key that counts.
pub type Signer<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// Checks the recording `session` in `files`. `signer` says which key signed a note.
pub async fn check(
    session: SessionId,
    files: &dyn StoredFiles,
    signer: Signer<'_>,
) -> Result<Checked, ReadError> {
    let mut checked = Checked {
        problems: Vec::new(),
        first: None,
        closed: None,
        last: None,
        checkpoints: 0,
        files: BTreeMap::new(),
        uncovered: BTreeMap::new(),
        log_head: None,
    };
    let extents = statements(session, files, signer, &mut checked).await?;
    for part in Part::ALL {
        if !matches!(part, Part::Manifest | Part::Checkpoints) {
            let covered = extents.get(part.name()).map(Vec::as_slice);
            file(files, part, covered.unwrap_or_default(), &mut checked).await?;
        }
    }
    for file in files.strangers().await? {
        checked.add(Problem::Stranger { file });
    }
    manifest(files, &mut checked).await?;
    Ok(checked)
}

/// Reads the checkpoints; what they say of each file, without what was packed since.
async fn statements(
    session: SessionId,
    files: &dyn StoredFiles,
    signer: Signer<'_>,
    checked: &mut Checked,
) -> Result<BTreeMap<String, Vec<Extent>>, ReadError> {
    let mut extents: BTreeMap<String, Vec<Extent>> = BTreeMap::new();
    let Some(file) = files.read(Part::Checkpoints).await? else {
        checked.add(Problem::Checkpoints("there are none".to_owned()));
        return Ok(extents);
    };
    let bytes = file.bytes;
    let mut read = 0;
    let mut skipped = None;
    let mut misplaced = 0_usize;
    let mut first_by = None;
    let mut checkpoints = Checkpoints::new(BufReader::new(file.reader));
    loop {
        let checkpoint = match checkpoints.next().await {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => break,
            Err(damage @ ReadError::Checkpoint { .. }) => {
                checked.add(Problem::Checkpoints(damage.to_string()));
                break;
            }
            Err(error) => return Err(error),
        };
        let statement = &checkpoint.statement;
        let sequence = statement.sequence;
        match signer(&checkpoint.note) {
            None => {
                // It says nothing, and nor does what is built on it: of that there may be any amount.
                checked.add(Problem::Signature(sequence));
                break;
            }
            // What a later start or the packing adds may be signed by a later key.
            Some(by) if !is_later(&statement.standing) => {
                let first = first_by.get_or_insert_with(|| by.clone());
                if *first != by {
                    checked.add(Problem::OtherKey { sequence, by });
                }
            }
            Some(_) => {}
        }
        if misplaced >= MOST_MISPLACED {
            break;
        }
        read = checkpoint.end;
        if statement.session != session {
            let of = statement.session;
            checked.add(Problem::Spliced { sequence, of });
        }
        let link = Link::between(checked.last.as_ref(), &checkpoint);
        match link {
            Link::Next => {}
            Link::Skipped => skipped = Some(sequence),
            Link::Broken => checked.add(Problem::Unlinked { sequence }),
        }
        if link == Link::Broken || statement.session != session {
            misplaced = misplaced.saturating_add(1);
        }
        match &statement.standing {
            // What was packed is in other files, and what it was packed from is gone.
            Standing::Packing { .. } | Standing::Packed { .. } if is_closed(checked) => {
                // Bytes under one name only: a request index in clear has another one, too.
                extents.retain(|file, _| !is_spooled(file));
            }
            Standing::Interrupted { missing, .. } => {
                for Extent { file, from, to, .. } in missing {
                    let (file, from, to) = (file.clone(), *from, *to);
                    // What is gone needs not be found.
                    if let Some(covered) = extents.get_mut(&file) {
                        covered.retain(|extent| extent.to <= from);
                    }
                    checked.add(Problem::GoneBefore { file, from, to });
                }
            }
            _ => {}
        }
        for extent in &statement.files {
            let covered = extents.entry(extent.file.clone()).or_default();
            let end = covered.last().map_or(0, |last| last.to);
            let adjoins = extent.from == end || link == Link::Skipped;
            if !adjoins || extent.to < extent.from {
                let file = extent.file.clone();
                checked.add(Problem::Gap { sequence, file });
            }
            covered.push(extent.clone());
        }
        if matches!(
            statement.standing,
            Standing::Sealed { .. } | Standing::Interrupted { .. }
        ) {
            checked.closed = Some(checkpoint.clone());
        }
        if checked.first.is_none() {
            checked.first = Some(checkpoint.clone());
        }
        checked.last = Some(checkpoint);
        checked.checkpoints = checked.checkpoints.saturating_add(1);
    }
    let last = checked.last.as_ref().map(|last| &last.statement);
    let half = last.filter(|last| matches!(last.standing, Standing::Packing { .. }));
    let half = half.map(|last| last.sequence);
    let packed = last.is_some_and(|last| matches!(last.standing, Standing::Packed { .. }));
    if let Some(sequence) = skipped.filter(|_| !packed) {
        checked.add(Problem::Unlinked { sequence });
    }
    if let Some(sequence) = half {
        checked.add(Problem::HalfPacked(sequence));
    }
    let torn = bytes.saturating_sub(read);
    if torn > 0 {
        checked
            .uncovered
            .insert(Part::Checkpoints.name().to_owned(), torn);
        if is_closed(checked) {
            checked.add(Problem::Checkpoints(
                "something follows the last one".to_owned(),
            ));
        }
    }
    if checked.first.is_none() && checked.problems.is_empty() {
        checked.add(Problem::Checkpoints("there is no whole one".to_owned()));
    }
    Ok(extents)
}

fn is_later(standing: &Standing) -> bool {
    matches!(
        standing,
        Standing::Interrupted { .. } | Standing::Packing { .. } | Standing::Packed { .. }
    )
}

fn is_closed(checked: &Checked) -> bool {
    checked.closed.is_some()
}

fn is_spooled(file: &str) -> bool {
    matches!(
        Part::named(file),
        Some(Part::Cast | Part::Requests | Part::CastSpool | Part::RequestsSpool | Part::SpoolKey)
    )
}

/// Holds one file against what was said of it.
async fn file(
    files: &dyn StoredFiles,
    part: Part,
    covered: &[Extent],
    checked: &mut Checked,
) -> Result<(), ReadError> {
    let name = part.name();
    let end = covered.last().map_or(0, |last| last.to);
    let Some(mut file) = files.read(part).await? else {
        if end > 0 {
            checked.add(Problem::CutShort {
                file: name.to_owned(),
                bytes: 0,
                covered: end,
            });
        }
        return Ok(());
    };
    let mut whole = digest::Context::new(&SHA256);
    let mut at = 0_u64;
    let mut buffer = vec![0; 256 * 1024];
    let mut wrong = Vec::new();
    for extent in covered {
        let mut stretch = digest::Context::new(&SHA256);
        while at < extent.to {
            let most = usize::try_from(extent.to.saturating_sub(at)).unwrap_or(usize::MAX);
            let room = buffer.len().min(most);
            let space = buffer.get_mut(..room).unwrap_or_default();
            let read = file.reader.read(space).await?;
            if read == 0 {
                break;
            }
            let bytes = space.get(..read).unwrap_or_default();
            stretch.update(bytes);
            whole.update(bytes);
            at = at.saturating_add(read as u64);
        }
        if at < extent.to {
            break;
        }
        let found = hex(stretch.finish().as_ref());
        if found != extent.sha256 {
            wrong.push(extent.clone());
        }
    }
    if at < end {
        checked.add(Problem::CutShort {
            file: name.to_owned(),
            bytes: at,
            covered: end,
        });
    }
    // What nothing covers needs not be read: there may be any amount of it, and nothing to hold it against.
    at = at.max(file.bytes);
    if at > end {
        if is_closed(checked) && !covered.is_empty() {
            checked.add(Problem::Added {
                file: name.to_owned(),
                from: end,
                to: at,
            });
        }
        checked
            .uncovered
            .insert(name.to_owned(), at.saturating_sub(end));
    }
    for problem in moved(&mut *file.reader, covered, &wrong).await? {
        checked.add(problem);
    }
    // One of which nothing is left is named by what was there.
    if covered.is_empty() && at > 0 && is_closed(checked) {
        checked.add(Problem::Stranger {
            file: name.to_owned(),
        });
    }
    let sha256 = hex(whole.finish().as_ref());
    checked.files.insert(name.to_owned(), (at, sha256));
    Ok(())
}

async fn manifest(files: &dyn StoredFiles, checked: &mut Checked) -> Result<(), ReadError> {
    let last = checked.last.as_ref().map(|last| &last.statement.standing);
    let said = last.and_then(Standing::manifest).map(str::to_owned);
    let there = read_manifest(files).await?;
    checked.log_head = there.as_deref().and_then(Manifest::log_head_of);
    match (said, there) {
        (Some(said), Some(there)) if sha256(&there) == said => {}
        (Some(_), Some(_)) => checked.add(Problem::Manifest),
        (Some(_), None) => checked.add(Problem::NoManifest),
        // The checkpoint that says so may stand behind one that counts for nothing.
        (None, Some(_)) if is_cut_off(checked) => {}
        (None, Some(_)) => checked.add(Problem::NotClosed),
        (None, None) => {}
    }
    Ok(())
}

fn is_cut_off(checked: &Checked) -> bool {
    let unsigned = |it: &Problem| matches!(it, Problem::Signature(_));
    checked.problems.iter().any(unsigned)
}

/// The manifest's bytes, if there is one.
pub(crate) async fn read_manifest(files: &dyn StoredFiles) -> Result<Option<Vec<u8>>, ReadError> {
    let Some(file) = files.read(Part::Manifest).await? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.reader
        .take(MAX_MANIFEST)
        .read_to_end(&mut bytes)
        .await?;
    Ok(Some(bytes))
}
