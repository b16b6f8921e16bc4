//! Text as the inside of a JSON string, fast.

/// Appends `text` escaped, unless that takes more than `limit` bytes: then `out` is left as it was.
pub(super) fn escape(text: &str, out: &mut Vec<u8>, limit: usize) -> bool {
    let start = out.len();
    let mut rest = text.as_bytes();
    loop {
        let plain = plain_prefix(rest);
        let (run, after) = rest.split_at(plain.min(rest.len()));
        out.extend_from_slice(run);
        let Some((&special, after)) = after.split_first() else {
            break;
        };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                b'0' + (control >> 4),
                HEX.get(usize::from(control & 0x0f))
                    .copied()
                    .unwrap_or(b'0'),
            ]),
        }
        rest = after;
        let written = out.len().saturating_sub(start);
        let read = text.len().saturating_sub(rest.len());
        if written > limit.min(read.saturating_mul(2).saturating_add(EARLY)) && limit != usize::MAX
        {
            out.truncate(start);
            return false;
        }
    }
    let fits = out.len().saturating_sub(start) <= limit;
    if !fits {
        out.truncate(start);
    }
    fits
}

/// So much more than twice its length, and a limit is taken as crossed at once: zeros need not be escaped by the
/// thousand to know what they are.
const EARLY: usize = 4096;

const HEX: [u8; 16] = *b"0123456789abcdef";

/// How many bytes at the start need no escape. Eight at a time: a terminal's lines are too short for more to pay.
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut done = 0;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or([0; 8]));
        let found = specials(word);
        if found != 0 {
            return done + (found.trailing_zeros() / 8) as usize;
        }
        done += 8;
    }
    let tail = words.remainder();
    done + tail
        .iter()
        .position(|&byte| is_special(byte))
        .unwrap_or(tail.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The high bit of each byte of `word` that needs an escape. Bytes above the first one found may be marked
/// wrongly (a borrow runs upwards), the first one is always right.
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    (control | quote | backslash) & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        assert!(escape(text, &mut out, usize::MAX));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_character_is_read_back_by_another_json_parser() {
        for code in 0..=0x2fff_u32 {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            for pad in 0..9 {
                let text = format!("{}{character}{character}z", "x".repeat(pad));
                let json = format!("\"{}\"", escaped(&text));
                assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
                assert!(!json.contains('\n'));
            }
        }
    }

    #[test]
    fn over_the_limit_nothing_is_written() {
        let mut out = b"before".to_vec();
        assert!(!escape("\0\0\0", &mut out, 17));
        assert_eq!(out, b"before");
        assert!(escape("\0\0\0", &mut out, 18));
        assert!(!escape("abc", &mut out, 2));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in any::<String>()) {
            let json = format!("\"{}\"", escaped(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
