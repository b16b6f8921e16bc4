//! Whoever writes the store: every byte, every end, every file.

use super::world::{Files, Memory, SORTS, World, files, read_log};
use crate::recording::Identities;
use crate::recording::check::Problem;
use crate::recording::{Recorder, Recordings};
use crate::session::SessionId;
use crate::store::Part;
use crate::verify::{Entries, Finding, State, Verdict, recording};
use std::sync::Arc;

/// Everything that lies in the store, closed.
pub(super) async fn closed(world: &World) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for sort in SORTS {
        ids.push(world.sealed(sort).await);
        if !sort.packed {
            ids.push(world.left(sort).await);
        }
    }
    world.recover().await;
    ids
}

fn problems(verdict: &Verdict) -> Vec<&Problem> {
    let found = verdict.problems.iter().filter_map(|finding| match finding {
        Finding::Recording { problem, .. } => Some(problem),
        _ => None,
    });
    found.collect()
}

#[tokio::test]
async fn nobody_is_accused_who_is_honest() {
    let world = World::new();
    world.start().await;
    let mut open = Vec::new();
    for sort in SORTS {
        open.push(world.open(sort).await);
    }
    for recording in &open {
        let verdict = world.verdict(recording.id()).await;
        assert_eq!((verdict.state, verdict.problems), (State::Open, vec![]));
    }
    for recording in open {
        crate::recording::testing::leave(recording).await;
    }
    let ids = closed(&world).await;
    let (recordings, entries) = (world.recordings(), world.entries());
    let all = crate::verify::sessions(&recordings, Some(&entries)).await;
    for id in all.unwrap() {
        let verdict = world.verdict(id).await;
        assert_eq!(verdict.problems, vec![], "{id}");
        let closed = matches!(verdict.state, State::Complete | State::Interrupted);
        assert!(closed, "{verdict:?}");
        // Nor by somebody without the log or a key to it.
        let alone = Recordings::new(Arc::new(world.store.clone()), Identities::default());
        let verdict = recording(&alone, id, world.keys(), None).await.unwrap();
        assert_eq!(verdict.problems, vec![], "{id}");
    }
    let complete = ids.iter().take(1).next().unwrap();
    assert_eq!(world.verdict(*complete).await.state, State::Complete);
}

/// A step through `length` that reaches every byte of what is small.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let step = match length {
        0..1500 => 1,
        length => (length / 400).max(2) | 1,
    };
    (0..length).step_by(step)
}

#[tokio::test]
async fn every_byte_that_is_flipped_is_found_and_its_file_is_named() {
    let world = World::new();
    world.start().await;
    for id in closed(&world).await {
        let honest = Memory::of(&world, &[id]);
        // Without the log: the signatures alone tell.
        for (name, bytes) in &honest.0[&id] {
            for at in places(bytes.len()) {
                let mut memory = honest.clone();
                memory.0.get_mut(&id).unwrap().get_mut(name).unwrap()[at] ^= 1 << (at % 8);
                let verdict = memory.verdict(&world, None, id).await;
                let found = problems(&verdict);
                let named = found.iter().any(|problem| match problem {
                    Problem::Changed { file, from, to } => {
                        file == name && (*from..*to).contains(&(at as u64))
                    }
                    Problem::Manifest => name == Part::Manifest.name(),
                    _ => name == Part::Checkpoints.name(),
                });
                assert!(named, "{id}: {name}, byte {at}: {verdict:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_end_that_is_cut_off_is_found_and_its_file_is_named() {
    let world = World::new();
    world.start().await;
    for id in closed(&world).await {
        let honest = Memory::of(&world, &[id]);
        for (name, bytes) in &honest.0[&id] {
            for length in places(bytes.len()) {
                let mut memory = honest.clone();
                memory
                    .0
                    .get_mut(&id)
                    .unwrap()
                    .get_mut(name)
                    .unwrap()
                    .truncate(length);
                let verdict = memory.verdict(&world, None, id).await;
                let named = problems(&verdict).into_iter().any(|problem| match problem {
                    Problem::CutShort { file, bytes, .. } => {
                        file == name && *bytes == length as u64
                    }
                    Problem::Manifest => name == Part::Manifest.name(),
                    _ => name == Part::Checkpoints.name(),
                });
                assert!(named, "{id}: {name} cut at {length}: {verdict:?}");
            }
            let mut memory = honest.clone();
            memory.0.get_mut(&id).unwrap().remove(name);
            let verdict = memory.verdict(&world, None, id).await;
            assert!(!verdict.problems.is_empty(), "{id} without {name}");
            for more in [&b"\n"[..], b"x", b"{}\n"] {
                let mut memory = honest.clone();
                let files = memory.0.get_mut(&id).unwrap();
                files.get_mut(name).unwrap().extend_from_slice(more);
                let verdict = memory.verdict(&world, None, id).await;
                let named = problems(&verdict).into_iter().any(|problem| match problem {
                    Problem::Added { file, .. } => file == name,
                    Problem::Manifest => name == Part::Manifest.name(),
                    _ => name == Part::Checkpoints.name(),
                });
                assert!(named, "{id}: {name} and {more:?}: {verdict:?}");
            }
        }
        for name in Part::ALL.map(Part::name).into_iter().chain(["notes", ".x"]) {
            let mut memory = honest.clone();
            let files = memory.0.get_mut(&id).unwrap();
            if files.insert(name.to_owned(), b"extra\n".to_vec()).is_some() {
                continue;
            }
            let verdict = memory.verdict(&world, None, id).await;
            let stranger = Problem::Stranger {
                file: name.to_owned(),
            };
            assert!(problems(&verdict).contains(&&stranger), "{verdict:?}");
        }
    }
}

#[tokio::test]
async fn a_packed_recording_that_breaks_off_is_not_what_was_sealed() {
    let world = World::new();
    world.start().await;
    // A live checkpoint would give it away: on a slow machine one may come in between.
    let mut id = world.sealed_at_once().await;
    while !is_second_sealed(&files(&world.directory(id))) {
        id = world.sealed_at_once().await;
    }
    let honest = Memory::of(&world, &[id]);
    let log = world.entries();
    let (said, _, _) =
        crate::recording::statement::read_whole(honest.0[&id]["checkpoints"].as_slice()).unwrap();
    let signed = notes(&honest.0[&id]["checkpoints"]);
    assert!(signed.len() > 5, "{said:?}");
    for kept in 2..signed.len() {
        // Everything that a checkpoint behind these covers goes with it.
        let mut memory = honest.clone();
        let files = memory.0.get_mut(&id).unwrap();
        files.insert("checkpoints".to_owned(), signed[..kept].concat());
        let covers = |name: &str| {
            let extents = said[2..kept].iter().flat_map(|it| &it.statement.files);
            let ends = extents.filter(|it| it.file == name).map(|it| it.to);
            ends.max().unwrap_or(0) as usize
        };
        for (name, bytes) in files.iter_mut() {
            if name != "checkpoints" {
                bytes.truncate(covers(name));
            }
        }
        files.retain(|_, bytes| !bytes.is_empty());
        for log in [None, Some(&log)] {
            let verdict = memory.verdict(&world, log, id).await;
            assert!(!verdict.problems.is_empty(), "{kept} kept: {verdict:?}");
            if kept > 2 {
                let half = Problem::HalfPacked(said[kept - 1].statement.sequence);
                assert!(problems(&verdict).contains(&&half), "{verdict:?}");
                let named = verdict.problems.contains(&Finding::OtherPacking);
                assert_eq!(named, log.is_some(), "{verdict:?}");
            }
        }
    }
    let verdict = honest.verdict(&world, Some(&log), id).await;
    assert_eq!((verdict.state, verdict.problems), (State::Complete, vec![]));
}

fn is_second_sealed(files: &Files) -> bool {
    let bytes = files["checkpoints"].as_slice();
    let (notes, _, _) = crate::recording::statement::read_whole(bytes).unwrap();
    notes[1].statement.sequence == 1
}

/// A file's stretches by checkpoints, as far as they are of this file.
fn stretches(files: &Files, name: &str) -> Vec<(usize, usize)> {
    let (notes, _, _) =
        crate::recording::statement::read_whole(files["checkpoints"].as_slice()).unwrap();
    let extents = notes.into_iter().flat_map(|note| note.statement.files);
    extents
        .filter(|extent| extent.file == name)
        .map(|extent| (extent.from as usize, extent.to as usize))
        .collect()
}

#[tokio::test]
async fn frames_dropped_doubled_and_exchanged_are_found_as_such() {
    let world = World::new();
    world.start().await;
    for sort in SORTS {
        let id = world.sealed(sort).await;
        let honest = Memory::of(&world, &[id]);
        for (name, bytes) in &honest.0[&id] {
            let stretches = stretches(&honest.0[&id], name);
            if stretches.len() < 2 {
                continue;
            }
            // Encrypted, frames reach the file by 64 KiB.
            let several = stretches.len() > 2 || sort.encrypted;
            assert!(!sort.packed || several, "{stretches:?}");
            let changed = |bytes: Vec<u8>| {
                let mut memory = honest.clone();
                memory.0.get_mut(&id).unwrap().insert(name.clone(), bytes);
                memory
            };
            for pair in stretches.windows(2) {
                let ((from, middle), (_, to)) = (pair[0], pair[1]);
                let dropped = [&bytes[..from], &bytes[middle..]].concat();
                let verdict = changed(dropped).verdict(&world, None, id).await;
                let found = problems(&verdict);
                let short = |it: &&&Problem| matches!(it, Problem::CutShort { .. });
                assert!(found.iter().any(|it| short(&it)), "{verdict:?}");
                let doubled = [&bytes[..middle], &bytes[from..]].concat();
                let verdict = changed(doubled).verdict(&world, None, id).await;
                let found = problems(&verdict);
                let added = |it: &&Problem| matches!(it, Problem::Added { .. });
                assert!(found.iter().any(added), "{verdict:?}");
                assert!(found.iter().any(|it| is_moved(it)), "{verdict:?}");
                let swapped = [
                    &bytes[..from],
                    &bytes[middle..to],
                    &bytes[from..middle],
                    &bytes[to..],
                ]
                .concat();
                let verdict = changed(swapped).verdict(&world, None, id).await;
                let found = problems(&verdict);
                assert_eq!(found.len(), 2, "{verdict:?}");
                assert!(found.into_iter().all(is_moved), "{verdict:?}");
            }
        }
    }
}

fn is_moved(problem: &Problem) -> bool {
    matches!(problem, Problem::Reordered { .. })
}

#[tokio::test]
async fn checkpoints_dropped_doubled_exchanged_and_moved_are_found() {
    let world = World::new();
    world.start().await;
    let ids = closed(&world).await;
    let honest = Memory::of(&world, &ids);
    let notes: Vec<(SessionId, Vec<Vec<u8>>)> = ids
        .iter()
        .map(|id| (*id, notes(&honest.0[id]["checkpoints"])))
        .collect();
    for (n, (id, own)) in notes.iter().enumerate() {
        let changed = |notes: Vec<Vec<u8>>| {
            let mut memory = Memory::default();
            let mut files = honest.0[id].clone();
            files.insert("checkpoints".to_owned(), notes.concat());
            memory.0.insert(*id, files);
            memory
        };
        let (_, foreign) = &notes[(n + 1) % notes.len()];
        for at in 0..own.len() {
            let mut dropped = own.clone();
            dropped.remove(at);
            let verdict = changed(dropped).verdict(&world, None, *id).await;
            assert!(!verdict.problems.is_empty(), "{id} without checkpoint {at}");
            let mut doubled = own.clone();
            doubled.insert(at, own[at].clone());
            let verdict = changed(doubled).verdict(&world, None, *id).await;
            let unlinked = |it: &&Problem| matches!(it, Problem::Unlinked { .. });
            assert!(problems(&verdict).iter().any(unlinked), "{verdict:?}");
            if at + 1 < own.len() {
                let mut swapped = own.clone();
                swapped.swap(at, at + 1);
                let verdict = changed(swapped).verdict(&world, None, *id).await;
                assert!(problems(&verdict).iter().any(unlinked), "{verdict:?}");
            }
            for other in foreign {
                let mut moved = own.clone();
                moved[at] = other.clone();
                let verdict = changed(moved).verdict(&world, None, *id).await;
                let spliced = |it: &&Problem| matches!(it, Problem::Spliced { .. });
                assert!(problems(&verdict).iter().any(spliced), "{verdict:?}");
            }
        }
    }
}

/// Each with the empty line that follows it.
fn notes(checkpoints: &[u8]) -> Vec<Vec<u8>> {
    let (notes, end, _) = crate::recording::statement::read_whole(checkpoints).unwrap();
    assert_eq!(end, checkpoints.len() as u64);
    let mut from = 0;
    notes
        .iter()
        .map(|note| {
            let note = checkpoints[from..note.end as usize].to_vec();
            from += note.len();
            note
        })
        .collect()
}

#[tokio::test]
async fn manifests_and_recordings_exchanged_are_found() {
    let world = World::new();
    world.start().await;
    let ids = closed(&world).await;
    let honest = Memory::of(&world, &ids);
    let log = world.entries();
    for pair in ids.windows(2) {
        let (one, two) = (pair[0], pair[1]);
        let mut memory = honest.clone();
        let manifest = honest.0[&two]["manifest.json"].clone();
        let files = memory.0.get_mut(&one).unwrap();
        files.insert("manifest.json".to_owned(), manifest);
        let verdict = memory.verdict(&world, None, one).await;
        assert_eq!(problems(&verdict), [&Problem::Manifest]);

        let mut memory = honest.clone();
        memory.0.insert(one, honest.0[&two].clone());
        memory.0.insert(two, honest.0[&one].clone());
        for (id, of) in [(one, two), (two, one)] {
            let verdict = memory.verdict(&world, Some(&log), id).await;
            let spliced =
                |it: &&Problem| matches!(it, Problem::Spliced { of: found, .. } if *found == of);
            assert!(problems(&verdict).iter().all(spliced), "{verdict:?}");
            assert!(!problems(&verdict).is_empty());
        }

        let mut memory = honest.clone();
        memory.0.remove(&one);
        let recordings = Recordings::new(Arc::new(memory.clone()), Identities::default());
        let all = crate::verify::sessions(&recordings, Some(&log)).await;
        assert!(all.unwrap().contains(&one));
        let verdict = memory.verdict(&world, Some(&log), one).await;
        assert_eq!(verdict.state, State::Missing);
        assert!(matches!(verdict.problems[..], [Finding::Missing(_)]));
    }
}

#[tokio::test]
async fn what_was_smuggled_in_is_not_in_the_log() {
    let world = World::new();
    world.start().await;
    // By somebody who has the key, even.
    let unlogged = Arc::new(super::world::Unlogged(world.notary.clone()));
    let recorder = Recorder::new(Arc::new(world.store.clone()), unlogged);
    let recording = world.open_with(recorder, SORTS[0]).await;
    recording
        .seal(crate::recording::Ending::Exit(0))
        .await
        .unwrap();
    let verdict = world.verdict(recording.id()).await;
    assert_eq!(verdict.problems, [Finding::NotInLog]);

    // By somebody who has not.
    let other = World::new();
    other.start().await;
    let id = other.sealed(SORTS[0]).await;
    super::world::put(
        &world.directory(id),
        &super::world::files(&other.directory(id)),
    );
    let verdict = world.verdict(id).await;
    assert!(verdict.problems.contains(&Finding::NotInLog), "{verdict:?}");
    let unsigned = problems(&verdict)
        .into_iter()
        .any(|it| matches!(it, Problem::Signature(_)));
    assert!(unsigned, "{verdict:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_file_hides_nothing_and_is_not_waited_for() {
    let world = World::new();
    world.start().await;
    let id = world.sealed(SORTS[0]).await;
    let cast = world.directory(id).join("session.cast");
    std::fs::remove_file(&cast).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&cast).status();
    assert!(made.unwrap().success());
    let limit = std::time::Duration::from_secs(20);
    let verdict = tokio::time::timeout(limit, world.verdict(id))
        .await
        .unwrap();
    assert!(
        matches!(verdict.problems[..], [Finding::Unreadable(_)]),
        "{verdict:?}"
    );
    std::fs::remove_file(&cast).unwrap();
    std::os::unix::fs::symlink("checkpoints", &cast).unwrap();
    let verdict = world.verdict(id).await;
    assert!(
        matches!(verdict.problems[..], [Finding::Unreadable(_)]),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn what_has_no_end_is_not_read_to_it() {
    let world = World::new();
    world.start().await;
    let id = world.sealed(SORTS[0]).await;
    let cast = world.directory(id).join("session.cast");
    let file = std::fs::OpenOptions::new().append(true).open(&cast);
    let file = file.unwrap();
    let covered = file.metadata().unwrap().len();
    file.set_len(1 << 42).unwrap();
    let limit = std::time::Duration::from_secs(20);
    let verdict = tokio::time::timeout(limit, world.verdict(id));
    let added = Problem::Added {
        file: "session.cast".to_owned(),
        from: covered,
        to: 1 << 42,
    };
    assert_eq!(problems(&verdict.await.unwrap()), [&added]);
    file.set_len(covered).unwrap();

    // Any number of checkpoints that nobody signed, and of one that somebody did.
    let honest = Memory::of(&world, &[id]);
    let signed = notes(&honest.0[&id]["checkpoints"]);
    let last = signed.last().unwrap();
    let by_nobody = String::from_utf8(last.clone()).unwrap();
    let by_nobody = by_nobody
        .replacen("\"sequence\":", "\"sequence\":1", 1)
        .into_bytes();
    for junk in [&by_nobody, last] {
        let mut memory = honest.clone();
        let files = memory.0.get_mut(&id).unwrap();
        let checkpoints = files.get_mut("checkpoints").unwrap();
        checkpoints.extend(junk.repeat(10_000));
        let verdict = memory.verdict(&world, None, id).await;
        assert!(!verdict.problems.is_empty());
        let most = signed.len() as u64 + 64;
        assert!(verdict.checkpoints <= most, "{}", verdict.checkpoints);
    }

    // What is small when it is packed.
    let header = String::from_utf8(honest.0[&id]["session.cast"].clone()).unwrap();
    let header = format!("{}\n", header.lines().next().unwrap());
    let endless = tokio::io::AsyncReadExt::chain(header.as_bytes(), tokio::io::repeat(b'\n'));
    assert_eq!(
        crate::verify::place::last_whole(endless, 1 << 20).await,
        None
    );
    let short = crate::verify::place::last_whole(header.as_bytes(), 1 << 20).await;
    assert_eq!(short, Some((0, 0)));
}

pub(super) fn copy(from: &std::path::Path, to: &std::path::Path) {
    drop(std::fs::remove_dir_all(to));
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

#[tokio::test]
async fn a_log_that_was_rolled_back_is_found_with_a_witness() {
    let world = World::new();
    world.start().await;
    let log = world.state.path().join("log");
    let older = world.sealed(SORTS[0]).await;
    let copied = world.state.path().join("log-before");
    copy(&log, &copied);
    let newest = world.sealed(SORTS[1]).await;
    let witness = world.log.checkpoint();
    world.log.close().await;
    copy(&copied, &log);

    let (reader, entries): (_, Entries) = read_log(&log, world.keys());
    // What is still there and the log no more knows, is found without one.
    assert_eq!(world.verdict(newest).await.problems, [Finding::NotInLog]);
    assert!(
        reader
            .check_witness(witness.note().as_str().as_bytes())
            .is_err()
    );

    // And taken away with the end of the log: with a witness only.
    std::fs::remove_dir_all(world.directory(newest)).unwrap();
    let recordings = world.recordings();
    let all = crate::verify::sessions(&recordings, Some(&entries)).await;
    assert_eq!(all.unwrap().into_iter().collect::<Vec<_>>(), [older]);
    assert_eq!(world.verdict(older).await.problems, []);
    assert!(
        reader
            .check_witness(witness.note().as_str().as_bytes())
            .is_err()
    );
}
