//! The client of both: whatever `ssh` is on PATH, with the same options.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use super::process;

/// Somewhere to log in.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) login: String,
    pub(crate) port: u16,
    pub(crate) key: PathBuf,
    pub(crate) known_hosts: PathBuf,
}

impl Target {
    /// The line of a known_hosts file for a host key at this port.
    pub(crate) fn know(&self, host_key: &Path) -> anyhow::Result<()> {
        let public = std::fs::read_to_string(host_key.with_extension("pub"))?;
        std::fs::write(
            &self.known_hosts,
            format!("[127.0.0.1]:{} {public}", self.port),
        )?;
        Ok(())
    }

    /// The arguments of `ssh` up to the host's name. No configuration of the machine's, no agent, no waiting.
    pub(crate) fn args(&self) -> Vec<String> {
        let mut args = vec![
            "-F".to_owned(),
            "none".to_owned(),
            "-p".to_owned(),
            self.port.to_string(),
        ];
        for option in [
            format!("IdentityFile={}", self.key.display()),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "LogLevel=ERROR".to_owned(),
            // What both servers have. Left to themselves an OpenSSH 9.2 on both sides takes sntrup761, which costs
            // the client alone some 80 ms: that would be measured, and not what the servers do.
            "KexAlgorithms=curve25519-sha256".to_owned(),
            "Ciphers=chacha20-poly1305@openssh.com".to_owned(),
            // Newer clients send keystrokes in a rhythm of 20 ms to hide when they were typed.
            "IgnoreUnknown=ObscureKeystrokeTiming".to_owned(),
            "ObscureKeystrokeTiming=no".to_owned(),
        ] {
            args.extend(["-o".to_owned(), option]);
        }
        args.push(format!("{}@127.0.0.1", self.login));
        args
    }

    pub(crate) fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.args()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and answers what it printed.
    pub(crate) fn ask(&self, line: &str) -> anyhow::Result<String> {
        process::output(self.ssh().arg(line))
    }

    /// Runs a command whose output nobody looks at. Answers the milliseconds from the start of `ssh` to its end.
    pub(crate) fn time(&self, flags: &[&str], line: &str) -> anyhow::Result<f64> {
        let mut command = Command::new("ssh");
        command.args(flags).args(self.args()).arg(line);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let output = command.output().context("running ssh")?;
        let took = began.elapsed();
        if !output.status.success() {
            bail!(
                "`ssh {}:{} {line}`: {}: {}",
                self.login,
                self.port,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(took.as_secs_f64() * 1000.0)
    }
}

/// Makes a key without a passphrase.
pub(crate) fn keygen(path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"])
        .arg(path);
    process::output(&mut command).map(drop)
}
