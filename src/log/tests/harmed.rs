//! Logs that somebody has laid a hand on.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Every file of a log, below its directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut look = vec![directory.to_owned()];
    while let Some(directory) = look.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn with_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

#[derive(Clone, Debug)]
enum Harm {
    /// One bit of one file.
    Flip(Index, Index, u8),
    /// The end of one file.
    Cut(Index, Index),
    /// A whole file.
    Remove(Index),
    /// Two lines of the tail change places.
    Swap(Index, Index),
    /// A line of the tail is there twice.
    Double(Index),
    /// A line of the tail is not there.
    Drop(Index),
}

fn harms() -> impl Strategy<Value = Harm> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), index(), 0..8_u8).prop_map(|(file, at, bit)| Harm::Flip(file, at, bit)),
        2 => (index(), index()).prop_map(|(file, at)| Harm::Cut(file, at)),
        1 => index().prop_map(Harm::Remove),
        1 => (index(), index()).prop_map(|(a, b)| Harm::Swap(a, b)),
        1 => index().prop_map(Harm::Double),
        1 => index().prop_map(Harm::Drop),
    ]
}

/// Whether anything was changed by it that counts: partial tiles can be made again at any time.
fn harm(directory: &Path, harm: &Harm) -> bool {
    let files = files(directory);
    let tail = directory.join("tail");
    let derived = |path: &Path| path.to_str().unwrap().contains(".p/");
    let lines = |change: &dyn Fn(&mut Vec<Vec<u8>>) -> bool| {
        let text = std::fs::read(&tail).unwrap();
        let mut lines: Vec<Vec<u8>> = text
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let changed = change(&mut lines);
        std::fs::write(&tail, lines.concat()).unwrap();
        changed
    };
    match harm {
        Harm::Flip(file, at, bit) => {
            let file = file.get(&files);
            let mut bytes = std::fs::read(file).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            std::fs::write(file, bytes).unwrap();
            true
        }
        Harm::Cut(file, at) => {
            let file = file.get(&files);
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..at.index(bytes.len())]).unwrap();
            true
        }
        Harm::Remove(file) => {
            let file = file.get(&files);
            std::fs::remove_file(file).unwrap();
            !derived(file)
        }
        Harm::Swap(a, b) => lines(&|lines| {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
            lines[a] != lines[b]
        }),
        Harm::Double(at) => lines(&|lines| {
            let at = at.index(lines.len());
            let line = lines[at].clone();
            // A head twice says nothing new.
            let says = !line.starts_with(b"\"");
            lines.insert(at, line);
            says
        }),
        Harm::Drop(at) => lines(&|lines| {
            let line = lines.remove(at.index(lines.len()));
            !line.starts_with(b"\"")
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// With a checkpoint that is kept elsewhere, every change is found, and an honest log is not accused.
    #[test]
    fn every_harm_is_found(leaves in prop_oneof![1..5_u64, 250..300_u64, 512..530_u64], which in harms()) {
        let dir = tempfile::tempdir().unwrap();
        let signing = crate::signing::testing::signing();
        let witness = with_runtime(log_of(dir.path(), &signing, leaves));
        let note = witness.note().as_str().as_bytes();
        let (honest, found) = read(dir.path(), &signing).unwrap();
        prop_assert_eq!(honest.unreadable(), 0);
        prop_assert_eq!(found, (0..leaves).collect::<Vec<_>>());
        honest.check_witness(note).unwrap();

        let counts = harm(dir.path(), &which);
        let caught = match read(dir.path(), &signing) {
            Err(_) => true,
            Ok((reader, _)) => reader.unreadable() > 0 || reader.check_witness(note).is_err(),
        };
        // The published checkpoint covers the same as the tail's last head: the one or the other may go unmissed.
        let tail_or_checkpoint = matches!(&which, Harm::Remove(_) | Harm::Cut(..));
        if counts && !tail_or_checkpoint {
            prop_assert!(caught, "{:?} was not found", which);
        } else if !caught {
            let (_, found) = read(dir.path(), &signing).unwrap();
            prop_assert_eq!(found, (0..leaves).collect::<Vec<_>>(), "{:?}", which);
        }
    }
}

#[tokio::test]
async fn covered_leaves_that_are_gone_stop_the_start_and_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    log_of(dir.path(), &signing, 10).await;
    let tail = dir.path().join("tail");
    let text = std::fs::read_to_string(&tail).unwrap();
    let short: Vec<&str> = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with('"'))
        .take(6)
        .collect();
    std::fs::write(&tail, short.concat()).unwrap();
    let error = open(dir.path(), &signing).unwrap_err();
    let LogError::Gone { size, held, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*size, *held), (10, 5));
    let message = error.to_string();
    assert!(message.contains("leaves 5 to 9"), "{message}");
    assert!(message.contains("move it aside"), "{message}");
    // Nothing was mended on the way.
    assert_eq!(std::fs::read_to_string(&tail).unwrap(), short.concat());
}

#[tokio::test]
async fn a_missing_bundle_or_tail_is_named_and_never_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let signing = crate::signing::testing::signing();
    log_of(dir.path(), &signing, 600).await;
    for (file, leaves) in [
        ("tile/entries/001", "leaves 256 to 511"),
        ("tile/0/000", "leaves 0 to 255"),
        ("tail", "leaves 512 to 599"),
    ] {
        let path = dir.path().join(file);
        let aside = dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        for error in [
            open(dir.path(), &signing).unwrap_err(),
            read(dir.path(), &signing).unwrap_err(),
        ] {
            let message = error.to_string();
            assert!(message.contains(file), "{message}");
            assert!(message.contains(leaves), "{message}");
        }
        std::fs::rename(&aside, &path).unwrap();
    }
    read(dir.path(), &signing).unwrap();
}
