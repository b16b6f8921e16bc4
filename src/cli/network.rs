//! `bastion-audit network`: the part of the daemon that speaks SSH. Not for people.

use std::num::NonZero;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bastion_audit::network::{self, Confinement};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Speak SSH for the daemon that started this
#[derive(Debug, clap::Args)]
pub(crate) struct Network {
    /// The uid and gid to take
    #[arg(long)]
    uid: Option<u32>,
    /// Write logs as JSON lines
    #[arg(long)]
    log_json: bool,
}

impl Network {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        super::inherited::close().context("closing inherited files")?;
        super::logging::to_stderr(self.log_json);
        let control = std::io::stdin().as_fd().try_clone_to_owned()?;
        let control = UnixStream::from(control);
        control
            .peer_addr()
            .context("`bastion-audit serve` starts this; it does nothing for people")?;
        // So that a person who looks at processes sees which is which.
        rustix::thread::set_name(c"bastion-network")?;
        // The daemon says when to stop. A service manager that signals everybody must not overtake it.
        let ignored = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&ignored))?;
        }
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let confinement = Confinement { uid: self.uid };
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
