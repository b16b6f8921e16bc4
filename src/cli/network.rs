//! `bastion-audit network`: the part of the daemon that speaks SSH.

use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use bastion_audit::network::{self, Confinement};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How long a daemon may take to make its socket.
const FOR_A_DAEMON: Duration = Duration::from_secs(30);

/// Speak SSH for a daemon of this host that has `spec.network.socket`
///
/// Confined to what the daemon hands over: the listening socket and the host keys. Without `spec.network` the daemon starts
/// this by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Network {
    /// The daemon's socket (spec.network.socket)
    #[arg(long, value_name = "SOCKET")]
    connect: Option<PathBuf>,
    /// The uid and gid to take
    #[arg(long, hide = true)]
    uid: Option<u32>,
    /// Write logs as JSON lines
    #[arg(long)]
    log_json: bool,
}

impl Network {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        super::inherited::close().context("closing inherited files")?;
        super::logging::to_stderr(self.log_json);
        let control = match &self.connect {
            Some(socket) => connect(socket)?,
            None => inherited_socket()?,
        };
        // So that a person who looks at processes sees which is which.
        rustix::thread::set_name(c"bastion-network")?;
        // The daemon says when to stop. A service manager that signals everybody must not overtake it.
        let ignored = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&ignored))?;
        }
        // The daemon works beside it: as many threads as processors would wait for each other's.
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.div_ceil(2);
        let confinement = Confinement {
            uid: self.uid,
            with_parent: self.connect.is_none(),
        };
        // Before there is another thread, and before the first word from outside.
        confinement.apply().context("confining this process")?;
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_io()
            .enable_time()
            .build()
            .context("starting the runtime")?
            .block_on(network::serve(control))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits for a daemon that starts at the same time.
fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let mut left = FOR_A_DAEMON;
    loop {
        match UnixStream::connect(socket) {
            Ok(control) => return Ok(control),
            Err(_) if !left.is_zero() => {
                let pause = Duration::from_millis(100);
                std::thread::sleep(pause);
                left = left.saturating_sub(pause);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "connecting to {}: the daemon must run, with this as its spec.network.socket",
                        socket.display()
                    )
                });
            }
        }
    }
}

fn inherited_socket() -> anyhow::Result<UnixStream> {
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    control.peer_addr().context(
        "name the daemon's socket with --connect (spec.network.socket); a daemon without one starts this by itself",
    )?;
    Ok(control)
}
