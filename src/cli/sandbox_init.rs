//! `bastion-audit sandbox-init`: what runs first inside a sandbox. Not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Run a command inside a sandbox and tell the daemon how it ended
#[derive(Debug, clap::Args)]
pub(crate) struct SandboxInit {
    /// The daemon's socket
    socket: PathBuf,
    /// The command
    #[arg(required = true, last = true)]
    command: Vec<std::ffi::OsString>,
}

impl SandboxInit {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        bastion_audit::launch::init::run(&self.socket, &self.command)
            .context("starting the command")?;
        Ok(ExitCode::SUCCESS)
    }
}
