//! Whatever step is the last one: what was acknowledged is there, and nobody is accused.

use super::*;

/// Appends some leaves on a disk that breaks after so many steps; answers with those that were acknowledged.
async fn until_it_breaks(directory: &Path, signing: &Signing, steps: i64) -> (Vec<u64>, bool) {
    let fuse = Arc::new(fuse::Fuse::new(steps));
    let disk = Disk {
        fuse: Some(Arc::clone(&fuse)),
        ..Disk::default()
    };
    let mut acknowledged = Vec::new();
    if let Ok(log) = open_on(directory, signing, disk) {
        // Groups, so that bundles fill in the midst of one.
        for group in [0..1, 1..3, 3..250, 250..260, 260..520, 520..521] {
            let appends = group
                .map(|n| (n, &log))
                .map(|(n, log)| async move { (n, log.append(leaf(n)).await) });
            for (n, result) in futures_util::future::join_all(appends).await {
                if result.is_ok() {
                    acknowledged.push(n);
                }
            }
        }
        log.close().await;
    }
    (acknowledged, fuse.blown())
}

#[tokio::test]
async fn a_crash_at_any_step_loses_nothing_that_was_acknowledged() {
    let signing = crate::signing::testing::signing();
    let mut steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let (acknowledged, broke) = until_it_breaks(dir.path(), &signing, steps).await;
        // Before the next start, too, nothing in it is a lie.
        if dir.path().join("tail").exists() {
            match read(dir.path(), &signing) {
                Ok(_) | Err(LogError::NoHead { .. }) => {}
                Err(error) => panic!("after {steps} steps: {error}"),
            }
        }
        let log = open(dir.path(), &signing).unwrap_or_else(|error| panic!("{steps}: {error}"));
        log.append(leaf(9_999)).await.unwrap();
        log.close().await;
        let (reader, found) = read(dir.path(), &signing).unwrap();
        for n in &acknowledged {
            assert!(found.contains(n), "leaf {n} is gone after {steps} steps");
        }
        let mut once = found.clone();
        once.dedup();
        assert_eq!(once, found, "a leaf twice after {steps} steps");
        assert_eq!(reader.head().size(), reader.size());
        assert_eq!(reader.unreadable(), 0);
        if !broke {
            assert_eq!(acknowledged.len(), 521);
            break;
        }
        steps += 1;
    }
    assert!(steps > 40, "only {steps} steps");
}

#[tokio::test]
async fn what_a_power_cut_leaves_after_the_last_sync_is_cut_off_and_taken_in() {
    let signing = crate::signing::testing::signing();
    let dir = tempfile::tempdir().unwrap();
    log_of(&dir.path().join("log"), &signing, 4).await;
    let tail = dir.path().join("log/tail");
    let whole = std::fs::read(&tail).unwrap();
    let unsigned = leaf(4).to_bytes().unwrap();
    let nul = [0; 700];
    let half = &unsigned[..40];
    let line = [&unsigned[..], b"\n"].concat();
    for (rest, leaves) in [
        (half, 4),
        (&nul[..], 4),
        (&line[..], 5),
        (&[&line[..], half].concat()[..], 5),
        (&[&nul[..], b"\n", &line[..]].concat()[..], 4),
        (&b"\"half a head"[..], 4),
    ] {
        std::fs::write(&tail, [&whole[..], rest].concat()).unwrap();
        let log = open(&dir.path().join("log"), &signing).unwrap();
        assert_eq!(log.checkpoint().size(), leaves);
        log.close().await;
        let (reader, _) = read(&dir.path().join("log"), &signing).unwrap();
        assert_eq!((reader.size(), reader.unreadable()), (leaves, 0));
        // For the next one.
        std::fs::remove_file(dir.path().join("log/checkpoint")).unwrap();
        std::fs::remove_dir_all(dir.path().join("log/tile")).unwrap();
    }
}

/// What nobody acknowledged may be lost; a disk that is full for a while is not the end.
#[tokio::test]
async fn a_write_that_fails_is_an_error_and_the_next_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    let fuse = Arc::new(fuse::Fuse::new(1 << 40));
    let disk = Disk {
        fuse: Some(Arc::clone(&fuse)),
        ..Disk::default()
    };
    let log = open_on(dir.path(), &signing, disk).unwrap();
    log.append(leaf(0)).await.unwrap();
    fuse.set(0);
    let error = log.append(leaf(1)).await.unwrap_err();
    assert!(matches!(error, LogError::Io { .. }), "{error}");
    fuse.set(1 << 40);
    log.append(leaf(2)).await.unwrap();
    log.close().await;
    let (_, found) = read(dir.path(), &signing).unwrap();
    assert_eq!(found, [0, 2]);
}
