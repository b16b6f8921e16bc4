//! Where a command's output comes from. A trickle is passed on at once; a flood in large pieces, because a piece costs
//! much the same to record and to send whatever its size.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use pty_process::OwnedReadPty;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Most bytes that one read answers, but for a flood.
const CHUNK: usize = 32 * 1024;
/// Most bytes that one read of a flood answers.
const FLOOD: usize = 128 * 1024;
/// What the pipe of a flood holds, so that the command can write on while its output is recorded.
const PIPE: usize = 256 * 1024;

/// What an idle terminal holds while it waits.
const IDLE: usize = 1024;
/// Linux hands out at most so much of a terminal's output at a time, and more is coming when it does.
const TERMINAL: usize = 4095;

/// Where output comes from.
#[derive(Debug)]
pub struct Output(Source);

#[derive(Debug)]
enum Source {
    Terminal {
        pty: OwnedReadPty,
        flood: bool,
    },
    Pipe {
        pipe: pipe::Receiver,
        /// Bytes that the next read asks for.
        ask: usize,
        grown: bool,
    },
}

impl Output {
    /// A terminal's master side.
    pub(super) fn terminal(pty: OwnedReadPty) -> Self {
        Self(Source::Terminal { pty, flood: false })
    }

    /// A pipe.
    pub(super) fn pipe(pipe: pipe::Receiver) -> Self {
        Self(Source::Pipe {
            pipe,
            ask: CHUNK,
            grown: false,
        })
    }

    /// The next bytes, 1 to 128 KiB; empty at the end. Holds no large buffer while it waits.
    pub async fn read(&mut self) -> io::Result<Bytes> {
        match &mut self.0 {
            Source::Terminal { pty, flood } => read_terminal(pty, flood).await,
            Source::Pipe { pipe, ask, grown } => {
                let chunk = read_pipe(pipe, *ask).await?;
                if chunk.len() == CHUNK && !*grown {
                    *grown = true;
                    // An ordinary OS user's pipes are limited together: then it stays as it is.
                    if let Err(error) = rustix::pipe::fcntl_setpipe_size(&*pipe, PIPE) {
                        tracing::debug!(%error, "a pipe keeps its size");
                    }
                }
                *ask = if chunk.len() < CHUNK { CHUNK } else { FLOOD };
                Ok(chunk)
            }
        }
    }
}

async fn read_pipe(pipe: &mut pipe::Receiver, ask: usize) -> io::Result<Bytes> {
    loop {
        pipe.readable().await?;
        let mut chunk = BytesMut::with_capacity(ask);
        match pipe.try_read_buf(&mut chunk) {
            Ok(_) => return Ok(chunk.freeze()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn read_terminal(pty: &mut OwnedReadPty, flood: &mut bool) -> io::Result<Bytes> {
    let mut chunk = BytesMut::with_capacity(if *flood { FLOOD } else { IDLE });
    if end_of_terminal(pty.read_buf(&mut chunk).await)? == 0 {
        return Ok(Bytes::new());
    }
    // Take what is there already. An error or the end shows again at the next call.
    while chunk.len() + TERMINAL <= FLOOD {
        chunk.reserve(TERMINAL);
        match pty.read_buf(&mut chunk).now_or_never() {
            Some(Ok(n)) if n > 0 => {}
            _ => break,
        }
        // The kernel fills a terminal again in the background, and has a reader that comes back at once wait for that.
        tokio::task::yield_now().await;
    }
    *flood = chunk.len() >= TERMINAL;
    Ok(chunk.freeze())
}

/// Linux answers EIO once the last process has closed the terminal.
fn end_of_terminal(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_pipe_is_read_whole_in_larger_pieces_when_it_floods() {
        let (sender, receiver) = pipe::pipe().unwrap();
        let mut sender = std::fs::File::from(sender.into_blocking_fd().unwrap());
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
        let to_send = sent.clone();
        let writing = std::thread::spawn(move || sender.write_all(&to_send).unwrap());
        let mut output = Output::pipe(receiver);
        let (mut read, mut largest) = (Vec::new(), 0);
        loop {
            let bytes = output.read().await.unwrap();
            if bytes.is_empty() {
                break;
            }
            largest = largest.max(bytes.len());
            read.extend_from_slice(&bytes);
        }
        writing.join().unwrap();
        assert!(read == sent);
        assert!(largest > CHUNK && largest <= FLOOD, "{largest}");
    }

    #[tokio::test]
    async fn a_terminal_is_read_whole() {
        let (pty, pts) = pty_process::open().unwrap();
        let (read, _write) = pty.into_split();
        let command = pty_process::Command::new("/bin/sh").args(["-c", "echo a; seq 1 20000"]);
        let mut child = command.spawn(pts).unwrap();
        let mut output = Output::terminal(read);
        let mut all = Vec::new();
        loop {
            let bytes = output.read().await.unwrap();
            if bytes.is_empty() {
                break;
            }
            assert!(bytes.len() <= FLOOD);
            all.extend_from_slice(&bytes);
        }
        child.wait().await.unwrap();
        let text = String::from_utf8(all).unwrap();
        let numbers = (1..=20_000).map(|n| format!("{n}\r\n"));
        assert!(
            text == std::iter::once("a\r\n".to_owned())
                .chain(numbers)
                .collect::<String>()
        );
    }
}
