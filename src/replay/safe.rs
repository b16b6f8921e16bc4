//! Terminal output without what harms the terminal that it is replayed on.
//!
//! A recording holds what an attacker wanted it to hold. What goes through is listed here: text, colours, cursor
//! movement, erasing, scrolling, the alternate screen. All else is dropped: clipboard and title (OSC), queries
//! whose answers are typed into the reader's shell, device control strings, printing, mouse and keyboard modes.

/// The longest control sequence worth passing on.
const LONGEST: usize = 128;

/// The largest number in a control sequence: screens are smaller, and a repeat count is work.
const LARGEST: u32 = 9_999;

/// Filters text piece by piece; a sequence may lie across pieces.
#[derive(Clone, Debug, Default)]
pub struct SafeText {
    state: State,
    /// A control sequence so far, without its introducer.
    sequence: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// After ESC and an intermediate: a character set, or something to drop.
    EscapeWith(char),
    Csi,
    /// A control sequence too long to be one.
    CsiIgnored,
    /// OSC, DCS, SOS, PM or APC: up to ST. OSC also ends at BEL.
    String {
        bel_ends: bool,
    },
    StringEscape {
        bel_ends: bool,
    },
}

impl SafeText {
    /// Appends what may be shown of `text` to `out`.
    pub fn feed(&mut self, text: &str, out: &mut String) {
        for character in text.chars() {
            self.take(character, out);
        }
    }

    /// What brings a filter that has seen nothing to where this one is: the beginning of a sequence that goes on, or nothing.
    pub(crate) fn beginning(&self) -> String {
        match self.state {
            State::Text => String::new(),
            State::Escape => "\u{1b}".to_owned(),
            State::EscapeWith(intermediate) => format!("\u{1b}{intermediate}"),
            State::Csi => format!("\u{1b}[{}", self.sequence),
            State::CsiIgnored => format!("\u{1b}[{}", "0".repeat(LONGEST.saturating_add(1))),
            State::String { bel_ends: true } => "\u{1b}]".to_owned(),
            State::String { bel_ends: false } => "\u{1b}P".to_owned(),
            State::StringEscape { bel_ends: true } => "\u{1b}]\u{1b}".to_owned(),
            State::StringEscape { bel_ends: false } => "\u{1b}P\u{1b}".to_owned(),
        }
    }

    fn take(&mut self, character: char, out: &mut String) {
        // CAN and SUB end whatever goes on; ESC begins anew.
        match (self.state, character) {
            (_, '\u{18}' | '\u{1a}') => {
                self.state = State::Text;
                return;
            }
            (State::String { bel_ends }, '\u{1b}') => {
                self.state = State::StringEscape { bel_ends };
                return;
            }
            (_, '\u{1b}') => {
                self.state = State::Escape;
                return;
            }
            _ => {}
        }
        match self.state {
            State::Text => self.text(character, out),
            State::Escape => self.escape(character, out),
            State::EscapeWith(intermediate) => self.escape_with(intermediate, character, out),
            State::Csi => self.csi(character, out),
            State::CsiIgnored => {
                if matches!(character, '\u{40}'..='\u{7e}') {
                    self.state = State::Text;
                }
            }
            State::String { bel_ends } => {
                if character == '\u{9c}' || (bel_ends && character == '\u{7}') {
                    self.state = State::Text;
                }
            }
            State::StringEscape { .. } => {
                // ESC \ is ST. Any other ESC ends the string too, and begins a sequence.
                self.state = State::Escape;
                if character == '\\' {
                    self.state = State::Text;
                } else {
                    self.escape(character, out);
                }
            }
        }
    }

    fn text(&mut self, character: char, out: &mut String) {
        match character {
            // Backspace, tab, line feed, carriage return; vertical tab and form feed act as line feeds.
            '\u{8}'..='\u{d}' => out.push(character),
            // Shift out and in: programs draw lines with them.
            '\u{e}' | '\u{f}' => out.push(character),
            '\u{0}'..='\u{1f}' | '\u{7f}' => {}
            // 8-bit controls are the same as ESC and a letter.
            '\u{80}'..='\u{9f}' => {
                let letter =
                    char::from_u32(u32::from(character).saturating_sub(0x40)).unwrap_or(' ');
                self.escape(letter, out);
            }
            // Direction marks can make a line read otherwise than it is.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            _ => out.push(character),
        }
    }

    fn escape(&mut self, character: char, out: &mut String) {
        self.state = State::Text;
        match character {
            '[' => {
                self.sequence.clear();
                self.state = State::Csi;
            }
            ']' => self.state = State::String { bel_ends: true },
            'P' | 'X' | '^' | '_' => self.state = State::String { bel_ends: false },
            '\u{20}'..='\u{2f}' => self.state = State::EscapeWith(character),
            // Save and restore the cursor, index, next line, tab stop, reverse index.
            '7' | '8' | 'D' | 'E' | 'H' | 'M' => {
                out.push('\u{1b}');
                out.push(character);
            }
            // A full reset may clear what the reader had before: reset softly and clear the screen.
            'c' => out.push_str("\u{1b}[!p\u{1b}[H\u{1b}[2J"),
            // Inside a sequence the terminal acts on these at once.
            '\n' | '\r' | '\t' | '\u{8}' => out.push(character),
            _ => {}
        }
    }

    fn escape_with(&mut self, intermediate: char, character: char, out: &mut String) {
        if matches!(character, '\u{20}'..='\u{2f}') {
            // More than one: nothing that we pass has two.
            self.state = State::EscapeWith(' ');
            return;
        }
        self.state = State::Text;
        // ASCII and line drawing as G0 or G1; the alignment test.
        let passes = matches!(
            (intermediate, character),
            ('(' | ')', '0' | 'B') | ('#', '8')
        );
        if passes {
            out.extend(['\u{1b}', intermediate, character]);
        }
    }

    fn csi(&mut self, character: char, out: &mut String) {
        match character {
            '\u{40}'..='\u{7e}' => {
                self.state = State::Text;
                self.finish_csi(character, out);
            }
            '\u{20}'..='\u{3f}' if self.sequence.len() < LONGEST => self.sequence.push(character),
            // Terminals act on controls in the midst of a sequence; so do we, and go on.
            '\n' | '\r' | '\t' | '\u{8}' => out.push(character),
            '\u{0}'..='\u{1f}' | '\u{7f}' => {}
            _ => self.state = State::CsiIgnored,
        }
    }

    fn finish_csi(&mut self, last: char, out: &mut String) {
        let sequence = self.sequence.as_str();
        if let Some(modes) = sequence.strip_prefix('?') {
            private_modes(modes, last, out);
            return;
        }
        let numbers: Vec<&str> = sequence.split([';', ':']).collect();
        let plain = sequence
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b';' || b == b':')
            && numbers.iter().all(|number| {
                number.is_empty() || number.parse::<u32>().is_ok_and(|number| number <= LARGEST)
            });
        let passes = match last {
            // Movement, erasing in the line, inserting, deleting, tabs.
            'A'..='I'
            | 'K'
            | 'L'
            | 'M'
            | 'P'
            | 'S'
            | 'X'
            | 'Z'
            | '@'
            | '`'
            | 'a'
            | 'd'
            | 'e'
            | 'f'
            | 'g'
            | 'r' => plain,
            // Erasing the screen; 3 would erase what the reader had before.
            'J' => plain && matches!(sequence, "" | "0" | "1" | "2"),
            // With more numbers it is mouse tracking.
            'T' => plain && numbers.len() == 1,
            // Repeats the last character.
            'b' => plain && numbers.len() == 1,
            'm' => plain,
            // Save and restore the cursor; with numbers it sets margins.
            's' | 'u' => sequence.is_empty(),
            // Tab stops.
            'W' => matches!(sequence, "" | "0" | "2" | "5"),
            // Insert mode.
            'h' | 'l' => sequence == "4",
            // Soft reset.
            'p' => sequence == "!",
            // Shape of the cursor.
            'q' => matches!(sequence.as_bytes(), [b'0'..=b'6', b' '] | [b' ']),
            _ => false,
        };
        if passes {
            out.push_str(&format!("\u{1b}[{sequence}{last}"));
        }
    }
}

/// Private modes that only concern what is drawn: origin, wrap, visible cursor, alternate screen.
fn private_modes(modes: &str, last: char, out: &mut String) {
    match last {
        'h' | 'l' => {
            for mode in modes.split(';') {
                if matches!(mode, "6" | "7" | "25" | "47" | "1047" | "1048" | "1049") {
                    out.push_str(&format!("\u{1b}[?{mode}{last}"));
                }
            }
        }
        // Selective erase.
        'J' | 'K' if matches!(modes, "" | "0" | "1" | "2") => {
            out.push_str(&format!("\u{1b}[?{modes}{last}"))
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn safe(text: &str) -> String {
        let mut out = String::new();
        SafeText::default().feed(text, &mut out);
        out
    }

    #[test]
    fn what_draws_passes() {
        for text in [
            "plain, gr\u{fc}n, \u{1f600}\r\n\ttab\u{8}",
            "\u{1b}[1;31mred\u{1b}[0m\u{1b}[38;2;1;2;3m\u{1b}[38:5:9m\u{1b}[m",
            "\u{1b}[2J\u{1b}[H\u{1b}[10;20H\u{1b}[A\u{1b}[3B\u{1b}[K\u{1b}[1J",
            "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7h\u{1b}[2;10r\u{1b}[?1049l",
            "\u{1b}(0lqqk\u{1b}(B\u{e}x\u{f}",
            "\u{1b}7\u{1b}8\u{1b}M\u{1b}[s\u{1b}[u\u{1b}[4h\u{1b}[2 q",
        ] {
            assert_eq!(safe(text), text, "{text:?}");
        }
    }

    #[test]
    fn what_harms_is_dropped() {
        for (text, left) in [
            // Clipboard, title, hyperlink, notification; ended by BEL, ST, 8-bit ST.
            ("a\u{1b}]52;c;ZXZpbA==\u{7}b", "ab"),
            ("a\u{1b}]0;title\u{1b}\\b", "ab"),
            ("a\u{1b}]8;;http://evil\u{9c}b", "ab"),
            ("a\u{9d}52;c;x\u{7}b", "ab"),
            // Device control, application commands, privacy messages, strings.
            (
                "a\u{1b}Pq#0;2;0\u{1b}\\b\u{1b}_Gf=100\u{1b}\\c\u{1b}^x\u{1b}\\d\u{1b}Xx\u{1b}\\e",
                "abcde",
            ),
            // Queries that the terminal answers: into the reader's shell.
            (
                "a\u{1b}[6n\u{1b}[c\u{1b}[>c\u{1b}[=c\u{1b}[0x\u{1b}[?6n\u{1b}Z\u{1b}[21t\u{5}b",
                "ab",
            ),
            ("a\u{1b}[?1$p\u{1b}[>q\u{1b}P+q544e\u{1b}\\b", "ab"),
            // Window operations, printing, LEDs.
            ("a\u{1b}[8;999;999t\u{1b}[5i\u{1b}[?4i\u{1b}[1qb", "ab"),
            // Mouse, focus, bracketed paste, keypad, cursor keys, reverse screen, 132 columns, keyboard modes.
            (
                "a\u{1b}[?1000;1006h\u{1b}[?1004h\u{1b}[?2004h\u{1b}=\u{1b}>\u{1b}[?1h\u{1b}[?5h\u{1b}[?3h\u{1b}[>4;2mb",
                "ab",
            ),
            // Erasing the scrollback, UTF-8 off, locking shifts.
            ("a\u{1b}[3J\u{1b}%@\u{1b}n\u{1b}ob", "ab"),
            // Of several modes, those that may pass do.
            ("\u{1b}[?1000;25;2004l", "\u{1b}[?25l"),
            // A reset is a soft one.
            ("\u{1b}c", "\u{1b}[!p\u{1b}[H\u{1b}[2J"),
            // 8-bit controls are made 7-bit.
            ("\u{9b}31mx\u{85}", "\u{1b}[31mx\u{1b}E"),
            // Huge numbers, endless sequences, cancelled ones, other alphabets inside.
            ("a\u{1b}[99999999bc", "ac"),
            ("a\u{1b}[31\u{18}b", "ab"),
            ("a\u{1b}[3\u{20ac}1mb", "ab"),
            // An escape within a sequence begins a new one.
            ("a\u{1b}]0;x\u{1b}[31mb", "a\u{1b}[31mb"),
            ("a\u{1b}[3\u{1b}[1mb", "a\u{1b}[1mb"),
            ("\u{7}\u{0}\u{7f}a\u{202e}b", "ab"),
        ] {
            assert_eq!(safe(text), left, "{text:?}");
        }
        assert_eq!(safe(&format!("a\u{1b}[{}mb", "1;".repeat(5_000))), "ab");
    }

    proptest! {
        #[test]
        fn what_passes_once_passes_again_unchanged(text in "(\\PC|[\\x00-\\x1f\\x7f\u{80}-\u{9f}\\[\\]?;:0-9mhlPJc]){0,60}") {
            let once = safe(&text);
            prop_assert_eq!(safe(&once), once.clone());
            let harmful = ["\u{1b}]", "\u{1b}P", "\u{1b}_", "\u{9b}", "\u{9d}"].iter().any(|it| once.contains(it));
            prop_assert!(!harmful);
        }

        #[test]
        fn cutting_changes_nothing(text in "(\\PC|[\\x00-\\x1f\\[\\]?;0-9mhl]){0,60}", at in any::<prop::sample::Index>()) {
            let characters: Vec<char> = text.chars().collect();
            let (a, b) = characters.split_at(at.index(characters.len() + 1));
            let mut filter = SafeText::default();
            let mut out = String::new();
            filter.feed(&a.iter().collect::<String>(), &mut out);
            filter.feed(&b.iter().collect::<String>(), &mut out);
            prop_assert_eq!(out, safe(&text));
        }

        #[test]
        fn a_filter_is_where_another_was_by_the_beginning_alone(
            text in "(\\PC|[\\x00-\\x1f\\[\\]?;0-9mhlP(]|\u{1b}[\\[\\]P]){0,60}",
            at in any::<prop::sample::Index>(),
        ) {
            let characters: Vec<char> = text.chars().collect();
            let (a, b) = characters.split_at(at.index(characters.len() + 1));
            let b: String = b.iter().collect();
            let mut filter = SafeText::default();
            filter.feed(&a.iter().collect::<String>(), &mut String::new());
            let mut other = SafeText::default();
            let mut shown = String::new();
            other.feed(&filter.beginning(), &mut shown);
            prop_assert_eq!(shown.as_str(), "");
            let (mut on, mut anew) = (String::new(), String::new());
            filter.feed(&b, &mut on);
            other.feed(&b, &mut anew);
            prop_assert_eq!(on, anew);
        }
    }
}
