//! What the log says was deleted, and what only somebody took away.

use std::collections::BTreeSet;

use super::world::{SORTS, World, files, put};
use crate::session::SessionId;
use crate::verify::{Entries, Finding, State, Verdict, recording};

async fn of(world: &World, id: SessionId, entries: &Entries) -> Verdict {
    recording(&world.recordings(), id, world.keys(), Some(entries))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_deletion_on_record_is_no_gap_and_what_comes_back_is_seen() {
    let world = World::new();
    world.start().await;
    let deleted = world.sealed(SORTS[2]).await;
    let taken = world.sealed(SORTS[2]).await;
    world.deletes(deleted).await;
    let directory = world.directory(deleted);
    let copy = files(&directory);

    // The leaf comes first: until the files are gone the daemon says that it is at it.
    let mut entries = world.entries();
    entries.set_under_way(BTreeSet::from([deleted, taken]));
    let verdict = of(&world, deleted, &entries).await;
    assert_eq!((verdict.state, verdict.problems), (State::Deleted, vec![]));
    let verdict = of(&world, taken, &entries).await;
    assert_eq!(
        (verdict.state, verdict.problems),
        (State::Complete, vec![]),
        "a note that anybody can write stands for no leaf"
    );

    for id in [deleted, taken] {
        std::fs::remove_dir_all(world.directory(id)).unwrap();
    }
    let verdict = of(&world, taken, &entries).await;
    assert!(
        matches!(verdict.problems[..], [Finding::Missing(_)]),
        "{verdict:?}"
    );
    let verdict = world.verdict(deleted).await;
    assert_eq!((verdict.state, verdict.problems), (State::Deleted, vec![]));
    assert_eq!(verdict.reason.as_deref(), Some("30d after it was closed"));

    put(&directory, &copy);
    let verdict = world.verdict(deleted).await;
    assert!(
        matches!(verdict.problems[..], [Finding::Back(_)]),
        "{verdict:?}"
    );
}
