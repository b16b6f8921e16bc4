//! `bastion-audit log`: the evidence log and the keys that sign it, offline.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bastion_audit::audit::{self, Link};
use bastion_audit::config::{self, Name};
use bastion_audit::log::{self, Leaf, LogReader, witness_notes};
use bastion_audit::signing::{History, KeyName, Keys, create_key};
use clap::Subcommand;

use super::reading::print;

/// The log of what was recorded: its checkpoint, its keys, and whether it and the audit log are what they were
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    Checkpoint(Checkpoint),
    Key(Key),
    NewKey(NewKey),
    Verify(Verify),
    VerifyAudit(VerifyAudit),
}

impl Log {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.word {
            Word::Checkpoint(word) => word.run(),
            Word::Key(word) => word.run(),
            Word::NewKey(word) => word.run(),
            Word::Verify(word) => word.run(),
            Word::VerifyAudit(word) => word.run(),
        }
    }
}

/// Print the log's newest signed checkpoint, after verifying all of the log
///
/// Keep it where whoever has this host cannot change it: what it covers cannot be taken out of the log unseen any more.
#[derive(Debug, clap::Args)]
struct Checkpoint {
    #[command(flatten)]
    state: super::StatePath,
}

impl Checkpoint {
    fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state.state_dir()?;
        let keys = History::read(&state_dir)?.keys();
        let log = LogReader::open(&state_dir.join(log::DIRECTORY), &keys, |_, _| {})?;
        print(log.head().note().as_str())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Print the public keys that this instance has signed with; the last one signs now
///
/// Give the output to whoever verifies: a file for --public-key.
#[derive(Debug, clap::Args)]
struct Key {
    #[command(flatten)]
    state: super::StatePath,
}

impl Key {
    fn run(self) -> anyhow::Result<ExitCode> {
        let history = History::read(&self.state.state_dir()?)?;
        if history.known().is_empty() {
            anyhow::bail!("no key was used here yet: the daemon's first start makes one");
        }
        for known in history.known() {
            print(&format!("# since {}\n{}\n", known.since, known.key.vkey()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Make a signing key, for spec.signing.key or for 'bastion-audit signer'
#[derive(Debug, clap::Args)]
struct NewKey {
    #[command(flatten)]
    config: super::ConfigPath,
    /// Whose key it is: metadata.name of the Bastion; by default what the configuration says
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// The file to make (0600); one that is there is left alone
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl NewKey {
    fn run(self) -> anyhow::Result<ExitCode> {
        let name = match &self.instance {
            Some(name) => Name::new(name)?,
            None => config::load(&self.config.path())?.bastion.name,
        };
        let key = create_key(&self.file, &KeyName::of(&name))?;
        print(&format!("{}\n", key.vkey()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Which keys count.
#[derive(Debug, clap::Args)]
pub(super) struct KeyFile {
    #[command(flatten)]
    state: super::StatePath,
    /// A file of public keys, as 'bastion-audit log key' prints them; by default those that the state directory knows,
    /// which whoever can write there could have changed
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
}

impl KeyFile {
    pub(super) fn store(&self) -> anyhow::Result<super::Opened> {
        self.state.store(false)
    }

    pub(super) fn keys(&self) -> anyhow::Result<Keys> {
        match &self.public_key {
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                Keys::parse(&text).with_context(|| file.display().to_string())
            }
            None => Ok(History::read(&self.state.state_dir()?)?.keys()),
        }
    }

    fn directory(&self, named: Option<&Path>) -> anyhow::Result<PathBuf> {
        match named {
            Some(directory) => Ok(directory.to_owned()),
            None => Ok(self.state.state_dir()?.join(log::DIRECTORY)),
        }
    }
}

/// Verify the log: every leaf against its signed checkpoints, and against those that were kept elsewhere
#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    keys: KeyFile,
    /// The log's directory; by default that of the state directory
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// A file of checkpoints that were kept elsewhere
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
}

impl Verify {
    fn run(self) -> anyhow::Result<ExitCode> {
        let keys = self.keys.keys()?;
        let directory = self.keys.directory(self.log.as_deref())?;
        let log = LogReader::open(&directory, &keys, |_, _| {})?;
        let mut proven = None;
        for file in &self.witness {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            for note in witness_notes(&bytes) {
                let head = log
                    .check_witness(note.as_bytes())
                    .with_context(|| file.display().to_string())?;
                proven = proven.max(Some(head.size()));
            }
        }
        print(&format!(
            "{} leaves, {} of them signed, all as they were signed\n",
            log.size(),
            log.head().size()
        ))?;
        print(&match proven {
            Some(size) => format!("complete up to leaf {size} (not included), by a checkpoint that was kept elsewhere\n"),
            None => "whether its end was cut off cannot be known without a checkpoint that was kept elsewhere (--witness)\n".to_owned(),
        })?;
        if log.unreadable() > 0 {
            let bytes = log.unreadable();
            print(&format!(
                "{bytes} bytes at its end cannot be read: a crash left them, and no daemon has started since, or somebody changed them\n"
            ))?;
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Verify audit logs: every line against the one before it, and against the signed heads among them
///
/// Names the first place that was edited, and what is missing, out of order or cut off.
#[derive(Debug, clap::Args)]
struct VerifyAudit {
    #[command(flatten)]
    keys: KeyFile,
    /// The log's directory, whose leaves say how far the audit log must go; by default that of the state directory, where
    /// no --public-key is given
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// The audit logs, the oldest first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl VerifyAudit {
    fn run(self) -> anyhow::Result<ExitCode> {
        let keys = self.keys.keys()?;
        let mut elsewhere: Vec<Link> = Vec::new();
        if self.log.is_some() || self.keys.public_key.is_none() {
            let directory = self.keys.directory(self.log.as_deref())?;
            // A second reading begins anew.
            LogReader::open(&directory, &keys, |position, leaf| {
                if position.0 == 0 {
                    elsewhere.clear();
                }
                if let Leaf::AuditHead { seq, hash, .. } = leaf {
                    elsewhere.push(Link { seq, hash });
                }
            })?;
        }
        let found = audit::verify(&self.files, &keys, &elsewhere)?;
        print(&format!(
            "events {} to {}, signed for up to {}: all as they were written\n",
            found.first, found.last.seq, found.signed
        ))?;
        if found.first > 1 {
            drop(writeln!(
                std::io::stderr(),
                "bastion-audit: what came before event {} was not looked at",
                found.first
            ));
        }
        if found.torn > 0 {
            drop(writeln!(
                std::io::stderr(),
                "bastion-audit: {} lines were never finished, by the daemon's own word",
                found.torn
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
