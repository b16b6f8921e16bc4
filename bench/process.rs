//! A process that was started here, and what `/proc` knows of processes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::ending;

/// How long a process may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Runs a command to its end, with something to read.
pub(crate) fn fed(command: &mut Command, stdin: &str) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {program}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(stdin.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed: {}", said.trim());
    }
    Ok(())
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

/// How many sockets a process has open.
pub(crate) fn sockets(pid: u32) -> anyhow::Result<usize> {
    let mut sockets = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // It may have been closed since.
        let target = std::fs::read_link(entry?.path()).unwrap_or_default();
        sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
    }
    Ok(sockets)
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
