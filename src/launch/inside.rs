//! `bastion` inside a session: asks the daemon, and prints what it answers.
//!
//! One line goes to an address on the sandbox's own loopback, where the daemon listens: words, quoted as a shell does. What
//! comes back are pieces, each a kind (one byte), a length (u32, big endian) and as many bytes: 1 is for standard
//! output, 2 for standard error, 0 is the exit status, one byte, and the last. Whoever can connect runs as the session's own user, and
//! what is answered is theirs to know: nothing has to be proven.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use super::handover::WORDS as ADDRESS;

/// What the program is called.
pub const PROGRAM: &str = "bastion";
/// Longest line, in bytes.
pub(crate) const LONGEST: usize = 4096;
/// Longest piece that is taken, in bytes.
const PIECE: u32 = 64 * 1024;

/// What a piece of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Exit,
    Stdout,
    Stderr,
}

impl Piece {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Exit),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }

    /// As it is sent.
    pub(crate) fn encoded(self, bytes: &[u8]) -> Vec<u8> {
        let kind = match self {
            Self::Exit => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut piece = vec![kind];
        piece.extend(length.to_be_bytes());
        piece.extend(bytes);
        piece
    }
}

/// Whether this program was started under that name.
pub fn is_meant(argv0: Option<&OsStr>) -> bool {
    argv0.and_then(|name| Path::new(name).file_name()) == Some(OsStr::new(PROGRAM))
}

/// Asks, prints, and says which status to exit with.
///
/// # Errors
///
/// If this is no session, or it is ending.
pub fn ask(words: &[OsString]) -> io::Result<u8> {
    let line = line(words)?;
    let mut daemon = TcpStream::connect(ADDRESS).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("the daemon does not answer here ({error}): this works inside a session of bastion-audit only"),
        )
    })?;
    daemon.write_all(line.as_bytes())?;
    daemon.shutdown(Shutdown::Write)?;
    print(
        &mut BufReader::new(daemon),
        &mut io::stdout(),
        &mut io::stderr(),
    )
}

fn line(words: &[OsString]) -> io::Result<String> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let text: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let text = text.ok_or_else(|| wrong("these words are no text"))?;
    let mut line = shlex::try_join(text).map_err(|_| wrong("these words have a NUL byte"))?;
    // A newline in a word would end the line.
    if line.contains('\n') || line.len() >= LONGEST {
        return Err(wrong("that is too long, or more than one line"));
    }
    line.push('\n');
    Ok(line)
}

fn print(
    daemon: &mut impl Read,
    stdout: &mut impl Write,
    stderr: &mut impl Write,
) -> io::Result<u8> {
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "the answer is garbled");
    loop {
        let (mut kind, mut length) = ([0; 1], [0; 4]);
        daemon.read_exact(&mut kind)?;
        daemon.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > PIECE {
            return Err(garbled());
        }
        let mut bytes = Vec::new();
        daemon.take(length.into()).read_to_end(&mut bytes)?;
        match (Piece::of(kind[0]), bytes.as_slice()) {
            (Some(Piece::Stdout), bytes) => stdout.write_all(bytes)?,
            (Some(Piece::Stderr), bytes) => stderr.write_all(bytes)?,
            (Some(Piece::Exit), [status]) => {
                stdout.flush()?;
                return Ok(*status);
            }
            _ => return Err(garbled()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_by_its_name_alone() {
        for name in ["bastion", "/opt/bastion/bin/bastion", "./bastion"] {
            assert!(is_meant(Some(OsStr::new(name))), "{name}");
        }
        for name in ["bastion-audit", "/bastion/x", ""] {
            assert!(!is_meant(Some(OsStr::new(name))), "{name}");
        }
        assert!(!is_meant(None));
    }

    #[test]
    fn words_become_one_line_that_means_the_same() {
        let words = ["explain", "a b", "it's"].map(OsString::from);
        let line = line(&words).unwrap();
        assert_eq!(shlex::split(&line).unwrap(), ["explain", "a b", "it's"]);
        assert!(line.ends_with('\n') && !line.trim_end().contains('\n'));
        assert_eq!(super::line(&[]).unwrap(), "\n");
        for wrong in ["a\nb".to_owned(), "x".repeat(LONGEST)] {
            assert!(super::line(&[wrong.into()]).is_err());
        }
    }

    #[test]
    fn an_answer_is_printed_where_it_belongs() {
        let mut answer = Piece::Stdout.encoded(b"out");
        answer.extend(Piece::Stderr.encoded(b"err"));
        answer.extend(Piece::Exit.encoded(&[3]));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = print(&mut answer.as_slice(), &mut out, &mut err).unwrap();
        assert_eq!((status, &*out, &*err), (3, &b"out"[..], &b"err"[..]));
        // Half of one, and one that is none.
        for garbled in [
            &answer[..answer.len() - 1],
            &[7, 0, 0, 0, 0],
            &[1, 255, 0, 0, 0],
        ] {
            assert!(print(&mut &*garbled, &mut Vec::new(), &mut Vec::new()).is_err());
        }
    }
}
