//! How soon an operator has a prompt, and how many commands a second can begin.

use std::io::Read;
use std::time::Instant;

use anyhow::Context;

use crate::lean::LeanClient;
use crate::ssh::Target;
use crate::stage::Stage;
use crate::stats::median;
use crate::table::{Measured, Reach, Unit};

/// Logins under way at once.
const AT_ONCE: usize = 4;

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let daemon = stage.daemon()?;
    let peer = stage.peer().map(|peer| &peer.target);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..stage.of(40, 10) {
        ours.push(prompt(&daemon.target)?);
        if let Some(peer) = peer {
            theirs.push(prompt(peer)?);
        }
    }
    let each = stage.of(100, 20);
    let rate = |target: &Target| logins(target, each);
    let mut rates = (Vec::new(), Vec::new());
    for _ in 0..stage.of(5, 3) {
        rates.0.push(rate(&daemon.target)?);
        if let Some(peer) = peer {
            rates.1.push(rate(peer)?);
        }
    }
    let of_peer = |values: &[f64]| (!values.is_empty()).then(|| median(values));
    Ok(vec![
        Measured {
            work: "ssh: from its start to a shell's prompt, p50".to_owned(),
            unit: Unit::Milliseconds,
            ours: median(&ours),
            peer: of_peer(&theirs),
            reach: Reach::Under(60.0),
        },
        Measured {
            work: format!("logins that run a command, {AT_ONCE} at once"),
            unit: Unit::PerSecond,
            ours: median(&rates.0),
            peer: of_peer(&rates.1),
            reach: Reach::Share(3.0),
        },
    ])
}

/// Milliseconds from the start of `ssh` at a terminal to the end of the first prompt.
fn prompt(target: &Target) -> anyhow::Result<f64> {
    let (mut terminal, pts) = pty_process::blocking::open()?;
    terminal.resize(pty_process::Size::new(24, 80))?;
    let began = Instant::now();
    let command = pty_process::blocking::Command::new("ssh")
        .arg("-tt")
        .args(target.args());
    let mut ssh = command.spawn(pts)?;
    let mut said = Vec::new();
    let mut chunk = [0; 512];
    let seen = loop {
        match terminal.read(&mut chunk).context("no prompt") {
            Ok(n) => said.extend(chunk.iter().take(n)),
            Err(error) => break Err(error),
        }
        // An operator's, and root's.
        if said.ends_with(b"$ ") || said.ends_with(b"# ") {
            break Ok(began.elapsed().as_secs_f64() * 1000.0);
        }
    };
    drop(ssh.kill());
    ssh.wait()?;
    seen.with_context(|| format!("{:?}", String::from_utf8_lossy(&said)))
}

/// Logins a second, each with a connection of its own.
fn logins(target: &Target, each: u32) -> anyhow::Result<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let client = LeanClient::new()?;
                    (0..each).try_for_each(|_| client.time(target, "echo done").map(drop))
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| {
            let done = client.join();
            done.map_err(|_| anyhow::anyhow!("a client panicked"))?
        })
    })?;
    Ok(AT_ONCE as f64 * f64::from(each) / began.elapsed().as_secs_f64())
}
