//! Asking a process behind a unix socket for a signature.
//!
//! A request is the length of a text (four bytes, the highest first) and the text; an answer is a zero and the
//! signature (for Ed25519 64 bytes; both sides know the key, and so its length), or a one, a length (two bytes) and a sentence. A
//! connection is kept for the next request.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::Timeout;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::LONGEST_TEXT;
use crate::clock;

/// From a request to its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The first byte of an answer that is a signature.
pub(super) const SIGNED: u8 = 0;
/// The first byte of an answer that is a sentence.
pub(super) const REFUSED: u8 = 1;
/// Longest sentence, in bytes.
pub(super) const LONGEST_SENTENCE: usize = 512;

/// A process that signs what it is asked to.
#[derive(Debug)]
pub(crate) struct Asking {
    socket: PathBuf,
    kept: Mutex<Option<UnixStream>>,
}

/// What it says.
pub(crate) enum Answer {
    /// Bytes that may be a signature.
    Signed(Vec<u8>),
    /// A sentence, cut and made printable.
    Refused(String),
    /// Neither.
    NotUnderstood,
}

impl Asking {
    /// Nothing is connected to before the first request.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            kept: Mutex::new(None),
        }
    }

    /// Where.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for a signature of so many bytes. Blocks, for 3 s at most. Who asks at the same time does not wait: they have connections
    /// of their own.
    pub(crate) fn ask(&self, text: &[u8], length: usize) -> io::Result<Answer> {
        let deadline = clock::monotonic() + PATIENCE;
        let kept = self.kept().take();
        // One that was kept may have been closed since; that is no reason not to have a signature.
        if let Some(stream) = kept
            && let Ok(answer) = exchange(&stream, text, length, deadline)
        {
            *self.kept() = Some(stream);
            return Ok(answer);
        }
        let stream = connect(&self.socket)?;
        let answer = exchange(&stream, text, length, deadline)?;
        *self.kept() = Some(stream);
        Ok(answer)
    }

    fn kept(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As `UnixStream::connect`, but it does not wait for ever for one who never accepts.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let kind = (AddressFamily::UNIX, SocketType::STREAM);
    let stream = net::socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None)?;
    net::sockopt::set_socket_timeout(&stream, Timeout::Send, Some(PATIENCE))?;
    net::connect(&stream, &SocketAddrUnix::new(socket)?).map_err(|error| match error {
        rustix::io::Errno::AGAIN => ErrorKind::TimedOut.into(),
        error => io::Error::from(error),
    })?;
    Ok(UnixStream::from(stream))
}

fn exchange(
    stream: &UnixStream,
    text: &[u8],
    signature: usize,
    deadline: tokio::time::Instant,
) -> io::Result<Answer> {
    let length = u32::try_from(text.len())
        .ok()
        .filter(|length| *length as usize <= LONGEST_TEXT)
        .ok_or(ErrorKind::InvalidInput)?;
    let mut request = Vec::with_capacity(text.len().saturating_add(4));
    request.extend_from_slice(&length.to_be_bytes());
    request.extend_from_slice(text);
    let mut timed = Timed { stream, deadline };
    timed.write_all(&request)?;
    let mut kind = [0];
    timed.read_exact(&mut kind)?;
    match kind {
        [SIGNED] => {
            let mut bytes = vec![0; signature];
            timed.read_exact(&mut bytes)?;
            Ok(Answer::Signed(bytes))
        }
        [REFUSED] => {
            let mut length = [0; 2];
            timed.read_exact(&mut length)?;
            let length = usize::from(u16::from_be_bytes(length));
            if length > LONGEST_SENTENCE {
                return Ok(Answer::NotUnderstood);
            }
            let mut sentence = vec![0; length];
            timed.read_exact(&mut sentence)?;
            Ok(Answer::Refused(printable(&String::from_utf8_lossy(
                &sentence,
            ))))
        }
        _ => Ok(Answer::NotUnderstood),
    }
}

/// A stream on which all of an exchange ends in time, however slowly its bytes trickle in.
struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: tokio::time::Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// A blocked call that ran into its time says `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl io::Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut stream = self.stream;
        stream.read(buffer).map_err(timed_out)
    }
}

impl io::Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        let mut stream = self.stream;
        stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What somebody else wrote, fit for a log: cut, and without control characters.
pub(super) fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(200).map(visible).collect()
}
