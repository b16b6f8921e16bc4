//! After a crash: every recording that nobody seals any more is closed as interrupted.
//!
//! Only the daemon that holds the lock of the state directory may do this: to anyone else a live recording looks
//! the same. Dying in the midst of it does no harm; the next start goes on from there. Nothing that a checkpoint covers is
//! ever cut off, and what a checkpoint covers and is gone is named: a shortened spool does not become a shorter recording.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::io::BufReader;

use super::layout::{self, Layout};
use super::{FsStore, left, replace, slowly_once, walk};
use crate::recording::check::{Checked, Problem, check};
use crate::recording::requests::{IndexReader, RequestsSummary};
use crate::recording::{
    Bastion, CastSummary, Checkpoint, Checkpoints, Encrypted, Entered, Entry, Extent, Link, Notary,
    ReadError, Reader, RecoverError, Standing, Survivors, statement,
};
use crate::session::SessionId;
use crate::store::{Part, RecordingStore, Span, StoreError};

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

/// What the log of recordings says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InLog {
    /// Begun, and neither sealed nor closed as interrupted.
    pub open: BTreeSet<SessionId>,
    /// Of those that are unsealed in the store: sealed or closed by what the log says.
    pub closed: BTreeSet<SessionId>,
}

/// The recordings without a manifest, oldest first. Removes what never became one: nothing ran under it.
pub async fn unsealed(store: &FsStore) -> Result<BTreeSet<SessionId>, StoreError> {
    let layout = std::sync::Arc::clone(&store.layout);
    slowly_once(move || find_unsealed(&layout)).await
}

/// The recordings in clear that are closed and lie as they were written, oldest first.
pub async fn unpacked(store: &FsStore) -> Result<Vec<SessionId>, StoreError> {
    let layout = std::sync::Arc::clone(&store.layout);
    slowly_once(move || {
        let mut found = walk::list(&layout, Span::default())?;
        found.retain(|id| {
            let directory = layout.directory(*id);
            let there = |part: Part| directory.join(part.name()).exists();
            there(Part::Manifest) && there(Part::Checkpoints) && there(Part::Cast)
        });
        found.reverse();
        Ok(found)
    })
    .await
}

/// Closes what an earlier daemon left open: cuts what is torn off, and writes a checkpoint and a manifest that say
/// `interrupted`, never `complete`. What was sealed and not yet entered into the log is entered. Also names what the log
/// knows and the store does not have.
pub async fn recover(
    store: &FsStore,
    unsealed: &BTreeSet<SessionId>,
    in_log: &InLog,
    notary: &dyn Notary,
    now: Timestamp,
) -> Result<Vec<Interrupted>, StoreError> {
    let mut found = Vec::new();
    for session in unsealed.union(&in_log.open) {
        let closing = Closing {
            store,
            session: *session,
            directory: store.directory(*session),
            notary,
            now,
        };
        let closed = match unsealed.contains(session) {
            true => closing.close(in_log).await.map(Some),
            false => closing.enter().await,
        };
        let (closed, reason) = match closed {
            Ok(None) => continue,
            Ok(Some(reason)) => (true, reason),
            Err(error) => (false, error.to_string()),
        };
        found.push(Interrupted {
            session: *session,
            closed,
            reason,
        });
    }
    Ok(found)
}

fn find_unsealed(layout: &Layout) -> Result<BTreeSet<SessionId>, StoreError> {
    let mut found = BTreeSet::new();
    for day in walk::days(layout.root())? {
        for name in walk::names(&day)? {
            let directory = day.join(&name);
            if replace::recover(layout, &day, &name)? {
                continue;
            }
            if let Some(id) = name.strip_prefix(layout::DRAFT)
                && SessionId::parse(id).is_ok()
            {
                std::fs::remove_dir_all(&directory).map_err(|error| {
                    StoreError::io(format!("removing {}", directory.display()), error)
                })?;
            } else if let Ok(id) = SessionId::parse(&name)
                && !directory.join(Part::Manifest.name()).exists()
                && directory.exists()
            {
                found.insert(id);
            }
        }
    }
    Ok(found)
}

struct Closing<'a> {
    store: &'a FsStore,
    session: SessionId,
    directory: PathBuf,
    notary: &'a dyn Notary,
    now: Timestamp,
}

impl Closing<'_> {
    /// The log says that it is open, and it has a manifest or is gone.
    async fn enter(&self) -> Result<Option<String>, RecoverError> {
        if !self.directory.exists() {
            return Err(RecoverError::Gone);
        }
        let checked = self.check().await?;
        let closed = checked.closed.as_ref().ok_or(RecoverError::NoCheckpoint)?;
        // What was gone when it was closed, is named; the checkpoint that names it is entered like any other.
        let unnamed = |it: &&Problem| !matches!(it, Problem::GoneBefore { .. });
        if let Some(problem) = checked.problems.iter().find(unnamed) {
            return Err(RecoverError::Unsound(problem.clone()));
        }
        let what = match &closed.statement.standing {
            Standing::Interrupted { reason, .. } => Entered::Interrupted {
                reason: reason.clone(),
            },
            _ => Entered::Sealed,
        };
        self.say(&closed.digest, what).await?;
        if let Some(last) = checked.last.filter(|last| last.digest != closed.digest) {
            self.say(&last.digest, Entered::Packed).await?;
        }
        Ok(None)
    }

    /// It has no manifest.
    async fn close(&self, in_log: &InLog) -> Result<String, RecoverError> {
        let session = self.session;
        if in_log.closed.contains(&session) {
            return Err(RecoverError::Closed);
        }
        let torn = self.checkpoints().await?;
        let last = torn.last().ok_or(RecoverError::NoCheckpoint)?.clone();
        let Some(Standing::Opened { bastion, .. }) =
            torn.first().map(|first| &first.statement.standing)
        else {
            return Err(RecoverError::NoCheckpoint);
        };
        if !in_log.open.contains(&session) {
            let first = torn.first().map(|first| first.digest.as_str());
            let parent = bastion.metadata.parent.map(|parent| parent.session);
            self.say(first.unwrap_or_default(), Entered::Opened { parent })
                .await?;
        }
        if self.finish_seal(&last).await? {
            self.say(&last.digest, entered(&last)).await?;
            return Ok("its end was on record, and its seal is finished".to_owned());
        }
        let Cut {
            missing,
            fresh,
            lengths,
        } = self.cut_files(covered(&torn)).await?;
        let checked = self.check().await?;
        let mut reason = format!(
            "the daemon ended before the session did; found and closed at {:.0}",
            self.now
        );
        for Extent { file, from, to, .. } in &missing {
            reason.push_str(&format!(
                "; bytes {from} to {to} of {file}, which checkpoints cover, are gone"
            ));
        }
        if let Some(problem) = checked.problems.iter().find(|it| !is_named(it)) {
            reason.push_str(&format!("; {problem}"));
        }
        let manifest = self.manifest(&torn, bastion, &lengths, &mut reason).await?;
        let json = manifest.to_json()?;
        let files = self.extents(fresh).await?;
        let standing = Standing::Interrupted {
            manifest: statement::sha256(&json),
            reason: reason.clone(),
            missing,
        };
        let mut chain = statement::Chain::after(&last);
        let text = chain.text(self.now, files, standing)?;
        let note = chain.signed(&self.notary.sign(text).await?);
        let directory = self.directory.clone();
        slowly_once(move || {
            left::put(&directory, &note, &json)
                .map_err(|error| StoreError::io(format!("closing {}", directory.display()), error))
        })
        .await?;
        let digest = chain.last().unwrap_or_default().to_owned();
        let what = Entered::Interrupted {
            reason: reason.clone(),
        };
        self.say(&digest, what).await?;
        Ok(reason)
    }

    /// The checkpoints, each of them ours, of this recording and right behind the one before it. A torn one behind them is cut off when all before it are known to be: what a
    /// start finds under a name of ours need not be a recording of ours.
    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, RecoverError> {
        let directory = self.directory.clone();
        let failed = |directory: &Path, error| {
            StoreError::io(format!("closing {}", directory.display()), error)
        };
        let opened = slowly_once(move || {
            left::open(&directory, Part::Checkpoints.name())
                .map_err(|error| failed(&directory, error))
        });
        let file = opened.await?.ok_or(RecoverError::NoCheckpoint)?;
        let mut input = Checkpoints::new(BufReader::new(tokio::fs::File::from_std(file)));
        let mut found: Vec<Checkpoint> = Vec::new();
        loop {
            let next = match input.next().await {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(ReadError::Checkpoint { .. }) => {
                    let last = found.last().ok_or(RecoverError::NoCheckpoint)?;
                    // Nobody would find what is written behind it.
                    let sequence = last.statement.sequence;
                    let what = format!("what follows checkpoint {sequence} is none");
                    return Err(RecoverError::Unsound(Problem::Checkpoints(what)));
                }
                Err(error) => return Err(error.into()),
            };
            if !self.notary.is_ours(&next.note) {
                // Not by us: it is not ours to close. Of what follows there may be any amount.
                return Err(RecoverError::Foreign);
            }
            // What we signed elsewhere is not to be signed for here.
            self.follows(found.last(), &next)?;
            found.push(next);
        }
        let end = found.last().ok_or(RecoverError::NoCheckpoint)?.end;
        let directory = self.directory.clone();
        slowly_once(move || {
            left::cut_checkpoints(&directory, end).map_err(|error| failed(&directory, error))
        })
        .await?;
        Ok(found)
    }

    fn follows(&self, last: Option<&Checkpoint>, next: &Checkpoint) -> Result<(), RecoverError> {
        let sequence = next.statement.sequence;
        let of = next.statement.session;
        let problem = if of != self.session {
            Problem::Spliced { sequence, of }
        } else if Link::between(last, next) != Link::Next {
            Problem::Unlinked { sequence }
        } else {
            // A packed recording had a manifest before it had its place.
            match next.statement.standing {
                Standing::Packing { .. } => Problem::HalfPacked(sequence),
                Standing::Packed { .. } => Problem::NoManifest,
                _ => return Ok(()),
            }
        };
        Err(RecoverError::Unsound(problem))
    }

    async fn check(&self) -> Result<Checked, RecoverError> {
        let files = self.store.open(self.session).await?;
        let ours = |note: &str| self.notary.is_ours(note).then(String::new);
        Ok(check(self.session, &*files, &ours).await?)
    }

    async fn say(&self, note: &str, what: Entered) -> Result<(), RecoverError> {
        let (session, note) = (self.session, note.to_owned());
        let entry = Entry {
            session,
            note,
            what,
        };
        Ok(self.notary.enter(entry).await?)
    }

    /// Whether the last checkpoint closes it, and the manifest that it means was ready.
    async fn finish_seal(&self, last: &Checkpoint) -> Result<bool, RecoverError> {
        let (Standing::Sealed { manifest } | Standing::Interrupted { manifest, .. }) =
            &last.statement.standing
        else {
            return Ok(false);
        };
        let directory = self.directory.clone();
        let draft = slowly_once(move || {
            left::manifest_draft(&directory)
                .map_err(|error| StoreError::io("reading a manifest", error))
        });
        if draft.await?.map(|draft| statement::sha256(&draft)) != Some(manifest.clone()) {
            return Ok(false);
        }
        if matches!(last.statement.standing, Standing::Sealed { .. }) {
            // What is not all there any more, is not complete.
            let problems = self.check().await?.problems;
            if !problems.iter().all(|it| *it == Problem::NoManifest) {
                return Ok(false);
            }
        }
        let directory = self.directory.clone();
        slowly_once(move || {
            layout::place_manifest(&directory)
                .map_err(|error| StoreError::io(format!("closing {}", directory.display()), error))
        })
        .await?;
        Ok(true)
    }

    /// Cuts torn ends off, and compares what is left with what checkpoints cover.
    async fn cut_files(&self, covered: BTreeMap<String, Vec<Extent>>) -> Result<Cut, RecoverError> {
        let directory = self.directory.clone();
        let cut = slowly_once(move || {
            let mut cut = Cut::default();
            for part in SPOOLS {
                let covered = covered.get(part.name()).map(Vec::as_slice);
                let covered = covered.unwrap_or_default();
                let end = covered.last().map_or(0, |last| last.to);
                let failed = |error| {
                    let path = directory.join(part.name());
                    StoreError::io(format!("closing {}", path.display()), error)
                };
                let length = left::cut_torn(&directory, part, end).map_err(failed)?;
                let there = length.unwrap_or(0);
                let (whole, missing): (Vec<_>, Vec<_>) =
                    covered.iter().partition(|extent| extent.to <= there);
                cut.missing.extend(missing.into_iter().cloned());
                let kept = whole.last().map_or(0, |last| last.to);
                if kept < there {
                    cut.fresh.push((part, kept));
                }
                if let Some(length) = length {
                    cut.lengths.insert(part, length);
                }
            }
            Ok(cut)
        });
        Ok(cut.await?)
    }

    /// From these bytes on to the end.
    async fn extents(&self, fresh: Vec<(Part, u64)>) -> Result<Vec<Extent>, RecoverError> {
        let mut extents = Vec::new();
        for (part, from) in fresh {
            let directory = self.directory.clone();
            let extent = slowly_once(move || {
                let mut stretch = statement::Stretch::since(part, from);
                let failed = |error| {
                    let path = directory.join(part.name());
                    StoreError::io(format!("reading {}", path.display()), error)
                };
                left::read_from(&directory, part, from, &mut |bytes| stretch.add(bytes))
                    .map_err(failed)?;
                Ok(stretch.take())
            })
            .await?;
            extents.extend(extent);
        }
        Ok(extents)
    }

    async fn manifest(
        &self,
        torn: &[Checkpoint],
        bastion: &Bastion,
        lengths: &BTreeMap<Part, u64>,
        reason: &mut String,
    ) -> Result<crate::recording::Manifest, RecoverError> {
        let mut survivors = Survivors::of_checkpoints(torn);
        let mut cast = CastSummary::of(lengths.get(&Part::CastSpool).copied().unwrap_or(0));
        if let Some(length) = lengths.get(&Part::Cast) {
            cast = CastSummary::of(*length);
            match self.read_cast().await {
                Ok((read, damage)) => {
                    survivors = read;
                    if let Some(damage) = damage {
                        reason.push_str(&format!("; {damage}"));
                    }
                }
                Err(damage @ (ReadError::Header(_) | ReadError::Line { .. })) => {
                    reason.push_str(&format!("; {damage}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut requests = None;
        if let Some(length) = lengths.get(&Part::Requests) {
            let (read, damage) = self.read_requests(CastSummary::of(*length)).await?;
            requests = read;
            if let Some(damage) = damage {
                reason.push_str(&format!("; {damage}"));
            }
        } else if let Some(length) = lengths.get(&Part::RequestsSpool) {
            requests = RequestsSummary::unread(CastSummary::of(*length));
        }
        let encrypted = Encrypted {
            cast: lengths.contains_key(&Part::CastSpool),
            requests: lengths.contains_key(&Part::RequestsSpool),
        };
        let head = self.notary.head();
        Ok(survivors.manifest(bastion, reason.clone(), cast, requests, encrypted, head))
    }

    async fn read_cast(&self) -> Result<(Survivors, Option<ReadError>), ReadError> {
        let file = self
            .store
            .open(self.session)
            .await?
            .read(Part::Cast)
            .await?;
        let file = file.ok_or(StoreError::NotFound(self.session))?;
        let mut reader = Reader::open(file.reader).await?;
        let mut survivors = Survivors::default();
        loop {
            match reader.next().await {
                Ok(Some(event)) => survivors.add(event),
                Ok(None) => return Ok((survivors, None)),
                // What follows may be of use to someone: it stays, and its digest with it.
                Err(damage @ ReadError::Line { .. }) => return Ok((survivors, Some(damage))),
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds the request index up. An intent without an outcome stays: the daemon died before it could say what came of it.
    async fn read_requests(
        &self,
        file: CastSummary,
    ) -> Result<(Option<RequestsSummary>, Option<ReadError>), ReadError> {
        let stored = self.store.open(self.session).await?;
        let Some(index) = stored.read(Part::Requests).await? else {
            return Ok((None, None));
        };
        let mut reader = match IndexReader::open(index.reader).await {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok((None, None)),
            // Nothing in it is understood.
            Err(damage @ ReadError::Index { .. }) => {
                return Ok((RequestsSummary::unread(file), Some(damage)));
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
        Ok((reader.summary(file), damage))
    }
}

/// What is left of the files of a recording.
#[derive(Debug, Default)]
struct Cut {
    /// What checkpoints cover, and is not all there.
    missing: Vec<Extent>,
    /// From where on no whole stretch of a checkpoint covers a file; what is left of a missing one stays, as what it is.
    fresh: Vec<(Part, u64)>,
    /// How long each file is.
    lengths: BTreeMap<Part, u64>,
}

/// The files of a recording that is not closed: those that are appended to while its session goes on, and their key.
const SPOOLS: [Part; 5] = [
    Part::SpoolKey,
    Part::Cast,
    Part::Requests,
    Part::CastSpool,
    Part::RequestsSpool,
];

fn entered(last: &Checkpoint) -> Entered {
    match &last.statement.standing {
        Standing::Interrupted { reason, .. } => Entered::Interrupted {
            reason: reason.clone(),
        },
        _ => Entered::Sealed,
    }
}

/// What the reason names already.
fn is_named(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::CutShort { .. } | Problem::GoneBefore { .. } | Problem::NoManifest
    )
}

fn covered(checkpoints: &[Checkpoint]) -> BTreeMap<String, Vec<Extent>> {
    let mut covered: BTreeMap<String, Vec<Extent>> = BTreeMap::new();
    for statement in checkpoints.iter().map(|it| &it.statement) {
        if let Standing::Interrupted { missing, .. } = &statement.standing {
            // Named before, and not gone a second time.
            for gone in missing {
                if let Some(of_file) = covered.get_mut(&gone.file) {
                    of_file.retain(|extent| extent.to <= gone.from);
                }
            }
        }
        for extent in &statement.files {
            let of_file = covered.entry(extent.file.clone()).or_default();
            of_file.push(extent.clone());
        }
    }
    covered
}
