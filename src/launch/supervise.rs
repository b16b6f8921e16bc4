//! Watches a running sandbox to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cgroup::SessionCgroup;
use super::session_dir::SessionDir;
use super::uids::Uid;
use super::{ExitStatus, init};

/// From killing bubblewrap to the last process of its sandbox being gone.
const REAP: Duration = Duration::from_secs(2);

/// Process 1 of a sandbox. The kernel lets it end only after everything else in there has.
#[derive(Debug)]
pub(super) struct First {
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
}

impl First {
    /// The init at the other end. It connects before anything of the operator's runs.
    pub(super) fn of(init: &UnixStream) -> io::Result<Self> {
        let pid = init.peer_cred()?.pid().and_then(Pid::from_raw);
        let pid =
            pid.ok_or_else(|| io::Error::other("the sandbox's init is not seen from here"))?;
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // Deprecated for types that may close or replace what they hold; an `OwnedFd` cannot.
        #[allow(deprecated)]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { pid, fd })
    }

    /// Its number outside. It is nobody else's until the sandbox has ended.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends the sandbox, whatever became of bubblewrap.
    fn kill(&self) {
        match pidfd_send_signal(self.fd.get_ref(), Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::error!("ending a sandbox: {error}"),
        }
    }

    async fn gone(&self) {
        if let Err(error) = self.fd.readable().await {
            tracing::error!("waiting for a sandbox's end: {error}");
        }
    }
}

/// A running sandbox, watched to its end.
pub(super) struct Supervised {
    pub(super) child: Child,
    pub(super) init: UnixStream,
    pub(super) first: First,
    pub(super) signals: mpsc::Receiver<String>,
    pub(super) kill: CancellationToken,
    pub(super) cgroup: Option<SessionCgroup>,
    pub(super) _uid: Option<Uid>,
    pub(super) _dir: SessionDir,
}

impl Supervised {
    pub(super) async fn run(mut self) -> ExitStatus {
        let (init, to_init) = self.init.split();
        // One short line comes from there; whoever forges a long one gets it cut.
        let mut lines = BufReader::with_capacity(256, init.take(256)).lines();
        let mut told = None;
        let mut init_open = true;
        let code = loop {
            tokio::select! {
                () = self.kill.cancelled() => {
                    self.cgroup.iter().for_each(SessionCgroup::kill);
                    self.first.kill();
                    drop(self.child.start_kill());
                    break self.child.wait().await.ok().and_then(|status| status.code());
                }
                status = self.child.wait() => break status.ok().and_then(|status| status.code()),
                line = lines.next_line(), if init_open => match line {
                    Ok(Some(line)) => told = told.or_else(|| init::parse(&line)),
                    Ok(None) | Err(_) => init_open = false,
                },
                Some(signal) = self.signals.recv() => {
                    // Never waited for: whoever keeps the init from reading must not put off the kill. What
                    // does not fit, and a line that was cut by that, is lost.
                    drop(to_init.try_write(format!("{signal}\n").as_bytes()));
                }
            }
        };
        self.first.kill();
        let rest = async {
            while let Ok(Some(line)) = lines.next_line().await {
                told = told.take().or_else(|| init::parse(&line));
            }
            self.first.gone().await;
        };
        if tokio::time::timeout(REAP, rest).await.is_err() {
            tracing::error!("a sandbox's processes outlived it by {} s", REAP.as_secs());
        }
        if let Some(cgroup) = &self.cgroup {
            let out_of_memory = cgroup.ran_out_of_memory() && told.is_none();
            cgroup.remove().await;
            if out_of_memory {
                return ExitStatus::OutOfMemory;
            }
        }
        let killed = || ExitStatus::Signal {
            name: "KILL".into(),
            core_dumped: false,
        };
        told.unwrap_or_else(|| {
            code.and_then(|code| u8::try_from(code).ok())
                .map_or_else(killed, ExitStatus::Code)
        })
    }
}
