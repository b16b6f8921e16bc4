//! Keys, notes, and signers that lie.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::serve::{SignerSocket, notes};
use super::testing::{name, signer, signing};
use super::*;
use crate::config::Name;

fn instance() -> Name {
    Name::new("main").unwrap()
}

fn open(state: &Path, source: &KeySource) -> Result<Signing, SigningError> {
    Signing::open(state, &instance(), source, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_public_key_is_read_as_it_is_written_and_in_no_other_way() {
    let text = KeyText::generate(&name()).unwrap();
    let vkey = text.public().vkey();
    assert_eq!(&PublicKey::parse(&vkey).unwrap(), text.public());
    // What the reference implementation makes of it.
    assert!(signed_note::StandardVerifier::new(&vkey).is_ok());
    assert!(signed_note::StandardSigner::new(text.private().trim_end()).is_ok());
    for at in 0..vkey.len() {
        let mut other = vkey.clone().into_bytes();
        other[at] ^= 1;
        if let Ok(other) = String::from_utf8(other) {
            assert!(PublicKey::parse(&other).is_err(), "{other}");
        }
    }
    assert!(!format!("{text:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_note_is_signed_if_it_is_one_of_ours() {
    let signing = signing();
    let first = signing.first_line(NoteKind::Recording);
    let note = signing.sign(format!("{first}\none\n")).await.unwrap();
    assert_eq!(note.text(), "bastion-audit/main/recording\none\n");
    assert_eq!(note.kind(), Some(NoteKind::Recording));
    let again = SignedNote::verify(note.as_str().as_bytes(), signing.keys()).unwrap();
    assert_eq!((&again, again.digest()), (&note, note.digest()));
    for wrong in [
        "bastion-audit/other\n1\n",
        "bastion-audit/main/tls\n1\n",
        "",
        "\n",
    ] {
        let error = signing.sign(wrong.to_owned()).await.unwrap_err();
        assert!(
            matches!(error, SigningError::NotOurs(_) | SigningError::NotAText),
            "{error}"
        );
    }
    for wrong in ["one", "one\n\n", "o\u{7}ne\n"] {
        let error = signing.sign(format!("{first}\n{wrong}")).await.unwrap_err();
        assert!(matches!(error, SigningError::NotAText), "{error}");
    }
}

#[test]
fn no_byte_of_a_note_can_be_another() {
    let signing = signing();
    let note = signing
        .sign_blocking("bastion-audit/main/audit\n17\n")
        .unwrap();
    let other = super::testing::signing();
    let error = SignedNote::verify(note.as_str().as_bytes(), other.keys()).unwrap_err();
    assert!(matches!(error, SigningError::Unknown { .. }), "{error}");
    for at in 0..note.as_str().len() {
        for bit in 0..8 {
            let mut bytes = note.as_str().as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            assert!(SignedNote::verify(&bytes, signing.keys()).is_err(), "{at}");
        }
    }
}

#[test]
fn the_first_start_makes_a_key_and_no_other_one_replaces_it() {
    let state = tempfile::tempdir().unwrap();
    let first = open(state.path(), &KeySource::Own).unwrap();
    let again = open(state.path(), &KeySource::Own).unwrap();
    assert_eq!(first.key(), again.key());
    let key = state.path().join("signing/key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(create_key(&key, &name()).is_err(), "it is there");
    assert_eq!(
        open(state.path(), &KeySource::Own).unwrap().key(),
        first.key()
    );

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = open(state.path(), &KeySource::Own).unwrap_err();
    assert!(error.to_string().contains("chmod o="), "{error}");
    std::fs::remove_file(&key).unwrap();
    let error = open(state.path(), &KeySource::Own).unwrap_err();
    assert!(matches!(error, SigningError::Lost { .. }), "{error}");
}

#[test]
fn every_key_that_was_used_is_remembered() {
    let state = tempfile::tempdir().unwrap();
    let own = open(state.path(), &KeySource::Own).unwrap();
    drop(signer(state.path(), "new"));
    let file = |key: &str| KeySource::File {
        key: state.path().join(key),
        previous: None,
    };
    let new = open(state.path(), &file("new")).unwrap();
    let known = History::read(state.path()).unwrap();
    let keys: Vec<_> = known.known().iter().map(|known| &known.key).collect();
    assert_eq!(keys, [own.key(), new.key()]);
    let old_note = own.sign_blocking("bastion-audit/main/audit\n1\n").unwrap();
    SignedNote::verify(old_note.as_str().as_bytes(), new.keys()).unwrap();

    // A line that was never finished; a line that somebody changed.
    let path = state.path().join("signing/keys");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}1970-01-01T0")).unwrap();
    open(state.path(), &KeySource::Own).unwrap();
    assert_eq!(History::read(state.path()).unwrap().known().len(), 3);
    std::fs::write(&path, whole.replacen("+", "-", 1)).unwrap();
    let error = open(state.path(), &KeySource::Own).unwrap_err();
    assert!(
        matches!(error, SigningError::History { line: 1, .. }),
        "{error}"
    );
}

#[test]
fn another_instances_key_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let key = state.path().join("key");
    create_key(&key, &KeyName::of(&Name::new("other").unwrap())).unwrap();
    let source = KeySource::File {
        key,
        previous: None,
    };
    let error = open(state.path(), &source).unwrap_err();
    assert!(matches!(error, SigningError::OfAnother { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_signs_notes_of_its_own_name_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signer.sock");
    let by = signer(dir.path(), "key");
    let key = by.public_key().clone();
    let server = SignerSocket::bind(&path, notes(by), None).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let serving = tokio::spawn(server.serve());
    let client = Arc::new(SocketSigner::new(path.clone(), key.clone()));
    let signing = Signing::new(Arc::clone(&client) as Arc<dyn Signer>).unwrap();
    for _ in 0..3 {
        let text = "bastion-audit/main\n1\n".to_owned();
        assert_eq!(
            signing.sign(text).await.unwrap().by(),
            std::slice::from_ref(&key)
        );
    }
    let refused = tokio::task::spawn_blocking(move || {
        ["SSH-2.0-whatever\n", "bastion-audit/other\n1\n", "no end"]
            .map(|text| client.sign(text.as_bytes()))
    });
    for result in refused.await.unwrap() {
        let error = result.unwrap_err();
        assert!(matches!(error, SigningError::Refused { .. }), "{error}");
    }
    // It comes back, and so does the daemon.
    serving.abort();
    drop(serving.await);
    let text = || "bastion-audit/main\n1\n".to_owned();
    let mut last = signing.sign(text()).await;
    while last.is_ok() {
        // Its connections end soon after it.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        last = signing.sign(text()).await;
    }
    let error = last.unwrap_err();
    assert!(matches!(error, SigningError::Gone { .. }), "{error}");
    let again = FileSigner::open(&dir.path().join("key")).unwrap();
    let again = SignerSocket::bind(&path, notes(again), None).unwrap();
    tokio::spawn(again.serve());
    signing.sign(text()).await.unwrap();
}

/// A signer that answers each connection with these bytes, once it has been asked.
fn hostile(path: &Path, answer: Vec<u8>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 64];
            drop(stream.read(&mut request));
            drop(stream.write_all(&answer));
            if answer.is_empty() {
                // Says nothing, for longer than anybody waits.
                std::thread::sleep(std::time::Duration::from_secs(20));
            }
        }
    });
}

#[test]
fn a_signer_that_lies_or_says_nothing_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let key = signer(dir.path(), "key").public_key().clone();
    let other = signer(dir.path(), "other");
    let text = "bastion-audit/main\n1\n";
    let by_other = [&[0][..], &other.sign(text.as_bytes()).unwrap()].concat();
    let long = [&[1, 255, 255][..], &[b'x'; 1000]].concat();
    let dirty = [&[1, 0, 3][..], b"\x1b[2"].concat();
    for (at, answer, why) in [
        (0, by_other, "no signature of that key"),
        (1, vec![0; 65], "no signature of that key"),
        (2, vec![7; 65], "no signature of that key"),
        (3, long, "no signature of that key"),
        (4, vec![0; 10], "does not answer"),
        (5, dirty, "refuses: ?[2"),
        (6, Vec::new(), "slow or hangs"),
    ] {
        let path = dir.path().join(format!("{at}.sock"));
        hostile(&path, answer);
        let signing = Signing::new(Arc::new(SocketSigner::new(path, key.clone()))).unwrap();
        let error = signing.sign_blocking(text).unwrap_err().to_string();
        assert!(error.contains(why), "{at}: {error}");
    }
}
