//! What the words that read recordings share.

use std::collections::HashSet;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bastion_audit::admin::{self, AdminError, Reply, Request};
use bastion_audit::locks::Lock;
use bastion_audit::log::Standing;
use bastion_audit::messages::WindowSize;
use bastion_audit::mint::LiveLease;
use bastion_audit::recording::{Identities, Recordings};
use bastion_audit::session::SessionId;
use bastion_audit::store::ship::Waiting;
use serde::Serialize;

/// What goes on, by the daemon's word.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) sessions: HashSet<SessionId>,
    pub(super) handed_out: Vec<LiveLease>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) witnesses: Vec<Standing>,
    pub(super) locks: Vec<Lock>,
}

/// Asks the daemon of `state_dir` what goes on. Where none runs, nothing does.
pub(super) fn live_sessions(state_dir: &Path) -> anyhow::Result<Live> {
    match admin::ask(state_dir, &Request::Sessions) {
        Ok(Reply::Sessions {
            live,
            handed_out,
            waiting,
            witnesses,
            locks,
        }) => Ok(Live {
            sessions: live.iter().map(|session| session.session).collect(),
            handed_out,
            waiting,
            witnesses,
            locks,
        }),
        Ok(other) => super::unexpected(other),
        Err(AdminError::NoDaemon { source, .. })
            if matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(Live::default())
        }
        Err(error) => {
            // Recordings can be read without the daemon. But what is not known must not look like knowledge.
            drop(writeln!(
                std::io::stderr(),
                "bastion-audit: {error}\nbastion-audit: so a session that goes on is shown as interrupted"
            ));
            Ok(Live::default())
        }
    }
}

/// Keys to recordings that are encrypted.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    /// A file with the private key of a recipient of encrypted recordings: an age identity, or an ssh-ed25519 key
    #[arg(long, value_name = "FILE")]
    pub(super) identity: Vec<PathBuf>,
}

/// The recordings of a store.
pub(super) fn recordings(opened: &super::Opened, keys: &Keys) -> anyhow::Result<Recordings> {
    let mut identities: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
    for path in &keys.identity {
        identities.extend(
            read_identities(path)
                .with_context(|| format!("{} has no key that opens recordings", path.display()))?,
        );
    }
    let store = Arc::clone(&opened.store);
    Ok(Recordings::new(store, Identities::new(identities)))
}

/// The longest file of keys that is read.
const MAX_KEYS: u64 = 1 << 20;

fn read_identities(path: &Path) -> anyhow::Result<Vec<Box<dyn age::Identity + Send + Sync>>> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_KEYS)
        .read_to_string(&mut text)?;
    if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        let name = Some(path.display().to_string());
        let identity = age::ssh::Identity::from_buffer(text.as_bytes(), name)?;
        return match identity {
            age::ssh::Identity::Unencrypted(_) => Ok(vec![Box::new(identity)]),
            age::ssh::Identity::Encrypted(_) => anyhow::bail!(
                "it has a passphrase; write one without to a file that only you can read: ssh-keygen -p"
            ),
            age::ssh::Identity::Unsupported(_) => anyhow::bail!("it is no ssh-ed25519 key"),
        };
    }
    let mut identities: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let identity = line
            .parse::<age::x25519::Identity>()
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        identities.push(Box::new(identity));
    }
    anyhow::ensure!(!identities.is_empty(), "there is none in it");
    Ok(identities)
}

/// Prints; whoever closed the other end of a pipe has seen enough.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Prints a line each: JSON, or as `row` has it, or `nobody` if there is none.
pub(super) fn print_list<T: Serialize>(
    listed: &[T],
    json: bool,
    row: fn(&T) -> String,
    nobody: &str,
) -> anyhow::Result<ExitCode> {
    if json {
        for one in listed {
            print(&format!("{}\n", serde_json::to_string(one)?))?;
        }
    } else if listed.is_empty() {
        print(nobody)?;
    } else {
        print(&listed.iter().map(row).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Stdout for what is written piece by piece.
pub(super) fn stdout() -> std::io::Result<tokio::fs::File> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(stdout)))
}

/// The size of the terminal on stdout, if there is one.
pub(super) fn terminal() -> Option<WindowSize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    Some(WindowSize::clamped(size.ws_col.into(), size.ws_row.into()))
}

pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
