//! Recordings that lie in the repository for ever, one set for each state of the format: what reads them is in tests/it.

use std::path::Path;

use age::secrecy::ExposeSecret as _;

use super::world::{SORTS, World};
use crate::verify::Verdict;

/// Where the fixtures go, under `tests/fixtures/recordings`, instead of being made and thrown away.
const KEEP: &str = "BASTION_KEEP_FIXTURES";

/// Makes fixtures of the format as it is now. Run it once when the format changes:
/// `BASTION_KEEP_FIXTURES=manifest-3 cargo test --lib fixtures_can_be_made`.
#[tokio::test]
async fn fixtures_can_be_made() {
    let thrown_away = tempfile::tempdir().unwrap();
    let to = match std::env::var_os(KEEP) {
        Some(name) => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/recordings")
            .join(name),
        None => thrown_away.path().join("fixtures"),
    };
    assert!(!to.exists(), "{} is for ever", to.display());
    let world = World::new();
    world.start().await;
    // In clear and encrypted, as they were written and packed, with requests and a terminal here and there; one interrupted.
    for sort in [SORTS[0], SORTS[1], SORTS[3], SORTS[6]] {
        world.sealed(sort).await;
    }
    world.left(SORTS[0]).await;
    world.recover().await;
    world.log.close().await;
    std::fs::create_dir_all(&to).unwrap();
    for part in ["recordings", "log"] {
        super::adversary::copy(&world.state.path().join(part), &to.join(part));
    }
    let key = world.identity.to_string();
    std::fs::write(to.join("identity"), format!("{}\n", key.expose_secret())).unwrap();
    let public = world.signing.key().vkey();
    std::fs::write(to.join("public.keys"), format!("{public}\n")).unwrap();
    let verdict: Verdict = world
        .verdict(world.entries().sessions().next().unwrap())
        .await;
    assert_eq!(verdict.problems, []);
    assert_eq!(world.entries().sessions().count(), 5);
}
