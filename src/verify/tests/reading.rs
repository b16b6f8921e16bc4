//! What was recorded is read back, whatever form it lies in.

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;

use super::world::{SORTS, Sort, World};
use crate::recording::{Identities, ReadError, Recordings};
use crate::session::SessionId;

async fn read(recordings: &Recordings, id: SessionId) -> Result<(String, String), ReadError> {
    let stored = recordings.open(id).await?;
    let (mut cast, mut requests) = (String::new(), String::new());
    stored.cast().await?.read_to_string(&mut cast).await?;
    if let Some(mut index) = stored.requests().await? {
        index.read_to_string(&mut requests).await?;
    }
    Ok((cast, requests))
}

#[tokio::test]
async fn every_form_reads_back_the_same_and_encrypted_ones_to_nobody_else() {
    let world = World::new();
    world.start().await;
    for sort in SORTS.into_iter().filter(|sort| sort.packed) {
        let spooled = Sort {
            packed: false,
            ..sort
        };
        // What lies spooled and what was made of it.
        let id = world.sealed(spooled).await;
        let before = read(&world.recordings(), id).await.unwrap();
        assert_eq!(before.1.is_empty(), !sort.requests);
        assert!(before.0.contains("round 2 line 3 \u{20ac}"), "{}", before.0);
        let id = world.sealed(sort).await;
        let after = read(&world.recordings(), id).await.unwrap();
        let without_time = |cast: &str| -> Vec<String> {
            let lines = cast.lines().skip(1);
            let what = lines.map(|line| line.split_once(", ").unwrap().1.to_owned());
            what.collect()
        };
        assert_eq!(without_time(&before.0), without_time(&after.0));
        assert_eq!(before.1.lines().count(), after.1.lines().count());
        let stored = world.recordings().open(id).await.unwrap();
        let manifest = stored.manifest().await.unwrap().unwrap();
        assert_eq!(manifest.cast.bytes, after.0.len() as u64);
        if !sort.encrypted {
            let digest = crate::recording::statement::sha256(after.0.as_bytes());
            assert_eq!(manifest.cast.sha256, Some(digest));
        }
    }
    for sort in SORTS.into_iter().filter(|sort| sort.encrypted) {
        let id = world.sealed(sort).await;
        let store = Arc::new(world.store.clone());
        let nobody = Recordings::new(store.clone(), Identities::default());
        let refused = read(&nobody, id).await.unwrap_err();
        assert!(matches!(refused, ReadError::Encrypted), "{refused}");
        let wrong = Identities::new(vec![Box::new(age::x25519::Identity::generate())]);
        let refused = read(&Recordings::new(store, wrong), id).await.unwrap_err();
        let said = "none of the identities given belongs to a recipient of this recording";
        assert!(refused.to_string().contains(said), "{refused}");
        // And nothing of it lies there in clear.
        for (name, bytes) in super::world::files(&world.directory(id)) {
            let text = String::from_utf8_lossy(&bytes);
            for secret in ["of what is shown", "typed", "of-a-request"] {
                assert!(!text.contains(secret), "{name}");
            }
        }
    }
}
