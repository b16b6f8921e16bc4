//! What a session with kubectl takes on disk, with all that is kept beside it, against its own asciicast.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::api::{Api, NAMESPACE};
use crate::daemon::{Daemon, Kept};
use crate::process;
use crate::ssh::Target;
use crate::stage::Stage;
use crate::table::{Measured, Reach, Unit};

/// Between two keys at the least. It varies, as fingers do: what is regular takes less room.
const PAUSE: Duration = Duration::from_micros(8_000);
/// How far it varies.
const VARIES: u64 = 14_000;
/// Until whatever a line does has been silent for so long, it is not over.
const SILENCE: Duration = Duration::from_millis(900);
/// Nobody waits longer for a line.
const LIMIT: Duration = Duration::from_secs(30);

/// What an operator does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A look around, and something that is put right in an editor: a dozen commands.
    Short,
    /// The same, and then what is wrong is looked for, put right and watched: as many commands again, and as many again.
    Long,
}

/// Keys as an operator types them, line by line.
fn script(work: Work) -> Vec<String> {
    let mut lines = look_around();
    if work == Work::Long {
        lines.extend(search());
        lines.extend(search());
    }
    lines.push("exit\r".to_owned());
    lines
}

fn search() -> Vec<String> {
    let mut lines: Vec<_> = (0..3)
        .flat_map(|pod| {
            [
                format!("kubectl describe pod pod-{pod} -n {NAMESPACE}\r"),
                format!("kubectl logs pod-{pod} -n {NAMESPACE} --tail 50\r"),
            ]
        })
        .collect();
    lines.extend([
        format!("kubectl get pod pod-2 -n {NAMESPACE} -o yaml | less\r"),
        " ".to_owned(),
        "q".to_owned(),
        format!("kubectl label pod pod-2 -n {NAMESPACE} seen=yes --overwrite\r"),
        format!("timeout 3 kubectl get pods -n {NAMESPACE} -w\r"),
        format!("kubectl get pods -n {NAMESPACE} -o wide\r"),
        format!("kubectl get configmaps,services,deployments -n {NAMESPACE}\r"),
    ]);
    lines
}

/// A dozen commands.
fn look_around() -> Vec<String> {
    let mut lines = vec![
        "kubectl get pods -A\r".to_owned(),
        format!("kubectl get pods -n {NAMESPACE} -o wide\r"),
        format!("kubectl describe pod pod-0 -n {NAMESPACE}\r"),
        format!("kubectl logs pod-0 -n {NAMESPACE} --tail 200\r"),
        format!("kubectl get events -n {NAMESPACE}\r"),
        "kubectl get pods -A -o yaml\r".to_owned(),
        format!("kubectl get pod pod-1 -n {NAMESPACE} -o yaml > pod.yaml\r"),
        "vi pod.yaml\r".to_owned(),
    ];
    // About in the file, and a label more.
    lines.extend(["jjjjjjjjjjkkkk".to_owned(), "/containers\r".to_owned()]);
    lines.push("oa line that was not there before\u{1b}".to_owned());
    lines.extend(["\u{4}".to_owned(), "\u{15}".to_owned(), ":q!\r".to_owned()]);
    lines.extend([
        format!("kubectl get pods -n {NAMESPACE} --show-labels\r"),
        "kubectl get poss\u{7f}\u{7f}ds -A | head -3\r".to_owned(),
    ]);
    lines
}

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let api = Api::start(stage)?;
    let short = "a dozen commands with kubectl, on disk (peer: its asciicast)";
    let clear = "three dozen commands with kubectl, on disk (peer: its asciicast)";
    let secret = "three dozen commands with kubectl, on disk, encrypted (peer: its asciicast)";
    let mut rows = vec![
        row(stage, &api.daemon, Work::Short, short)?,
        row(stage, &api.daemon, Work::Long, clear)?,
    ];
    let encrypted = stage.daemon_that_keeps(Kept::Encrypted)?;
    rows.push(row(stage, &encrypted, Work::Long, secret)?);
    Ok(rows)
}

fn row(stage: &Stage, daemon: &Daemon, work: Work, title: &str) -> anyhow::Result<Measured> {
    let editor = Target {
        login: "editor".into(),
        ..daemon.target.clone()
    };
    let before = daemon.recordings()?;
    operate(&editor, work)?;
    daemon.packed()?;
    let mut new = daemon.recordings()?;
    new.retain(|recording| !before.contains(recording));
    let recording = new.pop().context("the session was not recorded")?;
    let mut stored = 0;
    for entry in std::fs::read_dir(&recording)? {
        stored += entry?.metadata()?.len();
    }
    let id = recording.file_name().unwrap_or_default().to_string_lossy();
    let key = stage.dir.join("keys/client");
    let key = key.display().to_string();
    let cast = process::output(&mut daemon.cli("export", &[&id, "--identity", &key]))?;
    ensure!(
        cast.contains("a line that was not"),
        "the editor is not in it"
    );
    let cast = cast.len() as f64;
    Ok(Measured {
        work: title.to_owned(),
        unit: Unit::Kibibytes,
        ours: stored as f64 / 1024.0,
        peer: Some(cast / 1024.0),
        reach: Reach::ShareUnder(0.2),
    })
}

/// Types all of it at a shell.
fn operate(target: &Target, work: Work) -> anyhow::Result<()> {
    let (terminal, pts) = pty_process::blocking::open()?;
    terminal.resize(pty_process::Size::new(40, 120))?;
    let command = pty_process::blocking::Command::new("ssh")
        .arg("-tt")
        .args(target.args());
    let mut ssh = command.env("TERM", "xterm-256color").spawn(pts)?;
    let terminal = Arc::new(terminal);
    let last = Arc::new(Mutex::new(Instant::now()));
    let reader = {
        let (terminal, last) = (Arc::clone(&terminal), Arc::clone(&last));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // An error is the end: nobody has the other side any more.
            while matches!((&*terminal).read(&mut chunk), Ok(1..)) {
                *lock(&last) = Instant::now();
            }
        })
    };
    let typed = type_lines(&terminal, &last, work);
    let until = Instant::now() + LIMIT;
    while ssh.try_wait()?.is_none() && Instant::now() < until && typed.is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(ssh.kill());
    let status = ssh.wait()?;
    drop(reader.join());
    typed?;
    ensure!(status.code().is_some(), "the session did not end");
    Ok(())
}

fn type_lines(
    terminal: &pty_process::blocking::Pty,
    last: &Mutex<Instant>,
    work: Work,
) -> anyhow::Result<()> {
    silence(last);
    let mut varied: u64 = 1;
    for line in script(work) {
        for key in line.as_bytes() {
            let mut terminal = terminal;
            terminal.write_all(&[*key])?;
            varied = varied
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            std::thread::sleep(PAUSE + Duration::from_micros((varied >> 33) % VARIES));
        }
        *lock(last) = Instant::now();
        silence(last);
    }
    Ok(())
}

fn silence(last: &Mutex<Instant>) {
    let until = Instant::now() + LIMIT;
    while lock(last).elapsed() < SILENCE && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lock(last: &Mutex<Instant>) -> std::sync::MutexGuard<'_, Instant> {
    last.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
