//! A control group (cgroup v2) for each session: what all of its processes may take together, and one word that ends them
//! all. The kernel's own documentation is Documentation/admin-guide/cgroup-v2.rst.
//!
//! The daemon makes them below a group of its own: the one that it was started in, if systemd or whoever else has handed that over to it
//! (`Delegate=yes`), or one that the configuration names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;
use tokio::time::sleep;

use crate::config::{CgroupPlace, Sandbox};
use crate::session::SessionId;

/// What a session's group is called, before its id.
const SESSION: &str = "session-";
/// Where the daemon itself goes: a group with groups in it has no processes of its own.
const DAEMON: &str = "daemon";
/// The daemon's share of a processor that is fought for; each session's is 100.
const WEIGHT: &str = "1000";
/// How cpu.max is written: microseconds of each of these.
const PERIOD: u64 = 100_000;
/// An empty group can be removed as soon as the kernel has buried its last process.
const REMOVE: [u64; 5] = [1, 5, 20, 100, 500];

/// Why sessions have no control groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is none that the daemon may use.
    #[error(
        "there is no control group (cgroup v2) to make sessions' own in: {0}; run the daemon with Delegate=yes, \
         name one as spec.sandbox.cgroup, or leave sessionMemory and sessionCpus out"
    )]
    None(&'static str),
    /// It lacks what a limit needs.
    #[error("the control group {path} has no '{controller}' controller, which {limit} needs")]
    NoController {
        /// Which group.
        path: PathBuf,
        /// As the kernel calls it.
        controller: &'static str,
        /// The key of the configuration.
        limit: &'static str,
    },
    /// The kernel refused.
    #[error("the control group {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where sessions' groups are made.
#[derive(Debug)]
pub(super) struct Cgroups {
    dir: PathBuf,
    limits: Vec<(&'static str, String)>,
}

impl Cgroups {
    /// Opens the place that the configuration wants; what an earlier run left there is ended and removed. `None`: there are to be none.
    pub(super) fn open(sandbox: &Sandbox) -> Result<Option<Self>, CgroupError> {
        let place = match &sandbox.cgroup {
            CgroupPlace::Off => Err("it is turned off (cgroup: off)"),
            CgroupPlace::At(path) => named(path).map(Some),
            CgroupPlace::Auto => own(),
        };
        let dir = match place {
            Ok(Some(dir)) => dir,
            Ok(None) => return Ok(None),
            Err(why) if needed(sandbox).next().is_some() => return Err(CgroupError::None(why)),
            Err(why) => {
                tracing::info!("sessions have no control groups of their own: {why}");
                return Ok(None);
            }
        };
        make_ready(&dir, &sandbox.cgroup)?;
        let has = read(&dir.join("cgroup.controllers"))?;
        let has: Vec<&str> = has.split_whitespace().collect();
        for (controller, limit) in needed(sandbox) {
            if !has.contains(&controller) {
                return Err(CgroupError::NoController {
                    path: dir,
                    controller,
                    limit,
                });
            }
        }
        let cgroups = Self {
            limits: limits(sandbox, &has),
            dir,
        };
        cgroups.sweep()?;
        tracing::info!(dir = %cgroups.dir.display(), "each session has a control group of its own");
        Ok(Some(cgroups))
    }

    /// Makes a session's own.
    pub(super) fn make(&self, session: SessionId) -> Result<SessionCgroup, CgroupError> {
        let path = self.dir.join(format!("{SESSION}{session}"));
        fs::create_dir(&path).map_err(failed(&path))?;
        let group = SessionCgroup { path };
        for (file, value) in &self.limits {
            write(&group.path.join(file), value)?;
        }
        Ok(group)
    }

    fn sweep(&self) -> Result<(), CgroupError> {
        for entry in fs::read_dir(&self.dir).map_err(failed(&self.dir))? {
            let entry = entry.map_err(failed(&self.dir))?;
            if entry.file_name().to_string_lossy().starts_with(SESSION) {
                // Ends and removes it.
                drop(SessionCgroup { path: entry.path() });
            }
        }
        Ok(())
    }
}

/// A session's group. All in it ends, and it goes, when this is dropped.
#[derive(Debug)]
pub(super) struct SessionCgroup {
    path: PathBuf,
}

impl SessionCgroup {
    /// Takes a process in, and with it whatever it starts from now on.
    pub(super) fn enter(&self, pid: Pid) -> Result<(), CgroupError> {
        let pid = pid.as_raw_nonzero().to_string();
        write(&self.path.join("cgroup.procs"), &pid)
    }

    /// Ends all in it.
    pub(super) fn kill(&self) {
        // Since Linux 5.14; process 1 of the sandbox is killed in any case, and takes the rest along.
        if let Err(error) = write(&self.path.join("cgroup.kill"), "1") {
            tracing::debug!("{error}");
        }
    }

    /// Whether the kernel ended something in it for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let events = read(&self.path.join("memory.events")).unwrap_or_default();
        events
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|kills| kills.trim() != "0")
    }

    /// Removes it, once its last process is gone. What stays is removed at the next start.
    pub(super) async fn remove(&self) {
        for wait in REMOVE {
            if self.is_removed() {
                return;
            }
            sleep(Duration::from_millis(wait)).await;
        }
        tracing::warn!("the control group {} is left", self.path.display());
    }

    fn is_removed(&self) -> bool {
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

impl Drop for SessionCgroup {
    fn drop(&mut self) {
        if !self.is_removed() {
            self.kill();
            self.is_removed();
        }
    }
}

/// What the limits that are configured cannot do without: the controller, and the limit's name.
fn needed(sandbox: &Sandbox) -> impl Iterator<Item = (&'static str, &'static str)> {
    let memory = sandbox.session_memory.map(|_| ("memory", "sessionMemory"));
    let cpu = sandbox.session_cpus.map(|_| ("cpu", "sessionCpus"));
    memory.into_iter().chain(cpu)
}

/// The files of a session's group, and what is written into them.
fn limits(sandbox: &Sandbox, has: &[&str]) -> Vec<(&'static str, String)> {
    let mut limits = Vec::new();
    if has.contains(&"pids") {
        // The limit of each uid holds as well, but that one can be raised by who has several.
        limits.push(("pids.max", sandbox.processes.to_string()));
    }
    if let Some(bytes) = sandbox.session_memory {
        limits.push(("memory.max", bytes.to_string()));
        limits.push(("memory.swap.max", "0".to_owned()));
        // A session that lost a process at random is worse than one that has ended.
        limits.push(("memory.oom.group", "1".to_owned()));
    }
    if let Some(cpus) = sandbox.session_cpus {
        let each = u64::from(cpus) * PERIOD;
        limits.push(("cpu.max", format!("{each} {PERIOD}")));
    }
    limits
}

/// The group that the configuration names.
fn named(path: &Path) -> Result<PathBuf, &'static str> {
    let relative = path
        .strip_prefix("/")
        .map_err(|_| "its path is not absolute")?;
    Ok(mount()?.join(relative))
}

/// The group that this process was started in, if it was handed over.
fn own() -> Result<Option<PathBuf>, &'static str> {
    let text =
        fs::read_to_string("/proc/self/cgroup").map_err(|_| "/proc/self/cgroup is not there")?;
    let path = of_version_2(&text).ok_or("this process is in none")?;
    if path == Path::new("/") {
        return Err("this process is in the root group");
    }
    let dir = mount()?.join(path.strip_prefix("/").unwrap_or(path));
    // An earlier daemon that was replaced in place has moved to where daemons go.
    let dir = match dir.file_name() {
        Some(name) if name == DAEMON => dir.parent().unwrap_or(&dir).to_owned(),
        _ => dir,
    };
    match is_delegated(&dir) {
        true => Ok(Some(dir)),
        false => Err("the one that this process is in was not delegated to it"),
    }
}

fn of_version_2(text: &str) -> Option<&Path> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(path))
}

/// As systemd marks what it hands over (its docs/CGROUP_DELEGATION.md).
fn is_delegated(dir: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0_u8; 8];
        matches!(rustix::fs::getxattr(dir, *name, &mut value), Ok(1) if value[0] == b'1')
    })
}

/// Where cgroup v2 is mounted.
fn mount() -> Result<PathBuf, &'static str> {
    let mounts =
        fs::read_to_string("/proc/self/mounts").map_err(|_| "/proc/self/mounts is not there")?;
    mounted(&mounts).ok_or("cgroup v2 is not mounted")
}

fn mounted(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, path, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// The group exists, has no process of its own, and gives its children what there is to give.
fn make_ready(dir: &Path, place: &CgroupPlace) -> Result<(), CgroupError> {
    fs::create_dir_all(dir).map_err(failed(dir))?;
    match place {
        CgroupPlace::Auto => {
            let daemon = dir.join(DAEMON);
            fs::create_dir_all(&daemon).map_err(failed(&daemon))?;
            let pid = std::process::id().to_string();
            write(&daemon.join("cgroup.procs"), &pid)?;
            hand_down(dir);
            // Where there is no cpu controller there is nothing to share.
            drop(write(&daemon.join("cpu.weight"), WEIGHT));
        }
        _ => {
            // What is above it may not hand anything down yet.
            for parent in dir
                .ancestors()
                .skip(1)
                .take_while(|parent| parent.join("cgroup.procs").exists())
            {
                hand_down(parent);
            }
            hand_down(dir);
        }
    }
    Ok(())
}

/// One after the other: what there is not must not keep the rest. Whether it is enough is asked afterwards.
fn hand_down(dir: &Path) {
    for controller in ["+pids", "+memory", "+cpu"] {
        if let Err(error) = write(&dir.join("cgroup.subtree_control"), controller) {
            tracing::debug!("{controller}: {error}");
        }
    }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(failed(path))
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    match written {
        // A process that has ended needs no limit.
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
        written => written.map_err(failed(path)),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let hybrid = "8:pids:/\n4:memory:/a\n0::/system.slice/bastion-audit.service\n";
        let path = of_version_2(hybrid).unwrap();
        assert_eq!(path, Path::new("/system.slice/bastion-audit.service"));
        assert_eq!(of_version_2("8:pids:/\n"), None);
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(mounted(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mounted("proc /proc proc rw 0 0\n"), None);
    }
}
