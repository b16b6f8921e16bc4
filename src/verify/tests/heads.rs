//! The heads of the log that manifests carry: witnesses that lie beside what they are witnesses of.

use super::adversary::{closed, copy};
use super::world::{Memory, SORTS, World, now, read_log};
use crate::config::Name;
use crate::log::{Leaf, LogError, LogReader};
use crate::recording::check::Problem;
use crate::recording::{Ending, Manifest, Packer, ToPack};
use crate::session::SessionId;
use crate::signing::{KeySource, NoteKind, Signing};
use crate::store::Part;
use crate::verify::{Entries, Finding, Heads, Held};

/// What `verify --all` does without a witness.
async fn held(world: &World) -> Held {
    let (reader, entries): (LogReader, Entries) =
        read_log(&world.state.path().join("log"), world.keys());
    let recordings = world.recordings();
    let mut heads = Heads::default();
    let all = crate::verify::sessions(&recordings, Some(&entries)).await;
    for id in all.unwrap() {
        let verdict = world.verdict(id).await;
        assert_eq!(verdict.problems, [], "{id}");
        heads.add(&verdict);
    }
    heads.hold(&reader)
}

fn manifest(world: &World, id: SessionId) -> Manifest {
    let path = world.directory(id).join(Part::Manifest.name());
    Manifest::parse(&std::fs::read(path).unwrap()).unwrap()
}

fn signing(state: &std::path::Path, key: &str) -> Signing {
    let source = KeySource::File {
        key: state.join(key),
        previous: None,
    };
    Signing::open(state, &Name::new("main").unwrap(), &source, now()).unwrap()
}

fn two_keys() -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let name = crate::signing::testing::name();
    for key in ["one", "two"] {
        crate::signing::create_key(&state.path().join(key), &name).unwrap();
    }
    state
}

#[tokio::test]
async fn a_log_that_was_rolled_back_is_found_by_what_was_closed_since() {
    let world = World::new();
    world.start().await;
    let log = world.state.path().join("log");
    world.sealed(SORTS[0]).await;
    let kept = world.open(SORTS[1]).await;
    let before = world.state.path().join("log-before");
    copy(&log, &before);
    // This is to have never been.
    let hidden = world.sealed(SORTS[0]).await;
    kept.seal(Ending::Exit(0)).await.unwrap();
    let size = world.log.checkpoint().size();
    world.log.close().await;
    assert_eq!(held(&world).await.problems.len(), 0);
    std::fs::remove_dir_all(world.directory(hidden)).unwrap();
    copy(&before, &log);

    // The next start of the daemon finds nothing wrong, and enters what it finds closed.
    let World { state, signing, .. } = world;
    let world = World::over(state, signing);
    world.start().await;
    world.recover().await;
    let found = held(&world).await;
    let [problem] = &found.problems[..] else {
        panic!("{found:?}")
    };
    let by = kept.id().to_string();
    assert!(problem.to_string().contains(&by), "{problem}");
    let held_now = world.log.checkpoint().size();
    match problem {
        LogError::RolledBack {
            size: covered,
            held,
            ..
        } => {
            // The head was signed before the leaf that says that it was sealed.
            assert_eq!((*covered, *held), (size - 1, held_now));
        }
        LogError::Forked { size: covered, .. } => assert_eq!(*covered, size - 1),
        other => panic!("{other}"),
    }

    // As long as before and longer: another history.
    for _ in 0..4 {
        world.sealed(SORTS[0]).await;
    }
    let found = held(&world).await;
    assert!(
        matches!(&found.problems[..], [LogError::Forked { size: covered, .. }] if *covered == size - 1),
        "{found:?}"
    );
    // The heads that came after are good ones of this log, and do not heal it.
    assert_eq!(found.newest, Some(world.log.checkpoint().size() - 1));
}

#[tokio::test]
async fn a_manifest_carries_a_head_over_its_own_beginning_and_packed_over_its_own_end() {
    let world = World::new();
    world.start().await;
    for id in closed(&world).await {
        let verdict = world.verdict(id).await;
        let size = verdict.log_head.unwrap().size();
        let entries = world.entries();
        let in_log = entries.of(id).unwrap();
        assert!(in_log.opened.as_ref().unwrap().position < size, "{id}");
        if world.directory(id).join(Part::CastPacked.name()).exists() {
            assert!(in_log.closed[0].position < size, "{id}");
        }
    }
}

#[tokio::test]
async fn the_head_in_a_manifest_cannot_be_edited_or_exchanged() {
    let world = World::new();
    world.start().await;
    let older = world.sealed(SORTS[0]).await;
    let old_head = manifest(&world, older).log_head.unwrap();
    for sort in SORTS {
        let id = world.sealed(sort).await;
        let honest = Memory::of(&world, &[id]);
        let own = manifest(&world, id).log_head.unwrap();
        let size = own.lines().nth(1).unwrap();
        let edits = [
            (None, false),
            (Some(old_head.clone()), false),
            (Some(own.replacen(size, "7777", 1)), true),
            (Some("bastion-audit/main\n".to_owned()), true),
            (Some(String::new()), true),
        ];
        for (head, is_none) in edits {
            let mut edited = manifest(&world, id);
            edited.log_head = head;
            let mut memory = honest.clone();
            let files = memory.0.get_mut(&id).unwrap();
            files.insert("manifest.json".to_owned(), edited.to_json().unwrap());
            let verdict = memory.verdict(&world, Some(&world.entries()), id).await;
            let changed = verdict.problems.iter().any(|it| {
                matches!(
                    it,
                    Finding::Recording {
                        problem: Problem::Manifest,
                        ..
                    }
                )
            });
            assert!(changed, "{verdict:?}");
            let named = verdict.problems.contains(&Finding::NoHead);
            assert_eq!(named, is_none, "{verdict:?}");
            // It is no reason to accuse the log.
            let mut heads = Heads::default();
            heads.add(&verdict);
            let (reader, _) = read_log(&world.state.path().join("log"), world.keys());
            assert_eq!(heads.hold(&reader).problems.len(), 0);
        }
    }
}

/// As it was before manifests carried heads: sealed by the same key, in the same log.
#[tokio::test]
async fn a_manifest_of_old_without_a_head_is_as_good_as_it_was() {
    use crate::recording::statement::{self, Chain, Standing};
    let world = World::new();
    world.start().await;
    let unlogged = super::recovery::OnlyOpened::over(&world);
    let recorder = crate::recording::Recorder::new(
        std::sync::Arc::new(world.store.clone()),
        std::sync::Arc::new(unlogged),
    );
    let recording = world.open_with(recorder, SORTS[0]).await;
    recording.seal(Ending::Exit(0)).await.unwrap();
    let id = recording.id();
    let mut memory = Memory::of(&world, &[id]);
    let files = memory.0.get_mut(&id).unwrap();
    let mut old = manifest(&world, id);
    old.log_head = None;
    let json = old.to_json().unwrap();
    assert!(!String::from_utf8_lossy(&json).contains("logHead"));
    let (mut notes, _, _) = statement::read_whole(files["checkpoints"].as_slice()).unwrap();
    let said = notes.pop().unwrap().statement;
    let mut chain = Chain::after(notes.last().unwrap());
    let manifest = statement::sha256(&json);
    let text = chain.text(said.at, said.files, Standing::Sealed { manifest });
    let note = crate::recording::Notary::sign(&*world.notary, text.unwrap()).await;
    let last = chain.signed(&note.unwrap());
    let kept: Vec<String> = notes.iter().map(|it| format!("{}\n", it.note)).collect();
    let written = [kept.concat().as_bytes(), &last].concat();
    files.insert("checkpoints".to_owned(), written);
    files.insert("manifest.json".to_owned(), json);
    let leaf = Leaf::Sealed {
        session: id,
        at: now(),
        note: crate::signing::Digest::parse(chain.last().unwrap()).unwrap(),
    };
    world.log.append(leaf).await.unwrap();
    let verdict = memory.verdict(&world, Some(&world.entries()), id).await;
    assert_eq!(verdict.problems, []);
    assert!(verdict.log_head.is_none());
    let held = Heads::default().hold(&read_log(&world.state.path().join("log"), world.keys()).0);
    assert_eq!(
        (held.manifests, held.newest, held.problems.len()),
        (0, None, 0)
    );
}

#[tokio::test]
async fn a_head_by_a_key_that_no_longer_counts_accuses_no_log() {
    let state = two_keys();
    let one = signing(state.path(), "one");
    let world = World::over(state, one.clone());
    world.start().await;
    world.sealed(SORTS[0]).await;
    world.log.close().await;
    let World { state, .. } = world;
    let two = signing(state.path(), "two");
    let world = World::over(state, two);
    world.start().await;
    let id = world.sealed(SORTS[0]).await;
    let own = manifest(&world, id).log_head.unwrap();
    let size: u64 = own.lines().nth(1).unwrap().parse().unwrap();
    let root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let text = format!("{}\n{size}\n{root}\n", one.first_line(NoteKind::Log));
    let mut edited = manifest(&world, id);
    edited.log_head = Some(one.sign(text).await.unwrap().as_str().to_owned());
    let mut memory = Memory::of(&world, &[id]);
    let files = memory.0.get_mut(&id).unwrap();
    files.insert("manifest.json".to_owned(), edited.to_json().unwrap());
    let verdict = memory.verdict(&world, Some(&world.entries()), id).await;
    let named = |it: &Finding| matches!(it, Finding::HeadKey { size: of, .. } if *of == size);
    assert!(verdict.problems.iter().any(named), "{verdict:?}");
    assert!(verdict.log_head.is_none());
}

#[tokio::test]
async fn honest_logs_are_not_accused_after_another_key_a_crash_a_deletion_and_packing() {
    let state = two_keys();
    let one = signing(state.path(), "one");
    let world = World::over(state, one);
    world.start().await;
    let ids = closed(&world).await;
    let unpacked = world.sealed(SORTS[0]).await;
    let left = world.left(SORTS[1]).await;
    world.log.close().await;

    let World { state, .. } = world;
    let two = signing(state.path(), "two");
    let world = World::over(state, two);
    world.start().await;
    world.recover().await;
    // What was sealed under the old key is packed under the new one.
    let packer = Packer::new(world.store.clone(), world.notary.clone());
    packer.pack(ToPack::in_clear(unpacked)).await.unwrap();
    world.sealed(SORTS[3]).await;
    let deleted = ids[2];
    world.deletes(deleted).await;
    std::fs::remove_dir_all(world.directory(deleted)).unwrap();
    let found = held(&world).await;
    assert_eq!(found.problems.len(), 0, "{found:?}");
    // All that are there: without the deleted one, with three more.
    assert_eq!(found.manifests, ids.len() as u64 + 2);
    assert!(manifest(&world, left).log_head.is_some());
    assert!(found.newest.unwrap() <= world.log.checkpoint().size());
}
