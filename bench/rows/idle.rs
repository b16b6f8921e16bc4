//! Memory of sessions in which nothing happens: one connection each, with a recorded shell.

use std::io::Read;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::process::{Process, descendants, pss};
use crate::ssh::Target;
use crate::stage::Stage;
use crate::table::{Measured, Reach, Unit};

/// For whatever is still on its way after a prompt was shown.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let sessions = stage.of(100, 30);
    let ours = {
        let daemon = stage.daemon()?;
        // What the first session of a daemon starts for all is no session's own.
        daemon.target.time(&["-tt"], "true")?;
        grown(&daemon.target, sessions, || {
            daemon.processes()?.into_iter().map(pss).sum()
        })?
    };
    let peer = match stage.peer() {
        Some(peer) => Some(grown(&peer.target, sessions, || {
            let mut all = pss(peer.pid())?;
            for child in descendants(peer.pid(), "sshd")? {
                all += pss(child)?;
            }
            Ok(all)
        })?),
        None => None,
    };
    let row = |work: String, of: fn(&Grown) -> f64, reach| Measured {
        work,
        unit: Unit::Kibibytes,
        ours: of(&ours),
        peer: peer.as_ref().map(of),
        reach,
    };
    Ok(vec![
        row(
            "idle session, server memory (PSS)".into(),
            Grown::each,
            Reach::Under(128.0),
        ),
        row(
            format!("the server with {sessions} idle sessions"),
            |grown| grown.after,
            Reach::Nothing,
        ),
    ])
}

/// KiB without any session and with all.
struct Grown {
    sessions: u32,
    before: f64,
    after: f64,
}

impl Grown {
    fn each(&self) -> f64 {
        (self.after - self.before) / f64::from(self.sessions)
    }
}

fn grown(
    target: &Target,
    sessions: u32,
    memory: impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<Grown> {
    std::thread::sleep(SETTLE);
    let before = memory()?;
    let mut clients = Vec::new();
    for _ in 0..sessions {
        clients.push(shell(target)?);
    }
    std::thread::sleep(SETTLE);
    let after = memory()?;
    for (client, _stdout) in clients {
        client.stop();
    }
    Ok(Grown {
        sessions,
        before,
        after,
    })
}

/// A shell that has shown its prompt, for as long as both are held.
fn shell(target: &Target) -> anyhow::Result<(Process, ChildStdout)> {
    let mut command = Command::new("ssh");
    command.arg("-tt").args(target.args());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let client = Process::start(&mut command)?;
    let mut stdout = client.stdout().context("its output is not piped")?;
    if stdout.read(&mut [0])? == 0 {
        bail!("a shell ended before its prompt");
    }
    Ok((client, stdout))
}
