//! The streams of a running command.

use pty_process::OwnedWritePty;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::output::Output;
use super::{Control, ExitStatus};
use crate::messages::WindowSize;

/// A command that runs. Dropping it ends the command and everything that it started.
#[derive(Debug)]
pub struct Running {
    /// Its standard input or terminal.
    pub input: Input,
    /// Its standard output or terminal.
    pub stdout: Output,
    /// Its standard error; `None` at a terminal.
    pub stderr: Option<Output>,
    /// Signals and the end.
    pub control: Control,
    /// How it ended; comes after the last process of the sandbox is gone.
    pub exit: Exit,
    /// What connects to the API server's address inside arrives here; nothing else can.
    pub api: TcpListener,
    /// What asks the daemon inside arrives here; nothing else can.
    pub words: TcpListener,
    /// What connects to other hosts by way of the daemon arrives here, if there is such a way.
    pub proxy: Option<TcpListener>,
    /// Ends the command, and everything that it started, when dropped.
    pub end: DropGuard,
}

/// The end of a command. Can be waited for again and again.
#[derive(Clone, Debug)]
pub struct Exit(watch::Receiver<Option<ExitStatus>>);

impl Exit {
    pub(super) fn new() -> (watch::Sender<Option<ExitStatus>>, Self) {
        let (status, exit) = watch::channel(None);
        (status, Self(exit))
    }

    /// How it ended; `None` if nobody knows, because whoever watched it is gone.
    pub async fn wait(&mut self) -> Option<ExitStatus> {
        let status = self.0.wait_for(Option::is_some).await.ok()?;
        status.clone()
    }
}

/// Where input goes.
#[derive(Debug)]
pub enum Input {
    /// A terminal's master side.
    Terminal(OwnedWritePty),
    /// A pipe.
    Pipe(pipe::Sender),
    /// The command closed it, or there is no more to say.
    Closed,
}

impl Input {
    /// Writes all of `bytes`. A command that no longer reads is no error: the rest is dropped, as a shell's
    /// pipe would.
    pub async fn write(&mut self, bytes: &[u8]) {
        let written = match self {
            Self::Terminal(pty) => pty.write_all(bytes).await,
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::Closed => Ok(()),
        };
        if written.is_err() {
            self.close().await;
        }
    }

    /// The client has no more input. At a terminal that is what Ctrl-D says.
    pub async fn end(&mut self) {
        const END_OF_TRANSMISSION: &[u8] = &[4];
        match self {
            Self::Terminal(_) => self.write(END_OF_TRANSMISSION).await,
            Self::Pipe(_) | Self::Closed => self.close().await,
        }
    }

    async fn close(&mut self) {
        // The terminal stays: dropping its last handle would hang up while output is still read.
        if matches!(self, Self::Pipe(_)) {
            *self = Self::Closed;
        }
    }

    /// Tells the terminal its new size; nothing without one.
    pub fn resize(&self, size: WindowSize) {
        if let Self::Terminal(pty) = self
            && let Err(error) = pty.resize(pty_process::Size::new(size.rows, size.cols))
        {
            tracing::debug!("resizing a terminal: {error}");
        }
    }
}
