//! What a reader types during a replay.

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Stop, or go on: space.
    Pause,
    /// While stopped, show the next thing: `.`.
    Step,
    /// Twice as fast: `+`.
    Faster,
    /// Half as fast: `-`.
    Slower,
    /// Five seconds on: right arrow.
    Forward,
    /// Five seconds back: left arrow.
    Back,
    /// To the beginning: Home.
    Restart,
    /// End the replay: `q`, Ctrl-C, Ctrl-D.
    Quit,
}

/// Reads keys from what a terminal sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyParser(Parsed);

#[derive(Clone, Copy, Debug, Default)]
enum Parsed {
    #[default]
    Nothing,
    Escape,
    Sequence,
}

impl KeyParser {
    /// The next key, if this byte completes one.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        let (next, key) = match (self.0, byte) {
            (_, 0x1b) => (Parsed::Escape, None),
            (Parsed::Escape, b'[' | b'O') => (Parsed::Sequence, None),
            (Parsed::Escape, _) => (Parsed::Nothing, None),
            (Parsed::Sequence, b'C') => (Parsed::Nothing, Some(Key::Forward)),
            (Parsed::Sequence, b'D') => (Parsed::Nothing, Some(Key::Back)),
            (Parsed::Sequence, b'H') => (Parsed::Nothing, Some(Key::Restart)),
            (Parsed::Sequence, b'0'..=b'9' | b';') => (Parsed::Sequence, None),
            (Parsed::Sequence, _) => (Parsed::Nothing, None),
            (Parsed::Nothing, byte) => (Parsed::Nothing, plain(byte)),
        };
        self.0 = next;
        key
    }
}

fn plain(byte: u8) -> Option<Key> {
    Some(match byte {
        b' ' => Key::Pause,
        b'.' => Key::Step,
        b'+' | b'=' => Key::Faster,
        b'-' => Key::Slower,
        b'q' | b'Q' | 0x03 | 0x04 => Key::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let mut parser = KeyParser::default();
        let keys: Vec<Key> = b" .+=-\x1b[C\x1bOD\x1b[1;5C\x1b[H\x1bq\x1b[15~xq\x03"
            .iter()
            .filter_map(|byte| parser.feed(*byte))
            .collect();
        use Key::*;
        assert_eq!(
            keys,
            [
                Pause, Step, Faster, Faster, Slower, Forward, Back, Forward, Restart, Quit, Quit
            ]
        );
    }
}
