//! What a session channel asks for: a session of the operator's, a word of ours, or something that has
//! a better way.

use bytes::Bytes;

use crate::config::SessionKind;
use crate::messages::Command;

/// A channel's request, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// The operator's own command.
    Session(SessionKind),
    /// `bastion ...`: the rest of the line.
    Word(String),
    /// Refused, with the line that works instead.
    Instead(&'static str),
}

const NO_FILE_TRANSFER: &str = "bastion-audit: there is no scp or sftp here: a session's files end with it. \
    Send what a command needs through its standard input:\n  \
    tar c chart | ssh HOST 'tar x && helm upgrade ...'";
const NO_SUBSYSTEM: &str =
    "bastion-audit: this subsystem is not served; run `ssh HOST bastion help`";

pub(super) fn parse(command: &Command) -> Requested {
    match command {
        Command::Shell => Requested::Session(SessionKind::Shell),
        Command::Tunnel(_) => Requested::Session(SessionKind::Tunnel),
        Command::Subsystem(name) if name == "sftp" => Requested::Instead(NO_FILE_TRANSFER),
        Command::Subsystem(_) => Requested::Instead(NO_SUBSYSTEM),
        Command::Exec(line) => exec(line),
    }
}

/// Longest command line: the kernel takes 128 KiB as one argument.
const LONGEST: usize = 100 * 1024;
const TOO_LONG: &str = "bastion-audit: that command line is longer than 100 KiB. \
    Send it through standard input: ssh HOST bash < script";
const NUL: &str = "bastion-audit: that command line has a NUL byte in it. \
    Send data through standard input: ssh HOST 'cat > file' < file";

/// Our words are told from a command by its first word alone.
fn exec(line: &Bytes) -> Requested {
    if line.len() > LONGEST {
        return Requested::Instead(TOO_LONG);
    }
    if line.contains(&0) {
        return Requested::Instead(NUL);
    }
    let text = String::from_utf8_lossy(line);
    let text = text.trim_start();
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match first {
        "bastion" => Requested::Word(rest.to_owned()),
        "scp"
            if rest
                .split_whitespace()
                .any(|word| matches!(word, "-t" | "-f")) =>
        {
            Requested::Instead(NO_FILE_TRANSFER)
        }
        _ => Requested::Session(SessionKind::Exec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec_of(line: &str) -> Requested {
        parse(&Command::Exec(Bytes::copy_from_slice(line.as_bytes())))
    }

    #[test]
    fn our_words_are_told_by_the_first_word_alone() {
        assert_eq!(exec_of("bastion whoami"), Requested::Word("whoami".into()));
        assert_eq!(exec_of(" bastion"), Requested::Word(String::new()));
        for line in ["bastiond", "echo bastion whoami", "kubectl get pods", ""] {
            assert_eq!(
                exec_of(line),
                Requested::Session(SessionKind::Exec),
                "{line}"
            );
        }
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused_with_a_way_that_works() {
        assert_eq!(
            exec_of(&"x".repeat(LONGEST + 1)),
            Requested::Instead(TOO_LONG)
        );
        assert_eq!(exec_of("echo a\0b"), Requested::Instead(NUL));
    }

    #[test]
    fn scp_and_sftp_get_the_line_that_works() {
        assert_eq!(exec_of("scp -t /tmp"), Requested::Instead(NO_FILE_TRANSFER));
        assert_eq!(
            exec_of("scp -v -f file"),
            Requested::Instead(NO_FILE_TRANSFER)
        );
        assert_eq!(
            parse(&Command::Subsystem("sftp".into())),
            Requested::Instead(NO_FILE_TRANSFER)
        );
        assert_eq!(exec_of("scpx -t"), Requested::Session(SessionKind::Exec));
    }
}
