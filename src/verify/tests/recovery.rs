//! Crashes: what the next start makes of what is left, and that nothing is laundered by it.

use std::sync::Arc;

use super::world::{Files, SORTS, Sort, World, files, put};
use crate::recording::Packer;
use crate::recording::check::Problem;
use crate::recording::testing::to_pack;
use crate::session::SessionId;
use crate::store::Part;
use crate::store::fs::Interrupted;
use crate::verify::{Finding, State};

fn spooled() -> impl Iterator<Item = Sort> {
    SORTS.into_iter().filter(|sort| !sort.packed)
}

/// The daemon starts on these files; what it says, and what lies there afterwards. Starts again: nothing changes.
async fn starts(world: &World, id: SessionId, left: &Files) -> (Vec<Interrupted>, Files) {
    put(&world.directory(id), left);
    let said = world.recover().await;
    let after = files(&world.directory(id));
    let again = world.recover().await;
    assert!(
        again.iter().all(|it| it.session != id || !it.closed),
        "{again:?}"
    );
    assert_eq!(files(&world.directory(id)), after, "it was changed again");
    (said, after)
}

#[tokio::test]
async fn a_spool_cut_anywhere_is_closed_as_interrupted_and_what_is_gone_is_named() {
    for sort in spooled() {
        let world = World::new();
        world.start().await;
        let id = world.left(sort).await;
        let whole = files(&world.directory(id));
        let bytes = whole["checkpoints"].as_slice();
        let (notes, _, _) = crate::recording::statement::read_whole(bytes).unwrap();
        for name in whole
            .keys()
            .filter(|name| !matches!(&***name, "checkpoints"))
        {
            let extents = notes.iter().flat_map(|note| &note.statement.files);
            let ends = extents.filter(|it| it.file == *name).map(|it| it.to);
            let covered = ends.max().unwrap();
            let length = whole[name].len();
            // All over it, and densely at its end.
            let cuts = (0..length).step_by(length / 30 + 1);
            for cut in cuts.chain((length.saturating_sub(60)..length).step_by(3)) {
                let mut left = whole.clone();
                left.get_mut(name).unwrap().truncate(cut);
                put(&world.directory(id), &left);
                let said = recover_unlogged(&world, id).await;
                let after = files(&world.directory(id));
                assert_eq!(
                    crate::store::fs::unsealed(&world.store)
                        .await
                        .unwrap()
                        .len(),
                    0
                );
                assert_eq!(files(&world.directory(id)), after, "cut at {cut}");
                let memory = super::world::Memory::of(&world, &[id]);
                let verdict = memory.verdict(&world, None, id).await;
                assert_eq!(verdict.state, State::Interrupted);
                let named = verdict.problems.iter().all(|finding| {
                    matches!(finding, Finding::Recording {
                        problem: Problem::GoneBefore { file, .. }, ..
                    } if file == name)
                });
                assert!(named, "{name} cut at {cut} of {covered}: {verdict:?}");
                let gone = (cut as u64) < covered;
                assert_eq!(
                    !verdict.problems.is_empty(),
                    gone,
                    "{name}: {cut} {covered}"
                );
                assert_eq!(said.reason.contains("are gone"), gone, "{}", said.reason);
            }
        }
    }
}

/// A start that dies before it tells the log.
async fn recover_unlogged(world: &World, id: SessionId) -> Interrupted {
    let unsealed = [id].into();
    let in_log = crate::store::fs::InLog {
        open: [id].into(),
        ..Default::default()
    };
    let unlogged = super::world::Unlogged(world.notary.clone());
    let now = super::world::now();
    let died = crate::store::fs::recover(&world.store, &unsealed, &in_log, &unlogged, now);
    let said = died.await.unwrap().remove(0);
    assert!(said.closed, "{said:?}");
    said
}

#[tokio::test]
async fn the_key_of_a_spool_that_is_gone_is_named() {
    let world = World::new();
    world.start().await;
    let id = world.left(SORTS[1]).await;
    let mut left = files(&world.directory(id));
    left.remove(Part::SpoolKey.name()).unwrap();
    let (said, _) = starts(&world, id, &left).await;
    assert!(said[0].reason.contains("spool.key.age"), "{said:?}");
    assert!(!world.verdict(id).await.problems.is_empty());
}

/// What was sealed, without its last checkpoint, and that checkpoint.
fn before_the_last(files: &Files) -> (Files, Vec<u8>) {
    let bytes = &files["checkpoints"];
    let (notes, end, _) = crate::recording::statement::read_whole(bytes.as_slice()).unwrap();
    let last = notes[notes.len() - 2].end as usize;
    let mut before = files.clone();
    before.insert("checkpoints".to_owned(), bytes[..last].to_vec());
    let manifest = before.remove("manifest.json").unwrap();
    before.insert("manifest.json.new".to_owned(), manifest);
    (before, bytes[last..end as usize].to_vec())
}

fn with_note(files: &Files, note: &[u8]) -> Files {
    let mut with = files.clone();
    with.get_mut("checkpoints").unwrap().extend_from_slice(note);
    with
}

/// A recording of the log that says it was begun, in the state after each step of a seal.
async fn sealed_unlogged(world: &World, sort: Sort) -> (SessionId, Files) {
    let recorder = crate::recording::Recorder::new(
        Arc::new(world.store.clone()),
        Arc::new(OnlyOpened::over(world)),
    );
    let recording = world.open_with(recorder, sort).await;
    recording
        .seal(crate::recording::Ending::Exit(0))
        .await
        .unwrap();
    let id = recording.id();
    (id, files(&world.directory(id)))
}

/// Dies before it enters how a recording was closed.
#[derive(Debug)]
pub(super) struct OnlyOpened(super::world::Unlogged, Arc<crate::notary::DaemonNotary>);

impl OnlyOpened {
    pub(super) fn over(world: &World) -> Self {
        Self(
            super::world::Unlogged(world.notary.clone()),
            world.notary.clone(),
        )
    }
}

#[async_trait::async_trait]
impl crate::recording::Notary for OnlyOpened {
    async fn sign(&self, statement: String) -> Result<String, crate::recording::NotaryError> {
        self.1.sign(statement).await
    }

    async fn enter(
        &self,
        entry: crate::recording::Entry,
    ) -> Result<(), crate::recording::NotaryError> {
        match entry.what {
            crate::recording::Entered::Opened { .. } => self.1.enter(entry).await,
            _ => self.0.enter(entry).await,
        }
    }

    fn head(&self) -> String {
        self.1.head()
    }

    fn is_ours(&self, note: &str) -> bool {
        self.1.is_ours(note)
    }
}

#[tokio::test]
async fn a_crash_at_each_step_of_a_seal_leaves_what_it_is() {
    for sort in spooled() {
        let world = World::new();
        world.start().await;
        for (step, state, gone) in [
            ("the manifest is drafted", State::Interrupted, false),
            ("the checkpoint is torn", State::Interrupted, false),
            ("the checkpoint is there", State::Complete, false),
            ("the manifest is in place", State::Complete, false),
            (
                "the checkpoint is there, and the cast is cut",
                State::Interrupted,
                true,
            ),
            ("the manifest is lost", State::Interrupted, false),
        ] {
            let (id, whole) = sealed_unlogged(&world, sort).await;
            let (before, note) = before_the_last(&whole);
            let cast = match sort.encrypted {
                true => "session.spool",
                false => "session.cast",
            };
            let left = match step {
                "the manifest is drafted" => before,
                "the checkpoint is torn" => with_note(&before, &note[..note.len() - 1]),
                "the checkpoint is there" => with_note(&before, &note),
                "the manifest is in place" => whole,
                "the manifest is lost" => {
                    let mut left = with_note(&before, &note);
                    left.remove("manifest.json.new");
                    left
                }
                _ => {
                    let mut left = with_note(&before, &note);
                    let cast = left.get_mut(cast).unwrap();
                    cast.truncate(cast.len() - 3);
                    left
                }
            };
            let (said, after) = starts(&world, id, &left).await;
            let verdict = world.verdict(id).await;
            assert_eq!(verdict.state, state, "{step}: {said:?}");
            let named = verdict.problems.iter().all(|finding| {
                matches!(
                    finding,
                    Finding::Recording {
                        problem: Problem::GoneBefore { .. },
                        ..
                    }
                )
            });
            assert!(named, "{step}: {verdict:?}");
            assert_eq!(!verdict.problems.is_empty(), gone, "{step}: {verdict:?}");
            assert!(!after.contains_key("manifest.json.new"), "{step}");
        }
    }
}

#[tokio::test]
async fn a_crash_at_each_step_of_a_recovery_leaves_what_it_is() {
    for sort in spooled() {
        let world = World::new();
        world.start().await;
        for torn in [false, true] {
            for step in 0..4 {
                let id = world.left(sort).await;
                let mut left = files(&world.directory(id));
                if torn {
                    let cast = left.get_mut(match sort.encrypted {
                        true => "session.spool",
                        false => "session.cast",
                    });
                    let cast = cast.unwrap();
                    cast.truncate(cast.len() / 2);
                }
                // What a recovery makes of it that tells the log nothing: then it died.
                put(&world.directory(id), &left);
                recover_unlogged(&world, id).await;
                let whole = files(&world.directory(id));
                let (before, note) = before_the_last(&whole);
                let left = match step {
                    0 => before,
                    1 => with_note(&before, &note[..note.len() / 2]),
                    2 => with_note(&before, &note),
                    _ => whole,
                };
                starts(&world, id, &left).await;
                let verdict = world.verdict(id).await;
                assert_eq!(verdict.state, State::Interrupted);
                let named = verdict.problems.iter().all(|finding| {
                    matches!(
                        finding,
                        Finding::Recording {
                            problem: Problem::GoneBefore { .. },
                            ..
                        }
                    )
                });
                assert!(named, "step {step}, {torn}: {verdict:?}");
                assert_eq!(!verdict.problems.is_empty(), torn, "{step}: {verdict:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_crash_at_each_step_of_a_replacement_loses_nothing() {
    let world = World::new();
    world.start().await;
    for step in 0..5 {
        let (sealed, packs) = tokio::sync::mpsc::channel(1);
        let recorder =
            crate::recording::Recorder::new(Arc::new(world.store.clone()), world.notary.clone());
        let recording = world
            .open_with(recorder.with_packer(sealed), SORTS[0])
            .await;
        recording
            .seal(crate::recording::Ending::Exit(0))
            .await
            .unwrap();
        let id = recording.id();
        let place = world.directory(id);
        let spooled = files(&place);
        let packer = Packer::new(world.store.clone(), world.notary.clone());
        packer.pack(to_pack(packs)).await.unwrap();
        let packed = files(&place);
        let draft = place.with_file_name(format!(".pack-{id}"));
        let old = place.with_file_name(format!(".old-{id}"));
        let mut half = packed.clone();
        half.remove("manifest.json");
        let expected = match step {
            // Half a draft; a whole one; what was exchanged; where two cannot change places.
            0 => {
                put(&place, &spooled);
                put(&draft, &half);
                &spooled
            }
            1 => {
                put(&place, &spooled);
                put(&draft, &packed);
                &spooled
            }
            2 => {
                put(&draft, &spooled);
                &packed
            }
            3 => {
                std::fs::remove_dir_all(&place).unwrap();
                put(&old, &spooled);
                put(&draft, &packed);
                &packed
            }
            _ => {
                put(&old, &spooled);
                &packed
            }
        };
        assert_eq!(world.recover().await, []);
        assert_eq!(&files(&place), expected, "step {step}");
        assert!(!draft.exists() && !old.exists(), "step {step}");
        let verdict = world.verdict(id).await;
        assert_eq!((verdict.state, verdict.problems), (State::Complete, vec![]));
    }
}

/// A start that must not wait for anything.
async fn starts_soon(world: &World) -> Vec<Interrupted> {
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, world.recover()).await.unwrap()
}

/// A recording's directory that no daemon made, empty.
fn planted(world: &World) -> (SessionId, std::path::PathBuf) {
    let opened = crate::recording::roundtrip::metadata(false).opened;
    let id = SessionId::new(opened);
    let directory = world.directory(id);
    std::fs::create_dir_all(&directory).unwrap();
    (id, directory)
}

fn stays(said: &[Interrupted], id: SessionId) {
    let named = said.iter().find(|it| it.session == id);
    assert!(named.is_some_and(|it| !it.closed), "{said:?}");
}

fn pipe(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[tokio::test]
async fn what_lies_elsewhere_is_not_cut_by_a_start() {
    let world = World::new();
    world.start().await;
    // Without a line feed: torn, if it were checkpoints or a cast.
    let elsewhere = world.state.path().join("bearer.key");
    std::fs::write(&elsewhere, "a key of the daemon's").unwrap();
    let (by_link, directory) = planted(&world);
    std::os::unix::fs::symlink(&elsewhere, directory.join("checkpoints")).unwrap();
    // The directory itself.
    let (by_directory, link) = planted(&world);
    let target = world.state.path().join("elsewhere");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("checkpoints"), "torn").unwrap();
    std::fs::remove_dir(&link).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    // What nobody of ours signed stays as it is, too.
    let (unsigned, directory) = planted(&world);
    std::fs::write(directory.join("checkpoints"), "torn").unwrap();
    // Files of a recording that is ours.
    let cast = world.left(SORTS[0]).await;
    let path = world.directory(cast).join("session.cast");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let whole = "first line\nand a torn one".repeat(10_000);
    let longer = world.state.path().join("longer");
    std::fs::write(&longer, &whole).unwrap();
    let index = world.left(SORTS[0]).await;
    let path = world.directory(index).join("requests.jsonl");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&longer, &path).unwrap();

    let said = starts_soon(&world).await;
    for id in [by_link, by_directory, unsigned, cast, index] {
        stays(&said, id);
    }
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&elsewhere), "a key of the daemon's");
    assert_eq!(read(&target.join("checkpoints")), "torn");
    assert_eq!(read(&directory.join("checkpoints")), "torn");
    assert_eq!(read(&longer), whole);
}

#[tokio::test]
async fn what_has_no_end_holds_up_no_start() {
    let world = World::new();
    world.start().await;
    let sparse = |path: &std::path::Path, bytes: u64| {
        let mut options = std::fs::OpenOptions::new();
        let file = options.append(true).create(true).open(path).unwrap();
        file.set_len(bytes).unwrap();
    };
    const TERABYTE: u64 = 1 << 40;
    let (empty, directory) = planted(&world);
    sparse(&directory.join("checkpoints"), TERABYTE);
    let behind = world.left(SORTS[0]).await;
    sparse(&world.directory(behind).join("checkpoints"), TERABYTE);
    let cast = world.left(SORTS[0]).await;
    sparse(&world.directory(cast).join("session.cast"), TERABYTE);
    let spool = world.left(SORTS[1]).await;
    sparse(&world.directory(spool).join("session.spool"), TERABYTE);
    let honest = world.left(SORTS[0]).await;

    let said = starts_soon(&world).await;
    for id in [empty, behind, cast, spool] {
        stays(&said, id);
    }
    assert!(said.iter().any(|it| it.session == honest && it.closed));
    assert_eq!(world.verdict(honest).await.problems, []);
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for_by_a_start() {
    let world = World::new();
    world.start().await;
    let (empty, directory) = planted(&world);
    pipe(&directory.join("checkpoints"));
    let mut left = vec![empty];
    for name in ["session.cast", "requests.jsonl", "checkpoints"] {
        let id = world.left(SORTS[0]).await;
        std::fs::remove_file(world.directory(id).join(name)).unwrap();
        pipe(&world.directory(id).join(name));
        left.push(id);
    }
    let (sealed, whole) = sealed_unlogged(&world, SORTS[0]).await;
    let (before, note) = before_the_last(&whole);
    put(&world.directory(sealed), &with_note(&before, &note));
    let draft = world.directory(sealed).join("manifest.json.new");
    std::fs::remove_file(&draft).unwrap();
    pipe(&draft);
    left.push(sealed);

    let said = starts_soon(&world).await;
    for id in left {
        stays(&said, id);
    }
}

#[tokio::test]
async fn a_start_signs_for_no_other_session_and_no_broken_chain() {
    let world = World::new();
    world.start().await;
    let victim = world.left(SORTS[0]).await;
    let whole = files(&world.directory(victim));
    let notes = &whole["checkpoints"];
    let (said, _, _) = crate::recording::statement::read_whole(notes.as_slice()).unwrap();
    let ends: Vec<usize> = said.iter().map(|it| it.end as usize).collect();
    let with = |notes: &[u8]| {
        let mut files = whole.clone();
        files.insert("checkpoints".to_owned(), notes.to_vec());
        let cast = files.get_mut("session.cast").unwrap();
        cast.extend_from_slice(b"[0.1, \"o\", \"invented\"]\n");
        files
    };
    // All of it and its beginning under another id; without one in its midst, and with the last one twice, under its own.
    let mut invented = Vec::new();
    for notes in [&notes[..], &notes[..ends[0]]] {
        let (id, _) = planted(&world);
        put(&world.directory(id), &with(notes));
        invented.push(id);
    }
    let said = starts_soon(&world).await;
    assert!(said.iter().any(|it| it.session == victim && it.closed));
    for broken in [
        [&notes[..ends[0]], &notes[ends[1]..]].concat(),
        [&notes[..], &notes[ends[1]..]].concat(),
        notes[ends[0]..].to_vec(),
    ] {
        put(&world.directory(victim), &with(&broken));
        let known = crate::store::fs::InLog::default();
        let unsealed = [victim].into();
        let now = super::world::now();
        let before = files(&world.directory(victim));
        let said = crate::store::fs::recover(&world.store, &unsealed, &known, &*world.notary, now);
        stays(&said.await.unwrap(), victim);
        assert_eq!(files(&world.directory(victim)), before);
    }
    for id in invented {
        stays(&said, id);
        let cast = files(&world.directory(id))["session.cast"].clone();
        assert!(cast.ends_with(b"invented\"]\n"));
        assert!(!world.directory(id).join("manifest.json").exists());
        assert!(
            world.entries().of(id).is_none(),
            "the log knows nothing of it"
        );
    }
}

#[tokio::test]
async fn half_of_a_packed_recording_is_not_closed_anew() {
    let world = World::new();
    world.start().await;
    let id = world.sealed_at_once().await;
    let mut half = files(&world.directory(id));
    let (notes, _, _) =
        crate::recording::statement::read_whole(half["checkpoints"].as_slice()).unwrap();
    half.remove("manifest.json");
    for kept in 3..=notes.len() {
        let end = notes[kept - 1].end as usize;
        let mut left = half.clone();
        left.get_mut("checkpoints").unwrap().truncate(end);
        put(&world.directory(id), &left);
        // By a log that knows of its end, and by one that has lost it.
        stays(&starts_soon(&world).await, id);
        let known = crate::store::fs::InLog::default();
        let now = super::world::now();
        let unsealed = [id].into();
        let said = crate::store::fs::recover(&world.store, &unsealed, &known, &*world.notary, now);
        stays(&said.await.unwrap(), id);
        assert_eq!(files(&world.directory(id)), left);
    }
}
