//! What the network process gives up before it hears the first word.
//!
//! It needs its sockets, memory, time and threads. All the rest of the kernel does not exist for it.

use std::collections::BTreeMap;

use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr as _, RulesetError,
    Scope,
};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The newest Landlock rights that are used here.
const NEWEST: ABI = ABI::V8;

/// What the process is confined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// The uid and gid that it takes, when it starts as root.
    pub uid: Option<u32>,
    /// Whether it ends when the thread that started it does: whoever has taken it over may not keep the address and the host
    /// keys when the daemon is gone.
    pub with_parent: bool,
}

/// Why it is not confined as it has to be.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// It cannot become nobody.
    #[error("it cannot take uid {uid}: {errno}")]
    Uid {
        /// Which one.
        uid: u32,
        /// Why not.
        errno: nix::Error,
    },
    /// Something that every process may do.
    #[error("{what}: {errno}")]
    Process {
        /// What.
        what: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// Landlock refused.
    #[error("Landlock: {0}")]
    Ruleset(#[from] RulesetError),
    /// The system call filter cannot be made.
    #[error("the system call filter: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel takes no system call filter.
    #[error("the system call filter: {0}")]
    Seccomp(#[from] seccompiler::Error),
}

impl Confinement {
    /// Confines this thread and all that it starts. To be called while there is no other.
    ///
    /// # Errors
    ///
    /// Whatever cannot be had: never less.
    pub fn apply(&self) -> Result<(), ConfineError> {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        let process = |what| move |errno| ConfineError::Process { what, errno };
        setrlimit(Resource::Core, none).map_err(process("core dumps"))?;
        match self.uid {
            Some(uid) => become_nobody(uid)?,
            None => drop_capabilities().map_err(process("capabilities"))?,
        }
        // A change of uid sets both back.
        if self.with_parent {
            let end = set_parent_process_death_signal(Some(Signal::KILL));
            end.map_err(process("its end"))?;
        }
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(process("dumpable"))?;
        landlock()?;
        // In this order: what is listed has no further filter in it.
        for filter in [without_clone3()?, listed()?] {
            seccompiler::apply_filter(&filter)?;
        }
        Ok(())
    }
}

/// No file, no connection, no signal to anybody else, as far as this kernel knows such rules. The filter of system calls is there
/// in any case, and says the same more bluntly.
fn landlock() -> Result<(), ConfineError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    if !matches!(status.landlock, LandlockStatus::Available { .. }) {
        tracing::warn!(
            "this kernel has no Landlock: of two walls around the network process one is missing"
        );
    }
    Ok(())
}

/// All capabilities go with root.
fn become_nobody(uid: u32) -> Result<(), ConfineError> {
    let failed = |errno| ConfineError::Uid { uid, errno };
    let gid = Gid::from_raw(uid);
    setgroups(&[]).map_err(failed)?;
    setgid(gid).map_err(failed)?;
    setuid(Uid::from_raw(uid)).map_err(failed)
}

/// Where there are none, nothing is asked for: a service manager may have taken that system call away.
fn drop_capabilities() -> Result<(), Errno> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    match capabilities(None)? == none {
        true => Ok(()),
        false => set_capabilities(None, none),
    }
}

/// What it may do. `socket`, `connect`, `openat`, `execve`, `kill` and `ptrace` are not here.
const LISTED: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mlock,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The older forms of the same, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const LISTED_HERE: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const LISTED_HERE: &[i64] = &[];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn listed() -> Result<BpfProgram, ConfineError> {
    let numbers = LISTED.iter().chain(LISTED_HERE);
    let mut rules: Rules = numbers.map(|number| (*number, Vec::new())).collect();
    // A further filter says that it does not exist, so that threads are made by the other one.
    rules.insert(libc::SYS_clone3, Vec::new());
    let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or_default();
    let is = |argument, comparison, value| -> Result<Vec<SeccompRule>, ConfineError> {
        let condition =
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    rules.insert(
        libc::SYS_clone,
        is(0, SeccompCmpOp::MaskedEq(thread), thread)?,
    );
    let unix = u64::try_from(libc::AF_UNIX).unwrap_or_default();
    rules.insert(libc::SYS_socketpair, is(0, SeccompCmpOp::Eq, unix)?);
    rules.insert(libc::SYS_ioctl, is(1, SeccompCmpOp::Eq, libc::FIONBIO)?);
    let name = u64::try_from(libc::PR_SET_NAME).unwrap_or_default();
    rules.insert(libc::SYS_prctl, is(0, SeccompCmpOp::Eq, name)?);
    program(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
    )
}

fn without_clone3() -> Result<BpfProgram, ConfineError> {
    program(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )
}

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> Result<BpfProgram, ConfineError> {
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(rules, otherwise, then, here)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// In a thread of its own, which stays confined; the uid is the whole process's.
    fn confined<T: Send + 'static>(then: impl FnOnce() -> T + Send + 'static) -> T {
        let confined = std::thread::spawn(|| {
            Confinement {
                uid: None,
                with_parent: false,
            }
            .apply()
            .unwrap();
            then()
        });
        confined.join().unwrap()
    }

    #[test]
    fn nothing_is_opened_started_connected_or_signalled() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = path.with_extension("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let pid = rustix::process::getpid();
        let neighbour = socket.clone();
        let done = confined(move || {
            let dir = path.parent().unwrap().to_owned();
            [
                ("read a file", std::fs::read(&path).map(drop)),
                ("write a file", std::fs::write(&path, "x")),
                (
                    "make a file",
                    std::fs::write(path.with_extension("new"), "x"),
                ),
                ("remove a file", std::fs::remove_file(&path)),
                ("list a directory", std::fs::read_dir(dir).map(drop)),
                (
                    "run a program",
                    std::process::Command::new("/bin/true").status().map(drop),
                ),
                ("connect", std::net::TcpStream::connect(address).map(drop)),
                (
                    "listen",
                    std::net::TcpListener::bind("127.0.0.1:0").map(drop),
                ),
                ("send", std::net::UdpSocket::bind("127.0.0.1:0").map(drop)),
                (
                    "connect to a neighbour",
                    UnixStream::connect(&neighbour).map(drop),
                ),
                (
                    "signal",
                    rustix::process::test_kill_process(pid).map_err(Into::into),
                ),
                (
                    "trace",
                    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
                        .map(drop)
                        .map_err(Into::into),
                ),
            ]
        });
        for (what, outcome) in done {
            let error = outcome.expect_err(what);
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::PermissionDenied,
                "{what}: {error}"
            );
        }
        std::fs::remove_file(socket).unwrap();
    }

    #[test]
    fn what_it_lives_on_is_there() {
        confined(|| {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let echo = std::thread::spawn(move || {
                let mut word = [0; 4];
                other.read_exact(&mut word).unwrap();
                other.write_all(&word).unwrap();
            });
            one.write_all(b"word").unwrap();
            let mut word = [0; 4];
            one.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"word");
            echo.join().unwrap();
        });
    }
}
