//! Runs the operator's command, out of reach of everything that is the daemon's.

mod arguments;
pub mod cgroup;
pub mod confine;
mod handover;
pub mod init;
pub mod inside;
mod io;
mod output;
mod sandbox;
mod session_dir;
pub mod skeleton;
mod supervise;
mod terminal;
mod uids;

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use io::{Exit, Input, Running};
pub use output::Output;
pub use sandbox::BubblewrapLauncher;

use crate::config::Name;
use crate::messages::Terminal;
use crate::session::SessionId;

/// What to run, and what it may see.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The session.
    pub session: SessionId,
    /// Who runs it: the user name inside.
    pub identity: &'a Name,
    /// Under which role: for the prompt.
    pub role: &'a Name,
    /// Where: for the prompt and the kubeconfig's context.
    pub cluster: &'a Name,
    /// A command line for `sh -c`, or an interactive shell.
    pub command: Option<Bytes>,
    /// The terminal, if there is one.
    pub terminal: Option<&'a Terminal>,
    /// Programs that it is shown besides everybody's.
    pub tools: &'a [PathBuf],
    /// Whether there is a way to hosts besides the cluster: programs are told of it.
    pub egress: bool,
    /// PEM of the authority that kubectl inside verifies its API server by: the gateway's.
    pub gateway_ca: &'a str,
}

/// Runs commands.
#[async_trait]
pub trait Launcher: Send + Sync + std::fmt::Debug {
    /// Starts one. It runs until it ends or [`Running`] is dropped; nothing of it outlives that.
    async fn launch(&self, launch: Launch<'_>) -> Result<Running, LaunchError>;
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// With a status.
    Code(u8),
    /// By a signal.
    Signal {
        /// RFC 4254 name, without `SIG`.
        name: String,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// The kernel ended all of it, because it used more memory than a session may.
    OutOfMemory,
}

/// What can be done to a running command.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) signals: tokio::sync::mpsc::Sender<String>,
    pub(crate) kill: CancellationToken,
}

impl Control {
    /// Sends it a signal by its RFC 4254 name; unknown ones are ignored, and so is one too many.
    pub fn signal(&self, name: &str) {
        if self.signals.try_send(name.to_owned()).is_err() {
            tracing::debug!("a signal was dropped: too many under way");
        }
    }

    /// Ends it at once, and everything that it started.
    pub fn kill(&self) {
        self.kill.cancel();
    }
}

/// Why no command runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// bubblewrap is not there.
    #[error("{path} cannot be run: {source}; install bubblewrap or set spec.sandbox.bubblewrap")]
    NoBubblewrap {
        /// What was tried.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// bubblewrap was refused, mostly by the kernel's or AppArmor's rules on user namespaces.
    #[error(
        "the sandbox did not start: {stderr}; bubblewrap must be 0.7 or newer, and user namespaces allowed \
         (on Ubuntu 24.04 install examples/deploy/apparmor/bwrap)"
    )]
    Refused {
        /// bubblewrap's own words.
        stderr: String,
    },
    /// The sandbox cannot be confined as it has to be.
    #[error("the sandbox cannot be confined: {stderr}")]
    Unconfined {
        /// The init's own words.
        stderr: String,
    },
    /// A session cannot have the control group that it has to have.
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    /// A path of the configuration cannot be shown in the sandbox.
    #[error("{path} cannot be shown in a sandbox: {reason}")]
    Path {
        /// Which one.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Every OS uid of `spec.sandbox` is in use.
    #[error("all {count} OS uids of spec.sandbox are in use; raise uidCount")]
    NoUid {
        /// How many there are.
        count: u32,
    },
    /// The session's directory, its terminal or its pipes could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl LaunchError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
