//! `bastion-audit lock`, `unlock` and `locks`: asked of the running daemon over its admin socket.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bastion_audit::admin::{self, AdminError, Reply, Request};
use bastion_audit::clock::to_the_second;
use bastion_audit::config;
use bastion_audit::locks::{FILE, Kind, Lock, Target};
use bastion_audit::replay;

use super::{reading, revoke};

/// Lock somebody or something out at once, without a change of the configuration
///
/// Open sessions and connections that it takes away end, handed-out credentials are taken back, and new ones are refused until it is
/// over or unlocked. It outlives the daemon. What is locked already gets the new end and reason. Who is locked out is told so, but not
/// why, unless it is a role or a cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct LockWord {
    #[command(flatten)]
    state: super::StatePath,
    #[command(flatten)]
    on: On,
    /// For how long, such as 90s, 2h or 7d; without it until it is unlocked
    #[arg(long = "for", value_name = "TIME", value_parser = config::age)]
    lasts: Option<Duration>,
    /// Why, for administrators and auditors; of a role or cluster for operators too
    #[arg(long)]
    reason: String,
}

/// End a lock
#[derive(Debug, clap::Args)]
pub(crate) struct Unlock {
    #[command(flatten)]
    state: super::StatePath,
    #[command(flatten)]
    on: On,
}

/// List what is locked
#[derive(Debug, clap::Args)]
pub(crate) struct Locks {
    #[command(flatten)]
    state: super::StatePath,
    /// As JSON, one object for each lock
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct On {
    /// What kind of thing
    kind: What,
    /// Which one: a name, SHA256:... of a key, AUTHORITY/SERIAL of a certificate, an address or network
    value: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Somebody, whatever proves them
    Identity,
    /// A key, and every certificate of it or by it
    Key,
    /// One certificate of an authority
    Certificate,
    /// A role, whoever takes it
    Role,
    /// A cluster, for everybody
    Cluster,
    /// An address or network that somebody comes from
    Source,
}

impl On {
    fn target(&self) -> anyhow::Result<Target> {
        let kind = match self.kind {
            What::Identity => Kind::Identity,
            What::Key => Kind::Key,
            What::Certificate => Kind::Certificate,
            What::Role => Kind::Role,
            What::Cluster => Kind::Cluster,
            What::Source => Kind::Source,
        };
        Ok(Target::parse(kind, &self.value)?)
    }
}

impl LockWord {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.on.target()?;
        let request = Request::Lock {
            on,
            seconds: self.lasts.map(|lasts| lasts.as_secs()),
            reason: self.reason,
        };
        match ask(&self.state, &request)? {
            Reply::Locked {
                lock,
                credentials,
                sessions,
                not_kept,
            } => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{}: locked {}", lock.on, until(&lock))?;
                let code = revoke::tell(&mut out, &credentials, sessions)?;
                match not_kept {
                    None => Ok(code),
                    Some(why) => anyhow::bail!("{}: {why}", lock.on),
                }
            }
            other => super::unexpected(other),
        }
    }
}

impl Unlock {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.on.target()?;
        match ask(&self.state, &Request::Unlock { on: on.clone() })? {
            Reply::Unlocked(true) => {
                writeln!(std::io::stdout(), "{on}: unlocked")?;
                Ok(ExitCode::SUCCESS)
            }
            Reply::Unlocked(false) => {
                anyhow::bail!("{on} is not locked; `bastion-audit locks` lists what is")
            }
            other => super::unexpected(other),
        }
    }
}

impl Locks {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let locks = match ask(&self.state, &Request::Locks)? {
            Reply::Locks(locks) => locks,
            other => return super::unexpected(other),
        };
        if self.json {
            for lock in &locks {
                reading::print(&format!("{}\n", serde_json::to_string(lock)?))?;
            }
        } else if locks.is_empty() {
            reading::print("nothing is locked\n")?;
        } else {
            reading::print(&table(&locks))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn ask(state: &super::StatePath, request: &Request) -> anyhow::Result<Reply> {
    let state_dir = state.state_dir()?;
    admin::ask(&state_dir, request).or_else(|error| match error {
        AdminError::NoDaemon { .. } => Err(error).with_context(|| {
            format!(
                "only a running daemon locks and unlocks; without one nobody is let in. To have somebody locked out from its \
                 start on, take them out of the configuration first; {} must not be edited",
                state_dir.join(FILE).display()
            )
        }),
        error => Err(error.into()),
    })
}

/// A line for each lock.
pub(super) fn table(locks: &[Lock]) -> String {
    locks
        .iter()
        .map(|lock| {
            format!(
                "{}: locked {}, since {} by {}: {}\n",
                lock.on,
                until(lock),
                to_the_second(lock.since),
                lock.by,
                replay::printable(&lock.reason),
            )
        })
        .collect()
}

/// A section below the table of sessions; empty if nothing is locked.
pub(super) fn section(locks: &[Lock]) -> String {
    match locks.is_empty() {
        true => String::new(),
        false => format!("\nLocked\n{}", table(locks)),
    }
}

/// The same as JSON lines.
pub(super) fn lines(locks: &[Lock]) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    for lock in locks {
        out.push_str(&serde_json::to_string(
            &serde_json::json!({ "locked": lock }),
        )?);
        out.push('\n');
    }
    Ok(out)
}

fn until(lock: &Lock) -> String {
    match lock.until {
        Some(until) => format!("until {}", to_the_second(until)),
        None => "until it is unlocked".to_owned(),
    }
}
