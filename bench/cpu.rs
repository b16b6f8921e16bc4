//! CPU time of a server with everything that it starts, by a control group of its own.
//!
//! Adding up what parents have waited for does not do: OpenSSH 9.2's monitor exits without waiting for the process that
//! ran the command, and what `kubectl` took would not count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::ending;

/// The group of some processes and of all that come from them.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    group: PathBuf,
}

impl CpuMeter {
    /// Counts from now on. Needs root and cgroup v2, mounted anywhere; no controller.
    pub(crate) fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let first = pids.first().context("no process")?;
        let group = mount()?.join(format!("bastion-bench-{first}"));
        std::fs::create_dir(&group)
            .with_context(|| format!("creating the control group {}", group.display()))?;
        let gone = group.clone();
        // Asked for before the group has a process, done after the process was stopped: it was started earlier.
        ending::at_last(move || drop(std::fs::remove_dir(&gone)));
        for pid in pids {
            std::fs::write(group.join("cgroup.procs"), pid.to_string())
                .context("moving a server into its control group")?;
        }
        Ok(Self { group })
    }

    /// User and system time so far.
    pub(crate) fn read(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(self.group.join("cpu.stat"))?;
        stat.lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
            .and_then(|number| number.parse().ok())
            .map(Duration::from_micros)
            .context("cpu.stat has no usage_usec")
    }
}

fn mount() -> anyhow::Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    mounts
        .lines()
        .find_map(|line| {
            let mut fields = line.split(' ');
            let (_device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| Path::new(at).to_owned())
        })
        .context("cgroup v2 is not mounted")
}
