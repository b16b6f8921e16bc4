//! What the first program of a sandbox gives up, for itself and all that it starts, before anything of an operator's runs.
//!
//! bubblewrap has made namespaces and a root by then, and taken privileges and capabilities away. Three things are left to
//! do from the inside: limits on what one session may use, Landlock rules on where it may write, and a filter of system
//! calls, which keeps most of the kernel's attack surface out of reach. What cannot be had is an error, never less.

mod calls;
mod landlock;
mod seccomp;

use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

pub use self::landlock::supported as supported_landlock_abi;

/// What a sandbox is confined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// The oldest Landlock ABI that will do; 0 if none is needed.
    pub landlock_abi: u8,
    /// Processes and threads at once.
    pub processes: u32,
    /// Open files of each process.
    pub open_files: u32,
    /// Memory of each process, in bytes: what it can write to and has to itself.
    pub memory: u64,
    /// The home directory.
    pub home: PathBuf,
}

/// Why a sandbox is not confined as it has to be.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A limit cannot be set.
    #[error("a limit on {what} cannot be set: {errno}")]
    Limit {
        /// On what.
        what: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// The kernel has an older Landlock than is needed, or none.
    #[error(
        "this kernel has Landlock ABI {has} (0: none, or not enabled at boot), and spec.sandbox.landlockAbi asks for {wanted}"
    )]
    Landlock {
        /// What it has.
        has: u8,
        /// What is needed.
        wanted: u8,
    },
    /// Landlock refused.
    #[error("Landlock: {0}")]
    Ruleset(#[from] ::landlock::RulesetError),
    /// The system call filter cannot be made.
    #[error("the system call filter: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel takes no system call filter.
    #[error("the system call filter: {0}")]
    Seccomp(#[from] seccompiler::Error),
    /// The thread that asks the kernel ended.
    #[error("the kernel cannot be asked for Landlock")]
    Unknown,
}

impl Confinement {
    /// Confines this thread, and with it whatever it starts from now on.
    pub fn apply(&self) -> Result<(), ConfineError> {
        self.limit()?;
        landlock::apply(self)?;
        seccomp::apply()
    }

    fn limit(&self) -> Result<(), ConfineError> {
        let limits = [
            // A core dump is the memory of a program in a file.
            ("core dumps", Resource::Core, 0),
            // The kernel counts them in this user namespace, so whoever has the same uid outside is another matter.
            ("processes", Resource::Nproc, self.processes.into()),
            ("open files", Resource::Nofile, self.open_files.into()),
            // Not the address space: Go reserves far more of that than it uses.
            ("memory", Resource::Data, self.memory),
        ];
        for (what, resource, most) in limits {
            let both = Rlimit {
                current: Some(most),
                maximum: Some(most),
            };
            setrlimit(resource, both).map_err(|errno| ConfineError::Limit { what, errno })?;
        }
        Ok(())
    }
}
