//! What the words that read recordings share.

use std::collections::HashSet;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

use bastion_audit::admin::{self, AdminError, Reply, Request};
use bastion_audit::messages::WindowSize;
use bastion_audit::mint::LiveLease;
use bastion_audit::session::SessionId;

/// What goes on, by the daemon's word.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) sessions: HashSet<SessionId>,
    pub(super) handed_out: Vec<LiveLease>,
}

/// Asks the daemon of `state_dir` what goes on. Where none runs, nothing does.
pub(super) fn live_sessions(state_dir: &Path) -> anyhow::Result<Live> {
    match admin::ask(state_dir, &Request::Sessions) {
        Ok(Reply::Sessions { live, handed_out }) => Ok(Live {
            sessions: live.iter().map(|session| session.session).collect(),
            handed_out,
        }),
        Ok(other) => super::unexpected(other),
        Err(AdminError::NoDaemon { source, .. })
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(Live::default())
        }
        Err(error) => {
            // Recordings can be read without the daemon. But what is not known must not look like knowledge.
            drop(writeln!(
                std::io::stderr(),
                "bastion-audit: {error}\nbastion-audit: so a session that goes on is shown as interrupted"
            ));
            Ok(Live::default())
        }
    }
}

/// Prints; whoever closed the other end of a pipe has seen enough.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Stdout for what is written piece by piece.
pub(super) fn stdout() -> std::io::Result<tokio::fs::File> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(stdout)))
}

/// The size of the terminal on stdout, if there is one.
pub(super) fn terminal() -> Option<WindowSize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    Some(WindowSize::clamped(size.ws_col.into(), size.ws_row.into()))
}

pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
