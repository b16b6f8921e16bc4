//! What is kept back, given up and kept back again; with a file system of its own in tests/it/full_disk.rs.

use std::io;

use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

fn full() -> io::Error {
    Errno::NOSPC.into()
}

fn files(state: &TempDir) -> usize {
    std::fs::read_dir(state.path().join("reserve")).map_or(0, |entries| entries.count())
}

#[test]
fn what_found_no_room_is_done_again_with_a_part_of_the_reserve() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    room.keep(MIB);
    assert_eq!((room.reserved(), files(&state)), (MIB, 64));
    assert_eq!(room.trouble(), None);

    let mut tries = 0;
    let done = room.with_room("a test", || {
        tries += 1;
        if tries < 3 { Err(full()) } else { Ok(tries) }
    });
    assert_eq!(done.unwrap(), 3);
    assert_eq!((room.reserved(), files(&state)), (48 << 14, 48));
    assert_eq!(room.trouble(), Some(Trouble::NoSpace));
    // Another one finds out: that is no news.
    room.note_error("a test", &full());
    assert_eq!(room.failures(), 1);

    // There is room on this disk, so it is over at once.
    assert_eq!(room.keep(MIB), Some(Trouble::NoSpace));
    assert_eq!((room.reserved(), files(&state)), (MIB, 64));
    assert_eq!(room.trouble(), None);
    assert_eq!(room.keep(MIB), None, "nothing has ended since");
}

#[test]
fn with_nothing_left_to_give_up_it_fails() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    room.keep(MIB);
    let mut tries = 0;
    let failed = room.with_room("a test", || {
        tries += 1;
        // The last portion is for last words.
        assert_eq!(room.is_spent(), tries >= 8, "{tries}");
        Err::<(), _>(full())
    });
    assert_eq!(failed.unwrap_err().raw_os_error(), full().raw_os_error());
    assert_eq!((tries, room.reserved(), files(&state)), (9, 0, 0));
}

#[test]
fn a_reserve_that_somebody_took_is_none_and_is_made_anew() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    room.keep(MIB);
    for number in 0..63 {
        std::fs::remove_file(state.path().join("reserve").join(number.to_string())).unwrap();
    }
    let mut tries = 0;
    let failed = room.with_room("a test", || {
        tries += 1;
        Err::<(), _>(full())
    });
    assert!(failed.is_err());
    assert_eq!((tries, room.reserved()), (2, 0), "one file was there");
    assert_eq!(room.keep(MIB), Some(Trouble::NoSpace));
    assert_eq!((room.reserved(), files(&state)), (MIB, 64));
}

#[test]
fn other_failures_take_nothing_of_the_reserve() {
    for (errno, trouble) in [
        (Errno::NOENT, None),
        (Errno::ROFS, Some(Trouble::ReadOnly)),
        (Errno::IO, Some(Trouble::Broken)),
    ] {
        let state = TempDir::new().unwrap();
        let room = Room::new(state.path());
        room.keep(MIB);
        let mut tries = 0;
        let failed = room.with_room("a test", || {
            tries += 1;
            Err::<(), _>(io::Error::from(errno))
        });
        assert!(failed.is_err());
        assert_eq!((tries, room.trouble()), (1, trouble), "{errno}");
        assert_eq!(room.reserved(), MIB);
        let sorted = StoreError::io("a test", io::Error::from(errno));
        assert_eq!(Trouble::of_store(&sorted), trouble);
    }
}

#[test]
fn errors_of_the_disk_are_over_when_a_few_looks_in_a_row_find_none() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    room.keep(MIB);
    room.note_error("a test", &Errno::IO.into());
    assert_eq!((room.keep(MIB), room.keep(MIB)), (None, None));
    assert_eq!(room.trouble(), Some(Trouble::Broken));
    assert_eq!(room.keep(MIB), Some(Trouble::Broken));
    assert_eq!(room.trouble(), None);
}

#[test]
fn what_is_worse_than_a_full_disk_is_one_failure_with_it() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    for (errno, trouble) in [
        (Errno::NOSPC, Trouble::NoSpace),
        (Errno::ROFS, Trouble::ReadOnly),
        (Errno::IO, Trouble::ReadOnly),
        (Errno::NOSPC, Trouble::ReadOnly),
    ] {
        room.note_error("a test", &errno.into());
        assert_eq!(room.trouble(), Some(trouble), "{errno}");
    }
    assert_eq!(room.failures(), 1);
}

#[test]
fn who_must_do_without_the_reserve_takes_nothing_of_it() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    room.keep(MIB);
    let failed = room.without_reserve("a test", || Err::<(), _>(full()));
    assert!(failed.is_err());
    assert_eq!(
        (room.reserved(), room.trouble()),
        (MIB, Some(Trouble::NoSpace))
    );
    // Nor of what was given up for others.
    let failed = room.without_reserve("a test", || Ok(()));
    assert!(failed.is_err());
    room.keep(MIB);
    assert!(room.without_reserve("a test", || Ok(())).is_ok());
}

#[test]
fn a_reserve_outlives_the_daemon_and_follows_its_configuration() {
    let state = TempDir::new().unwrap();
    Room::new(state.path()).keep(MIB);
    let room = Room::new(state.path());
    room.keep(2 * MIB);
    assert_eq!((room.reserved(), files(&state)), (2 * MIB, 64));
    assert!(
        Room::new(state.path())
            .with_room("a test", || Err::<(), _>(full()))
            .is_err()
    );
    assert_eq!(files(&state), 0);
}

#[test]
fn files_on_another_disk_get_none_of_it() {
    let state = TempDir::new().unwrap();
    let room = Room::new(state.path());
    room.keep(MIB);
    let here = room.for_files_at(&state.path().join("not-yet/audit.jsonl"));
    assert_eq!(here.reserved(), MIB);
    assert_eq!(room.for_files_at(Path::new("/dev/full")).reserved(), 0);
}

#[test]
fn a_room_that_is_none_watches_nothing() {
    let room = Room::default();
    assert!(room.with_room("a test", || Err::<(), _>(full())).is_err());
    assert_eq!((room.trouble(), room.keep(1)), (None, None));
}
