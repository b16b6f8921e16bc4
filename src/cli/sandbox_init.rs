//! `bastion-audit sandbox-init`: what runs first inside a sandbox. Not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bastion_audit::launch::confine::Confinement;
use bastion_audit::launch::{init, skeleton};

/// Run a command inside a sandbox and tell the daemon how it ended
#[derive(Debug, clap::Args)]
pub(crate) struct SandboxInit {
    /// The oldest Landlock ABI that will do; 0 if none is needed
    #[arg(long)]
    landlock_abi: u8,
    /// Processes and threads at once
    #[arg(long)]
    processes: u32,
    /// Open files of each process
    #[arg(long)]
    open_files: u32,
    /// Bytes of memory of each process
    #[arg(long)]
    memory: u64,
    /// The home directory
    #[arg(long)]
    home: PathBuf,
    /// A directory that it begins as a copy of
    #[arg(long)]
    skeleton: Option<PathBuf>,
    /// The daemon's socket; without one, only try whether a sandbox can be confined
    socket: Option<PathBuf>,
    /// The command
    #[arg(last = true)]
    command: Vec<std::ffi::OsString>,
}

impl SandboxInit {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let confinement = Confinement {
            landlock_abi: self.landlock_abi,
            processes: self.processes,
            open_files: self.open_files,
            memory: self.memory,
            home: self.home,
        };
        // Before anything else: whoever comes later finds it done.
        confinement.apply()?;
        if let Some(skeleton) = self.skeleton {
            skeleton::copy(&skeleton, &confinement.home)?;
        }
        if let Some(socket) = self.socket {
            init::run(&socket, &self.command).context("starting the command")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
