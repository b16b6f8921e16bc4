//! What a client says of its terminal, made harmless.

use russh::Pty;

use crate::messages::{Terminal, WindowSize};

/// The terminal that a `pty-req` asks for.
pub(super) fn terminal(term: &str, cols: u32, rows: u32, modes: &[(Pty, u32)]) -> Terminal {
    Terminal {
        term: if is_term(term) { term } else { "dumb" }.to_owned(),
        size: WindowSize::clamped(cols, rows),
        // russh puts TTY_OP_END where it does not know an opcode, in the middle of the list too.
        modes: modes
            .iter()
            .filter(|(opcode, _)| *opcode != Pty::TTY_OP_END)
            .map(|&(opcode, value)| (opcode as u8, value))
            .collect(),
    }
}

/// `TERM` is looked up as a file name and printed by programs.
pub(crate) fn is_term(term: &str) -> bool {
    (1..=64).contains(&term.len())
        && term
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b))
        && !term.starts_with(['.', '-'])
}

/// The signals of RFC 4254, 6.10, and nothing else: a name may end up in a log or in a `kill`.
pub(super) fn signal_name(signal: &russh::Sig) -> Option<&'static str> {
    use russh::Sig;
    Some(match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) if name == "USR2" => "USR2",
        Sig::Custom(_) => return None,
    })
}

/// The name of a signal that ended a command, as russh wants it.
pub(super) fn signal(name: &str) -> russh::Sig {
    use russh::Sig;
    match name {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        other => Sig::Custom(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_opcodes_are_skipped_and_the_rest_kept() {
        let modes = [(Pty::VINTR, 3), (Pty::TTY_OP_END, 9), (Pty::ECHO, 1)];
        let terminal = terminal("xterm-256color", 0, u32::MAX, &modes);
        assert_eq!(terminal.modes, [(1, 3), (53, 1)]);
        assert_eq!(terminal.term, "xterm-256color");
        assert_eq!(
            terminal.size,
            WindowSize {
                cols: 80,
                rows: 4096
            }
        );
    }

    #[test]
    fn names_that_are_no_terminal_become_dumb() {
        for term in [
            "",
            "../../etc/passwd",
            "x\n",
            "a b",
            "\x1b[m",
            ".x",
            &"x".repeat(65),
        ] {
            assert_eq!(terminal(term, 80, 24, &[]).term, "dumb", "{term:?}");
        }
    }

    #[test]
    fn signals_keep_their_names() {
        for name in [
            "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM",
            "USR1", "USR2",
        ] {
            assert_eq!(signal_name(&signal(name)), Some(name));
        }
        assert_eq!(signal_name(&signal("STOP; rm")), None);
    }

    proptest! {
        #[test]
        fn any_terminal_is_harmless(term in ".*", cols: u32, rows: u32) {
            let terminal = terminal(&term, cols, rows, &[]);
            prop_assert!(is_term(&terminal.term));
            prop_assert!((1..=4096).contains(&terminal.size.cols));
            prop_assert!((1..=4096).contains(&terminal.size.rows));
        }
    }
}
