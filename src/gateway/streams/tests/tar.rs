//! Tar streams, made by the crate and by hand.

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use crate::gateway::streams::tar::TarWatch;
use crate::recording::requests::{CopiedFile, Direction};

/// Of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What is seen in pieces of a stream, and whether it was lost.
fn seen(bytes: &[u8], piece: usize) -> (Vec<CopiedFile>, bool) {
    let mut watch = TarWatch::new(Direction::ToPod);
    let mut files = Vec::new();
    for piece in bytes.chunks(piece) {
        watch.feed(piece, &mut files);
    }
    let lost = watch.finish(&mut files);
    (files, lost)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let (files, lost) = seen(bytes, bytes.len().max(1));
    assert!(!lost);
    files.into_iter().map(|file| file.name).collect()
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().unwrap()
}

fn file(builder: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = header(EntryType::Regular, content.len() as u64);
    builder.append_data(&mut header, name, content).unwrap();
}

#[test]
fn files_are_seen_by_name_size_and_digest_however_the_stream_is_cut() {
    let long = format!("deep/{}/file", "d".repeat(200));
    let bytes = archive(|builder| {
        file(builder, "one", b"hello");
        let mut directory = header(EntryType::Directory, 0);
        builder
            .append_data(&mut directory, "dir/", &[][..])
            .unwrap();
        file(builder, "dir/empty", b"");
        file(builder, &long, &[b'x'; 1000]);
    });
    let (whole, lost) = seen(&bytes, bytes.len());
    assert!(!lost);
    let all: Vec<_> = whole
        .iter()
        .map(|file| (file.name.as_str(), file.bytes, file.sha256.as_deref()))
        .collect();
    let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let xs = whole[3].sha256.as_deref();
    assert_eq!(
        all,
        [
            ("one", 5, Some(hello)),
            ("dir/", 0, None),
            ("dir/empty", 0, Some(EMPTY)),
            (long.as_str(), 1000, xs),
        ]
    );
    assert!(xs.is_some_and(|digest| digest.len() == 64));
    for piece in [1, 7, 511, 512, 513] {
        assert_eq!(seen(&bytes, piece), (whole.clone(), false), "{piece}");
    }
}

#[test]
fn a_file_that_did_not_come_whole_has_no_digest() {
    let bytes = archive(|builder| file(builder, "one", &[b'x'; 5000]));
    let (files, lost) = seen(&bytes[..2000], 512);
    assert_eq!((files.len(), lost), (1, false));
    assert_eq!((files[0].bytes, &files[0].sha256), (5000, &None));
}

#[test]
fn what_is_no_tar_stream_is_nothing_to_see() {
    for bytes in [&b"hello"[..], &[b'x'; 4096], &[0; 4096]] {
        assert_eq!(seen(bytes, 100), (Vec::new(), false));
    }
}

/// Where a stream turns into what cannot be read, that is said: what follows may hold files.
#[test]
fn a_tar_stream_that_goes_wrong_is_lost_and_says_so() {
    let good = archive(|builder| file(builder, "one", b"hello"));
    let one = &good[..1024];
    let mut sum = header(EntryType::Regular, 0);
    sum.set_cksum();
    let mut wrong_sum = *sum.as_bytes();
    wrong_sum[0] = b'x';
    let mut sparse = Header::new_gnu();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_size(5);
    sparse.set_cksum();
    let mut directory = header(EntryType::Directory, 512);
    directory.set_cksum();
    let mut extended = header(EntryType::XHeader, 1 << 20);
    extended.set_cksum();
    for bad in [
        &[b'x'; 512][..],
        &wrong_sum,
        sparse.as_bytes(),
        directory.as_bytes(),
        extended.as_bytes(),
    ] {
        let (files, lost) = seen(&[one, bad, &[b'y'; 2048]].concat(), 300);
        assert_eq!((files.len(), lost), (1, true));
    }
}

/// Extended headers name the next file; a length that they give wins, as tar itself has it.
#[test]
fn extended_headers_are_read_as_tar_reads_them() {
    let pax = |records: &str| {
        let mut head = header(EntryType::XHeader, records.len() as u64);
        head.set_cksum();
        let mut block = records.as_bytes().to_vec();
        block.resize(512, 0);
        [&head.as_bytes()[..], &block].concat()
    };
    let plain = |size| {
        let mut head = header(EntryType::Regular, size);
        head.set_path("short").unwrap();
        head.set_cksum();
        head.as_bytes().to_vec()
    };
    let content = {
        let mut block = b"hello".to_vec();
        block.resize(512, 0);
        block
    };
    let named = [pax("16 path=name/é\n"), plain(5), content.clone()].concat();
    assert_eq!(names(&named), ["name/é"]);
    let sized = [pax("9 size=5\n"), plain(0), content.clone(), plain(0)].concat();
    let (files, lost) = seen(&sized, 512);
    assert_eq!((files.len(), lost, files[0].bytes), (2, false, 5));
    for lie in ["9 size=x\n", "99 path=a\n", "22 GNU.sparse.major=1\n"] {
        let stream = [pax(lie), plain(5), content.clone()].concat();
        assert_eq!(seen(&stream, 512), (Vec::new(), true), "{lie}");
    }
}

#[test]
fn a_name_on_record_is_bounded() {
    let long = "é/".repeat(2000);
    let bytes = archive(|builder| file(builder, &long, b""));
    let name = names(&bytes).remove(0);
    assert!(
        name.len() < 1100 && name.ends_with('…'),
        "{} bytes",
        name.len()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        begin in any::<bool>(),
        piece in 1..700_usize,
    ) {
        if begin {
            bytes.splice(..0, archive(|builder| file(builder, "one", b"hello"))[..1024].iter().copied());
        }
        prop_assert_eq!(seen(&bytes, piece), seen(&bytes, bytes.len().max(1)));
    }
}
