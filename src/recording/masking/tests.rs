//! However secrets come by: the record holds none, the bytes are all accounted for, and what is no secret is untouched.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::mint::Credential;
use crate::session::SessionId;

/// As API servers write them: one header for all, then claims that begin alike, then a signature.
fn token(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |length: usize| -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            LETTERS[(state >> 58) as usize] as char
        };
        (0..length).map(|_| next()).collect()
    };
    let header = "eyJhbGciOiJSUzI1NiIsImtpZCI6IlhrN0ZyNlZ5Y2dQUUtJTWpVRUx3ZjFwOXJ0In0";
    let claims = "eyJhdWQiOlsiaHR0cHM6Ly9rdWJlcm5ldGVzLmRlZmF1bHQuc3ZjIl0sImV4cCI6";
    format!("{header}.{claims}{}.{}", random(120), random(342))
}

fn known(count: u64) -> Secrets {
    let secrets = Secrets::default();
    for number in 0..count {
        add(&secrets, number, &token(number));
    }
    secrets
}

fn add(secrets: &Secrets, number: u64, text: &str) {
    let now = Timestamp::UNIX_EPOCH;
    let session = SessionId::new(Timestamp::from_second(number as i64).unwrap());
    let credential = Arc::new(Credential::new(text.to_owned()));
    secrets.token(
        session,
        &credential,
        &format!("jti-{number}"),
        Timestamp::MAX,
        now,
    );
}

/// A record: what is in it, and what was masked where.
#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    masks: Vec<(usize, Option<String>)>,
    /// What the client had sent, with zeros where it is not known.
    accounted: Vec<u8>,
}

impl Record {
    fn put(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Plain(bytes) => {
                self.bytes.extend_from_slice(bytes);
                self.accounted.extend_from_slice(bytes);
            }
            Piece::Masked { length, shown, jti } => {
                if shown {
                    self.bytes.extend_from_slice(MASK.as_bytes());
                }
                self.accounted.resize(self.accounted.len() + length, 0);
                self.masks.push((length, jti.map(|jti| jti.to_string())));
            }
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// That nothing was lost, doubled or moved.
    fn accounts_for(&self, sent: &[u8]) {
        assert_eq!(self.accounted.len(), sent.len());
        for (at, (kept, sent)) in self.accounted.iter().zip(sent).enumerate() {
            assert!(*kept == 0 || kept == sent, "byte {at} of {}", self.text());
        }
    }

    fn holds_no_piece_of(&self, secret: &str) {
        for piece in secret.as_bytes().windows(KEPT + 1) {
            let found = self.bytes.windows(KEPT + 1).any(|window| window == piece);
            assert!(
                !found,
                "{:?} is in {}",
                std::str::from_utf8(piece),
                self.text()
            );
        }
    }
}

/// Feeds the chunks; after those for which `settle` says so there is silence. At the end there always is.
fn record(secrets: &Secrets, chunks: &[&[u8]], settle: impl Fn(usize) -> bool) -> Record {
    let (mut masking, mut record) = (Masking::default(), Record::default());
    for (number, chunk) in chunks.iter().enumerate() {
        let holding = masking.feed(&secrets.book(), chunk, |piece| record.put(piece));
        assert_eq!(holding, masking.is_holding());
        if settle(number) {
            masking.settle(&secrets.book(), |piece| record.put(piece));
            assert!(!masking.is_holding());
        }
    }
    masking.settle(&secrets.book(), |piece| record.put(piece));
    record
}

fn expected(token: &str) -> String {
    format!("before {}{MASK} after\n", &token[..KEPT])
}

#[test]
fn a_token_is_masked_at_every_split_in_two_and_in_three() {
    let secrets = known(20);
    let token = token(7);
    let sent = format!("before {token} after\n");
    let sent = sent.as_bytes();
    for first in 0..sent.len() {
        for second in [first, first + 1, first + 16, first + 17, first + 300] {
            let second = second.min(sent.len());
            let chunks = [&sent[..first], &sent[first..second], &sent[second..]];
            let one = record(&secrets, &chunks, |_| false);
            assert_eq!(one.text(), expected(&token), "{first} {second}");
            assert_eq!(one.masks, [(token.len() - KEPT, Some("jti-7".to_owned()))]);
            one.accounts_for(sent);
            // With silence in between there are more masks on record, and one to be seen.
            let two = record(&secrets, &chunks, |_| true);
            assert_eq!(two.text(), expected(&token), "{first} {second}");
            two.accounts_for(sent);
        }
    }
}

#[test]
fn a_token_is_masked_in_chunks_of_every_size() {
    let secrets = known(3);
    let token = token(2);
    let sent = format!("before {token} after\n");
    for size in 1..=sent.len() {
        let chunks: Vec<&[u8]> = sent.as_bytes().chunks(size).collect();
        for silence in [false, true] {
            let record = record(&secrets, &chunks, |_| silence);
            assert_eq!(record.text(), expected(&token), "{size}");
            record.accounts_for(sent.as_bytes());
        }
    }
}

#[test]
fn sixteen_bytes_pass_at_once_and_the_next_is_held() {
    let secrets = known(1);
    let token = token(0);
    let (mut masking, mut record) = (Masking::default(), Record::default());
    for byte in &token.as_bytes()[..KEPT] {
        assert!(!masking.feed(&secrets.book(), &[*byte], |piece| record.put(piece)));
    }
    assert_eq!(record.text(), &token[..KEPT]);
    assert!(masking.feed(
        &secrets.book(),
        &token.as_bytes()[KEPT..KEPT + 1],
        |piece| { record.put(piece) }
    ));
    assert_eq!(record.text(), &token[..KEPT]);
}

#[test]
fn what_only_begins_like_a_token_comes_out_byte_for_byte() {
    let secrets = known(50);
    let token = token(3);
    let signature = token.rfind('.').unwrap() + 1;
    for length in 0..=signature {
        for other in ["", "!", "\n", " \r", "\u{20ac}", "eyJh", "ba1."] {
            let sent = format!("x{}{other}; and so on", &token[..length]);
            for size in [1, 7, 100, sent.len()] {
                let chunks: Vec<&[u8]> = sent.as_bytes().chunks(size).collect();
                let record = record(&secrets, &chunks, |_| false);
                assert_eq!(record.bytes, sent.as_bytes(), "{length} {other:?} {size}");
            }
        }
    }
}

#[test]
fn most_of_a_signature_is_masked_like_all_of_it() {
    let secrets = known(2);
    let token = token(1);
    let signature = token.rfind('.').unwrap() + 1;
    for length in signature + 1..token.len() {
        let sent = format!("{}?", &token[..length]);
        let record = record(&secrets, &[sent.as_bytes()], |_| false);
        assert_eq!(record.text(), format!("{}{MASK}?", &token[..KEPT]));
        record.accounts_for(sent.as_bytes());
    }
}

#[test]
fn silence_records_a_mask_and_the_search_goes_on() {
    let secrets = known(2);
    let token = token(0);
    let sent = token.as_bytes();
    let record = record(
        &secrets,
        &[&sent[..40], &sent[40..200], &sent[200..]],
        |_| true,
    );
    assert_eq!(record.text(), format!("{}{MASK}", &token[..KEPT]));
    let lengths: Vec<usize> = record.masks.iter().map(|(length, _)| *length).collect();
    assert_eq!(lengths, [24, 160, sent.len() - 200]);
    // Of its first bytes nobody knows yet whose they are.
    assert_eq!(record.masks[0].1, None);
    assert_eq!(record.masks[2].1.as_deref(), Some("jti-0"));
}

#[test]
fn a_token_that_a_line_editor_breaks_into_lines_is_masked() {
    let secrets = known(5);
    let token = token(4);
    // As readline and zsh echo what is pasted: at the margin a blank or the next byte, and a return.
    for breaks in ["\r\n", " \r", "\n"] {
        let lines: Vec<&str> = (0..token.len())
            .step_by(80)
            .map(|at| &token[at..token.len().min(at + 80)])
            .collect();
        let sent = format!("$ {}\r\n$ ", lines.join(breaks));
        let record = record(&secrets, &[sent.as_bytes()], |_| false);
        record.holds_no_piece_of(&token);
        assert_eq!(record.text(), format!("$ {}{MASK}\r\n$ ", &token[..KEPT]));
        record.accounts_for(sent.as_bytes());
    }
    let mut sent = String::new();
    for (at, letter) in token.char_indices() {
        if at > 0 && at % 80 == 0 {
            sent.push(letter);
            sent.push('\r');
        }
        sent.push(letter);
    }
    let record = record(&secrets, &[sent.as_bytes()], |_| false);
    record.holds_no_piece_of(&token);
}

#[test]
fn what_is_taken_back_is_forgotten_and_what_comes_late_is_known() {
    let secrets = Secrets::default();
    let token = token(9);
    let sent = token.as_bytes();
    let plain = record(&secrets, &[sent], |_| false);
    assert_eq!(plain.bytes, sent);
    // Its first bytes came before it was given out.
    let (mut masking, mut late) = (Masking::default(), Record::default());
    add(&secrets, 8, &super::tests::token(8));
    masking.feed(&secrets.book(), &sent[..30], |piece| late.put(piece));
    add(&secrets, 9, &token);
    masking.feed(&secrets.book(), &sent[30..], |piece| late.put(piece));
    assert_eq!(late.text(), format!("{}{MASK}", &token[..KEPT]));
    let session = SessionId::new(Timestamp::UNIX_EPOCH);
    let credential = Arc::new(Credential::new(super::tests::token(1)));
    let soon = Timestamp::from_second(60).unwrap();
    secrets.token(session, &credential, "old", soon, Timestamp::UNIX_EPOCH);
    let renewed = Arc::new(Credential::new(super::tests::token(2)));
    secrets.token(session, &renewed, "new", Timestamp::MAX, soon);
    assert_eq!(
        secrets.count(),
        3,
        "an expired one is forgotten when it is renewed"
    );
    assert_eq!(Arc::strong_count(&credential), 1);
    secrets.forget(session);
    drop(secrets.book());
    assert_eq!((secrets.count(), Arc::strong_count(&renewed)), (2, 1));
}

#[test]
fn bearers_are_masked_and_a_new_generation_takes_the_place_of_the_old() {
    let secrets = known(3);
    let identity = crate::config::Name::new("operator-a").unwrap();
    let tag = "Zq3bH1t7nPz0Xw5sVc9dLmKj2yRe4uTg6oIaQfEhN8U";
    let bearer = |generation: u32| format!("ba1.operator-a.{generation}.{tag}");
    secrets.bearer(&identity, bearer(1));
    let masked = |text: &str| secrets.masked_text(text).into_owned();
    assert_eq!(
        masked(&format!("token: {}\n", bearer(1))),
        format!("token: ba1.operator-a.1{MASK}\n")
    );
    assert_eq!(
        masked("ba1.operator-a.1.nothing"),
        "ba1.operator-a.1.nothing"
    );
    secrets.bearer(&identity, bearer(2));
    assert_eq!(secrets.count(), 4);
    assert_eq!(masked(&bearer(1)), bearer(1));
    assert_eq!(masked(&bearer(2)), format!("ba1.operator-a.2{MASK}"));
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let secrets = known(2);
    let printed = format!("{secrets:?}");
    assert!(
        printed.contains('2') && !printed.contains("eyJ"),
        "{printed}"
    );
}

#[test]
fn a_secret_that_begins_another_is_masked_and_so_is_the_other() {
    let secrets = Secrets::default();
    let long = token(1);
    add(&secrets, 1, &long);
    add(&secrets, 2, &long[..100]);
    for chunk in [1, 50, 1000] {
        for sent in [format!("{long} "), format!("{}? ", &long[..100])] {
            let chunks: Vec<&[u8]> = sent.as_bytes().chunks(chunk).collect();
            let record = record(&secrets, &chunks, |_| false);
            record.holds_no_piece_of(&long[..sent.len() - 2]);
            record.accounts_for(sent.as_bytes());
        }
    }
}

/// Something to send: text, a token, or what only begins like one.
fn parts() -> impl Strategy<Value = Vec<String>> {
    let part = prop_oneof![
        3 => "[ -~\n]{0,40}",
        2 => (0_u64..6).prop_map(token),
        1 => (0_usize..130).prop_map(|length| format!("{}~", &token(1)[..length])),
        1 => Just("eyJheyJhbGciOiJSUzI1".to_owned()),
    ];
    proptest::collection::vec(part, 0..6)
}

proptest! {
    #[test]
    fn no_split_and_no_silence_lets_a_piece_of_a_secret_through(
        parts in parts(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        silences in proptest::collection::vec(any::<bool>(), 13),
    ) {
        let secrets = known(6);
        let sent = parts.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len() + 1)).collect();
        cuts.extend([0, sent.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts
            .windows(2)
            .map(|pair| &sent.as_bytes()[pair[0]..pair[1]])
            .collect();
        let record = record(&secrets, &chunks, |chunk| silences[chunk]);
        record.accounts_for(sent.as_bytes());
        for number in 0..6 {
            // What is theirs alone: the rest is in the near misses too.
            record.holds_no_piece_of(&token(number)[130..]);
        }
        if !parts.iter().any(|part| part.starts_with("eyJ") && part.len() < 200) {
            for number in 0..6 {
                record.holds_no_piece_of(&token(number));
            }
        }
        // Without silence, what is no secret is all there.
        let whole = super::tests::record(&secrets, &chunks, |_| false);
        let tokens = parts.iter().filter(|part| part.len() > 200).count();
        let masked: usize = whole.masks.iter().map(|(length, _)| length).sum();
        prop_assert_eq!(masked, tokens * (token(0).len() - KEPT));
    }
}
