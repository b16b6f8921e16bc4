//! The command line's end of the socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{LONGEST, Reply, Request, SOCKET};

/// A revoke waits for an API server; the daemon bounds that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nothing listens there.
    #[error("no daemon answers at {path}: {source}; is it running, and may you use its socket?")]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The operating system's word.
        #[source]
        source: std::io::Error,
    },
    /// It went away in mid-answer.
    #[error("the daemon did not finish its answer: {0}")]
    Broken(#[source] std::io::Error),
    /// It answered something else.
    #[error("the daemon's answer is not understood ({0}); is it of another version?")]
    NotUnderstood(#[source] serde_json::Error),
}

/// Asks the daemon that serves `state_dir`. Blocks.
pub fn ask(state_dir: &Path, request: &Request) -> Result<Reply, AdminError> {
    let path = state_dir.join(SOCKET);
    let mut stream =
        UnixStream::connect(&path).map_err(|source| AdminError::NoDaemon { path, source })?;
    let exchange = |stream: &mut UnixStream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(request).map_err(std::io::Error::other)?;
        line.push(b'\n');
        let asked = stream.write_all(&line);
        let mut answer = String::new();
        // Whoever may not ask is told so without being listened to.
        let answered = BufReader::new(stream.take(LONGEST)).read_line(&mut answer);
        if answer.is_empty() {
            asked?;
        }
        answered?;
        Ok(answer)
    };
    let answer = exchange(&mut stream).map_err(AdminError::Broken)?;
    serde_json::from_str(&answer).map_err(AdminError::NotUnderstood)
}
