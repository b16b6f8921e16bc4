//! Watches a running sandbox to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::session_dir::SessionDir;
use super::uids::Uid;
use super::{ExitStatus, init};

/// From killing bubblewrap to the last process of its sandbox being gone.
const REAP: Duration = Duration::from_secs(2);

/// A running sandbox, watched to its end.
pub(super) struct Supervised {
    pub(super) child: Child,
    pub(super) init: UnixStream,
    pub(super) signals: mpsc::Receiver<String>,
    pub(super) kill: CancellationToken,
    pub(super) _uid: Option<Uid>,
    pub(super) _dir: Arc<SessionDir>,
}

impl Supervised {
    pub(super) async fn run(mut self) -> ExitStatus {
        let (init, mut to_init) = self.init.split();
        // One short line comes from there; whoever forges a long one gets it cut.
        let mut lines = BufReader::with_capacity(256, init.take(256)).lines();
        let mut told = None;
        let mut init_open = true;
        let code = loop {
            tokio::select! {
                () = self.kill.cancelled() => {
                    drop(self.child.start_kill());
                    break self.child.wait().await.ok().and_then(|status| status.code());
                }
                status = self.child.wait() => break status.ok().and_then(|status| status.code()),
                line = lines.next_line(), if init_open => match line {
                    Ok(Some(line)) => told = told.or_else(|| init::parse(&line)),
                    Ok(None) | Err(_) => init_open = false,
                },
                Some(signal) = self.signals.recv() => {
                    // It may be gone already.
                    drop(to_init.write_all(format!("{signal}\n").as_bytes()).await);
                }
            }
        };
        // The init's end of the socket closes when the kernel has ended the sandbox's processes.
        let rest = async {
            while let Ok(Some(line)) = lines.next_line().await {
                told = told.take().or_else(|| init::parse(&line));
            }
        };
        if tokio::time::timeout(REAP, rest).await.is_err() {
            tracing::error!("a sandbox's processes outlived it by {} s", REAP.as_secs());
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
