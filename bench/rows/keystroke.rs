//! How soon a key that is pressed comes back: `ssh` at a local terminal, a program that echoes at the remote one.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::ssh::Target;
use crate::stage::Stage;
use crate::stats::{median, percentile};
use crate::table::{Measured, Reach, Unit};

/// As a shell's line editor does it: the terminal is raw, and the program writes what it reads.
const ECHO: &str = "stty raw -echo; echo ready; exec cat";

/// Between two keys. Faster than anybody types, and slow enough for each to travel alone.
const PAUSE: Duration = Duration::from_millis(3);

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let daemon = stage.daemon()?;
    let mut sides = vec![(&daemon.target, Vec::new(), Vec::new())];
    if let Some(peer) = stage.peer() {
        sides.push((&peer.target, Vec::new(), Vec::new()));
    }
    for _ in 0..stage.of(7, 3) {
        for (target, middles, tails) in &mut sides {
            let times = type_keys(target, stage.of(1000, 300))?;
            middles.push(percentile(&times, 0.5));
            tails.push(percentile(&times, 0.99));
        }
    }
    let row = |work: &str, values: Vec<f64>, reach| Measured {
        work: work.to_owned(),
        unit: Unit::Milliseconds,
        ours: values.first().copied().unwrap_or(f64::NAN),
        peer: values.get(1).copied(),
        reach,
    };
    let p50 = sides
        .iter()
        .map(|(_, middles, _)| median(middles))
        .collect();
    let p99 = sides.iter().map(|(_, _, tails)| median(tails)).collect();
    Ok(vec![
        row("keystroke echo, p50", p50, Reach::Nothing),
        row("keystroke echo, p99", p99, Reach::Beyond(0.5)),
    ])
}

/// Milliseconds from each key to its echo.
fn type_keys(target: &Target, keys: usize) -> anyhow::Result<Vec<f64>> {
    let (mut terminal, pts) = pty_process::blocking::open()?;
    terminal.resize(pty_process::Size::new(24, 80))?;
    let command = pty_process::blocking::Command::new("ssh")
        .arg("-tt")
        .args(target.args())
        .arg(ECHO);
    let mut ssh = command.spawn(pts)?;
    let typed = wait_for_ready(&mut terminal).and_then(|()| echo(&mut terminal, keys));
    // `cat` in a raw terminal has no end of its own.
    drop(ssh.kill());
    ssh.wait()?;
    typed
}

fn echo(terminal: &mut (impl Read + Write), keys: usize) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(keys);
    for key in (b'a'..=b'z').cycle().take(keys) {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        terminal.write_all(&[key])?;
        let mut back = [0];
        terminal.read_exact(&mut back)?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        if back != [key] {
            bail!("typed {key:?}, and {back:?} came back");
        }
    }
    Ok(times)
}

fn wait_for_ready(terminal: &mut impl Read) -> anyhow::Result<()> {
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"ready\n") {
        terminal
            .read_exact(&mut byte)
            .with_context(|| format!("no echo, but {:?}", String::from_utf8_lossy(&said)))?;
        said.extend(byte);
    }
    Ok(())
}
