//! The first program inside a sandbox: starts the operator's command, passes signals on, and tells the
//! daemon exactly how it ended (bubblewrap alone cannot tell `exit 137` from `SIGKILL`).
//!
//! It is process 1 there: no signal from inside ends or stops it, and with it everything ends. That it dies
//! with bubblewrap (and so with the daemon) is an attribute of the process that whoever traces it could
//! take away; so nobody can.
//!
//! It speaks lines over the session's socket. To the daemon first the sockets that listen at the addresses
//! in here that the daemon answers at; from the daemon `go`, then signal names (`TERM`); to the daemon one line more,
//! `exit N` or `signal NAME CORE`. What it says is the command's own business: a command that
//! forges it lies about its own exit status and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, kill_process_group, set_dumpable_behavior, wait,
};

use super::handover;

/// The signals that a client may send (RFC 4254, 6.10).
const SIGNALS: &[(&str, Signal)] = &[
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

/// What the daemon says once it has a hold of process 1: a command that was over before that would leave a number
/// that may be another process's by then.
pub(super) const GO: &[u8; 3] = b"go\n";

/// Runs `argv` to its end. Errors come back for the caller to print: the operator sees them.
pub fn run(socket: &Path, argv: &[std::ffi::OsString]) -> std::io::Result<()> {
    // Before anything of the operator's runs: the command has the same uid, and may trace what may be dumped.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let mut daemon = UnixStream::connect(socket)?;
    handover::give_all(&daemon)?;
    let mut go = *GO;
    daemon.read_exact(&mut go)?;
    swallow_terminal_signals()?;
    let terminal = rustix::termios::isatty(std::io::stdin());
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| std::io::Error::other("no command"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    if !terminal {
        // So that a signal meets the whole command. At a terminal it must stay in the foreground group.
        command.process_group(0);
    }
    let child = command.spawn()?;
    let group = Pid::from_child(&child);
    let signals = daemon.try_clone()?;
    std::thread::spawn(move || pass_signals(signals, group, terminal));
    let status = end_of(group)?;
    daemon.write_all(tell(status).as_bytes())
}

/// Waits for the command, and on the way for every orphan: process 1 is the parent of them all.
fn end_of(command: Pid) -> std::io::Result<ExitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == command => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ctrl-C at the terminal is for the command; a handler (unlike SIG_IGN) is not inherited by it.
fn swallow_terminal_signals() -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU] {
        signal_hook::flag::register(signal, Arc::clone(&ignored))?;
    }
    Ok(())
}

fn pass_signals(daemon: UnixStream, group: Pid, terminal: bool) {
    for name in BufReader::new(daemon).lines() {
        let Ok(name) = name else { return };
        let Some(signal) = by_name(&name) else {
            continue;
        };
        let foreground = if terminal {
            rustix::termios::tcgetpgrp(std::io::stdin()).unwrap_or(group)
        } else {
            group
        };
        if kill_process_group(foreground, signal).is_err() {
            // It ended by itself, and so will this process.
            return;
        }
    }
}

fn by_name(name: &str) -> Option<Signal> {
    SIGNALS
        .iter()
        .find_map(|(known, signal)| (*known == name).then_some(*signal))
}

fn tell(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}\n"),
        (None, Some(signal)) => {
            let name = SIGNALS
                .iter()
                .find_map(|(name, known)| (known.as_raw() == signal).then_some(*name))
                .map_or_else(|| format!("{signal}@bastion-audit"), str::to_owned);
            format!("signal {name} {}\n", status.core_dumped())
        }
        (None, None) => "exit 255\n".to_owned(),
    }
}

/// What the line that [`run`] sends means.
pub(super) fn parse(line: &str) -> Option<super::ExitStatus> {
    let mut words = line.split_whitespace();
    match (words.next()?, words.next()?, words.next()) {
        ("exit", code, None) => {
            // Codes are a byte in Unix; more cannot come from `wait`.
            Some(super::ExitStatus::Code(code.parse::<u8>().ok()?))
        }
        ("signal", name, Some(core)) if name.len() <= 64 => Some(super::ExitStatus::Signal {
            name: name.to_owned(),
            core_dumped: core == "true",
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::ExitStatus as Told;

    #[test]
    fn an_exit_status_survives_the_line() {
        assert_eq!(
            parse(&tell(ExitStatus::from_raw(137 << 8))),
            Some(Told::Code(137))
        );
        assert_eq!(
            parse(&tell(ExitStatus::from_raw(9))),
            Some(Told::Signal {
                name: "KILL".into(),
                core_dumped: false
            })
        );
        assert_eq!(parse("exit 300"), None);
        assert_eq!(parse("exit"), None);
        assert_eq!(parse("signal X"), None);
    }
}
