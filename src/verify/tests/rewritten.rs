//! Whoever holds a later key of the instance, and writes an earlier recording anew.

use super::world::{Memory, SORTS, World, now};
use crate::config::Name;
use crate::recording::Notary as _;
use crate::recording::check::Problem;
use crate::recording::statement::{self, Chain};
use crate::signing::{KeySource, Signing};
use crate::verify::{Finding, Verdict};

fn signing(state: &std::path::Path, key: &str) -> Signing {
    let source = KeySource::File {
        key: state.join(key),
        previous: None,
    };
    Signing::open(state, &Name::new("main").unwrap(), &source, now()).unwrap()
}

fn another_key(verdict: &Verdict) -> bool {
    let found = |it: &Finding| {
        matches!(it, Finding::OtherKey { .. })
            || matches!(
                it,
                Finding::Recording {
                    problem: Problem::OtherKey { .. },
                    ..
                }
            )
    };
    verdict.problems.iter().any(found)
}

#[tokio::test]
async fn what_is_signed_again_by_a_later_key_is_found_as_that() {
    let state = tempfile::tempdir().unwrap();
    let name = crate::signing::testing::name();
    for key in ["one", "two"] {
        crate::signing::create_key(&state.path().join(key), &name).unwrap();
    }
    let first = signing(state.path(), "one");
    let world = World::over(state, first);
    world.start().await;
    let ids = [world.sealed(SORTS[0]).await, world.left(SORTS[1]).await];
    world.recover().await;
    world.log.close().await;

    // The same instance later.
    let World { state, .. } = world;
    let second = signing(state.path(), "two");
    let world = World::over(state, second);
    world.start().await;
    let log = world.entries();
    let honest = Memory::of(&world, &ids);
    for id in ids {
        let verdict = honest.verdict(&world, Some(&log), id).await;
        assert_eq!(verdict.problems, [], "an old key is still good");
        let checkpoints = honest.0[&id]["checkpoints"].as_slice();
        let (notes, _, _) = statement::read_whole(checkpoints).unwrap();
        // All of it, and only its end.
        for kept in [0, notes.len() - 1] {
            let mut written = Vec::new();
            let mut chain = Chain::begin(id);
            for (n, note) in notes.iter().enumerate() {
                if n < kept {
                    written.extend(chain.signed(&note.note));
                    continue;
                }
                let said = note.statement.clone();
                let text = chain.text(said.at, said.files, said.standing).unwrap();
                written.extend(chain.signed(&world.notary.sign(text).await.unwrap()));
            }
            let mut memory = honest.clone();
            let files = memory.0.get_mut(&id).unwrap();
            files.insert("checkpoints".to_owned(), written);
            let verdict = memory.verdict(&world, Some(&log), id).await;
            assert!(another_key(&verdict), "{kept} kept: {verdict:?}");
        }
    }
}
