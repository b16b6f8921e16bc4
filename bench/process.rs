//! A process that was started here, and what `/proc` knows of processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::ending;

/// How long a process may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ticks of `/proc/PID/stat` in a second: 100 on every Linux, whatever the kernel's own clock does.
const TICKS: u64 = 100;

/// A process that ends with this run, by its id.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: u32,
    child: Arc<Mutex<Option<Child>>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let process = Self {
            pid: child.id(),
            child: Arc::new(Mutex::new(Some(child))),
        };
        let at_end = process.clone();
        ending::then(move || at_end.stop());
        Ok(process)
    }

    /// The first line on its standard output, which must be piped.
    pub(crate) fn first_line(&self) -> anyhow::Result<String> {
        let stdout = self.stdout().context("its output is not piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("it said nothing and ended");
        }
        Ok(line)
    }

    /// Its standard output, if that is piped and nobody has it yet.
    pub(crate) fn stdout(&self) -> Option<ChildStdout> {
        self.child().as_mut()?.stdout.take()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGTERM and, after [`PATIENCE`], SIGKILL. Returns when it is gone; does nothing the second time.
    pub(crate) fn stop(&self) {
        let Some(mut child) = self.child().take() else {
            return;
        };
        // Where the end of its input is the sign to end.
        drop(child.stdin.take());
        // Gone already is as good.
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap_or(());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(child.kill());
        drop(child.wait());
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Runs a command to its end and answers what it printed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// CPU time of a process and of all its descendants that have ended and were waited for, user and system.
///
/// The kernel hands a descendant's time up when its parent waits for it; sshd and the daemon wait for all of theirs.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("/proc/PID/stat")?.1;
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), the state after the name being field 3.
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Proportional set size in KiB: private memory, and a fair share of what is shared.
pub(crate) fn pss(pid: u32) -> anyhow::Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
        .context("/proc/PID/smaps_rollup has no Pss")
}

/// The processes below `pid` whose program is called `name`, at any depth.
pub(crate) fn descendants(pid: u32, name: &str) -> anyhow::Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        let Some((before, after)) = stat.rsplit_once(')') else {
            continue;
        };
        let called = before
            .split_once('(')
            .map_or("", |(_, called)| called)
            .to_owned();
        let parent = after
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok());
        all.push((id, parent.unwrap_or(0_u32), called));
    }
    let mut family = vec![pid];
    let mut named = Vec::new();
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        next += 1;
        for (id, of, called) in &all {
            if *of == parent {
                family.push(*id);
                if called == name {
                    named.push(*id);
                }
            }
        }
    }
    Ok(named)
}
