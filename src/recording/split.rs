//! Where text begins and ends in a run of bytes.

/// The longest beginning of a character: a fourth byte completes any.
pub(super) const MAX_PARTIAL: usize = 3;

/// How many bytes at the end are the beginning of a character whose rest is yet to come: 0 to 3.
pub(super) fn partial_at_end(bytes: &[u8]) -> usize {
    for length in 1..=MAX_PARTIAL.min(bytes.len()) {
        let end = bytes.get(bytes.len() - length..).unwrap_or(&[]);
        match std::str::from_utf8(end) {
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => return length,
            _ => {}
        }
    }
    0
}

/// How many bytes at the start can only be the rest of an earlier character: 0 to 3.
pub(super) fn rest_at_start(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take(MAX_PARTIAL)
        .take_while(|byte| is_continuation(**byte))
        .count()
}

/// A piece of a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// Cuts bytes into text and what is none, in order and without loss. Between two stretches of bad bytes, text
/// shorter than this is not worth an event of its own.
const WORTHWHILE: usize = 128;

/// The first stretch of binary; each one that follows without text in between is twice as long, so that a stray
/// byte hides little text, and a binary file takes few events.
const FIRST_BINARY: usize = 256;

pub(super) struct Pieces<'a> {
    rest: &'a [u8],
    binary: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            binary: FIRST_BINARY,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let valid = match std::str::from_utf8(self.rest) {
            Ok(text) => {
                self.rest = &[];
                return Some(Piece::Text(text));
            }
            Err(error) => error.valid_up_to(),
        };
        if valid >= WORTHWHILE {
            let (text, rest) = self.rest.split_at_checked(valid)?;
            self.rest = rest;
            self.binary = FIRST_BINARY;
            return Some(match std::str::from_utf8(text) {
                Ok(text) => Piece::Text(text),
                Err(_) => Piece::Binary(text),
            });
        }
        let mut length = self.binary.saturating_add(valid).min(self.rest.len());
        // Not in the midst of a character.
        length += rest_at_start(self.rest.get(length..).unwrap_or(&[]));
        self.binary = self.binary.saturating_mul(2);
        let (binary, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Piece::Binary(binary))
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_beginning_of_a_character_is_found() {
        for (bytes, partial) in [
            (&b"abc"[..], 0),
            (b"", 0),
            ("ab\u{20ac}".as_bytes(), 0),
            (b"ab\xe2", 1),
            (b"ab\xe2\x82", 2),
            (b"\xf0\x9f\x98", 3),
            (b"ab\x82", 0),
            (b"ab\xe0\x80", 0),
            (b"ab\xff", 0),
        ] {
            assert_eq!(partial_at_end(bytes), partial, "{bytes:x?}");
        }
    }

    #[test]
    fn a_stray_byte_hides_little() {
        let mut bytes = "line of text\n".repeat(1000).into_bytes();
        bytes[5000] = 0xff;
        let hidden: usize = Pieces::of(&bytes)
            .map(|piece| match piece {
                Piece::Text(_) => 0,
                Piece::Binary(binary) => binary.len(),
            })
            .sum();
        assert!(hidden <= FIRST_BINARY, "{hidden}");
    }

    #[test]
    fn a_binary_file_is_few_pieces() {
        let bytes: Vec<u8> = (0..65536_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        assert!(Pieces::of(&bytes).count() < 20);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut joined = Vec::new();
            for piece in Pieces::of(&bytes) {
                match piece {
                    Piece::Text(text) => joined.extend_from_slice(text.as_bytes()),
                    Piece::Binary(binary) => joined.extend_from_slice(binary),
                }
            }
            prop_assert_eq!(joined, bytes);
        }
    }
}
