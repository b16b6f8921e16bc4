//! Sign-ons on disk and in force.

use std::sync::Arc;

use super::*;
use crate::config::watch::{InForce, follow};
use crate::store::room::Room;

fn opened(directory: &Path) -> Result<(SignOnStore, InForce), SignOnFileError> {
    let (_watch, reloads) = follow(Path::new("f.yaml"), Arc::new(configured(ANY)));
    let (file, found) = SignOnFile::open(directory, Room::default())?;
    let in_force = reloads.in_force.clone();
    Ok((SignOnStore::begin(file, found, reloads.in_force), in_force))
}

fn jane(key: &str) -> SignOn {
    sign_on(&configured(ANY), key, "jane", "jane")
}

#[tokio::test]
async fn what_was_said_counts_over_restarts_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, in_force) = opened(dir.path()).unwrap();
    assert_eq!(by(&in_force.config(), OTHER), Err(Refusal::UnknownKey));
    store.bind(jane(OTHER), now()).await.unwrap();
    assert!(by(&in_force.config(), OTHER).is_ok());
    let path = dir.path().join(FILE);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    let (store, in_force) = opened(dir.path()).unwrap();
    assert!(by(&in_force.config(), OTHER).is_ok());
    assert_eq!(store.list(now()).await, [jane(OTHER)]);
    assert_eq!(store.list(later(60)).await, []);
    let none = store.remove(Whose::Identity(name("john"))).await;
    assert!(none.sign_ons.is_empty() && none.not_kept.is_none());
    let removed = store.remove(Whose::Key(fingerprint(OTHER))).await;
    assert_eq!(removed.sign_ons, [jane(OTHER)]);
    assert_eq!(by(&in_force.config(), OTHER), Err(Refusal::UnknownKey));
    let (_, in_force) = opened(dir.path()).unwrap();
    assert_eq!(by(&in_force.config(), OTHER), Err(Refusal::UnknownKey));
}

#[tokio::test]
async fn what_cannot_be_kept_does_not_count_and_what_is_removed_never_does() {
    let dir = tempfile::tempdir().unwrap();
    let (store, in_force) = opened(dir.path()).unwrap();
    let in_the_way = dir.path().join("sign-ons.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let refused = store.bind(jane(OTHER), now()).await;
    assert!(matches!(refused, Err(NotBound::File(_))), "{refused:?}");
    assert_eq!(by(&in_force.config(), OTHER), Err(Refusal::UnknownKey));
    std::fs::remove_dir(&in_the_way).unwrap();
    store.bind(jane(OTHER), now()).await.unwrap();
    std::fs::create_dir(&in_the_way).unwrap();
    let removed = store.remove(Whose::Identity(name("jane"))).await;
    let why = removed.not_kept.unwrap().to_string();
    assert!(
        why.contains("a restart of the daemon would bring it back"),
        "{why}"
    );
    assert_eq!(by(&in_force.config(), OTHER), Err(Refusal::UnknownKey));
}

#[tokio::test]
async fn one_identity_has_so_many_keys_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = opened(dir.path()).unwrap();
    for number in 0..20 {
        let one = SignOn {
            fingerprint: format!("SHA256:{number:02}"),
            since: later(number),
            until: later(1000),
            ..jane(OTHER)
        };
        store.bind(one, now()).await.unwrap();
    }
    let kept = store.list(now()).await;
    assert_eq!(kept.len(), 16);
    assert_eq!(kept[0].fingerprint, "SHA256:04", "the oldest have gone");
}

#[tokio::test]
async fn a_file_that_is_not_whole_or_not_ours_alone_is_an_error_and_never_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = opened(dir.path()).unwrap();
    store.bind(jane(OTHER), now()).await.unwrap();
    let path = dir.path().join(FILE);
    let whole = std::fs::read_to_string(&path).unwrap();
    for length in (0..whole.len() - 1).step_by(7) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = opened(dir.path()).unwrap_err().to_string();
        assert!(error.contains("are not whole"), "{length}: {error}");
    }
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("oidc/corp:sre", "ops"),
        ("oidc/corp:sre", "oidc/other:sre"),
        ("\"subject\"", "\"object\""),
    ] {
        assert!(whole.contains(from), "{whole}");
        std::fs::write(&path, whole.replace(from, to)).unwrap();
        assert!(opened(dir.path()).is_err(), "{to}");
    }
    std::fs::write(&path, &whole).unwrap();
    opened(dir.path()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o620);
    std::fs::set_permissions(&path, mode).unwrap();
    let error = opened(dir.path()).unwrap_err().to_string();
    assert!(error.contains("0620"), "{error}");
}
