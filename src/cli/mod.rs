//! The binary's own words: argv, environment, rendering and exit codes.

mod check;
mod diff;
mod explain;
mod export;
mod inherited;
mod init;
pub(crate) mod inside;
mod issuer;
mod keep;
mod lock;
mod log;
mod logging;
mod manifests;
mod metrics;
mod network;
mod oidc;
mod reading;
mod replay;
mod revoke;
mod sandbox_init;
mod serve;
mod sessions;
mod show;
mod signer;
mod test;
mod totp;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bastion_audit::admin::Reply;
use bastion_audit::clock::SystemClock;
use bastion_audit::replay::Marks;
use bastion_audit::store::s3::{Bucket, S3Store};
use bastion_audit::store::{FsStore, RecordingStore};
use bastion_audit::{config, custody};
use clap::{Parser, Subcommand};

/// An SSH daemon for Kubernetes operators: a minted identity for each session, everything on record.
#[derive(Debug, Parser)]
#[command(name = "bastion-audit", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    Init(init::Init),
    Check(check::Check),
    Explain(explain::Explain),
    Test(test::Test),
    Diff(diff::Diff),
    Manifests(manifests::Manifests),
    Serve(serve::Serve),
    Sessions(Box<sessions::Sessions>),
    Show(show::Show),
    Replay(replay::Replay),
    Export(export::Export),
    Verify(Box<verify::Verify>),
    Revoke(revoke::Revoke),
    Kill(revoke::Kill),
    Lock(lock::LockWord),
    Unlock(lock::Unlock),
    Locks(lock::Locks),
    Totp(totp::TotpWord),
    Oidc(oidc::OidcWord),
    Metrics(metrics::Metrics),
    Hold(keep::Hold),
    Release(keep::Release),
    Delete(keep::Delete),
    Log(log::Log),
    Signer(signer::Signer),
    Issuer(issuer::IssuerWord),
    Network(network::Network),
    #[command(hide = true)]
    SandboxInit(sandbox_init::SandboxInit),
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.word {
            Word::Init(word) => word.run(),
            Word::Check(word) => word.run(),
            Word::Explain(word) => word.run(),
            Word::Test(word) => word.run(),
            Word::Diff(word) => word.run(),
            Word::Manifests(word) => word.run(),
            Word::Serve(word) => word.run(),
            Word::Sessions(word) => word.run(),
            Word::Show(word) => word.run(),
            Word::Replay(word) => word.run(),
            Word::Export(word) => word.run(),
            Word::Verify(word) => word.run(),
            Word::Revoke(word) => word.run(),
            Word::Kill(word) => word.run(),
            Word::Lock(word) => word.run(),
            Word::Unlock(word) => word.run(),
            Word::Locks(word) => word.run(),
            Word::Totp(word) => word.run(),
            Word::Oidc(word) => word.run(),
            Word::Metrics(word) => word.run(),
            Word::Hold(word) => word.run(),
            Word::Release(word) => word.run(),
            Word::Delete(word) => word.run(),
            Word::Log(word) => word.run(),
            Word::Signer(word) => word.run(),
            Word::Issuer(word) => word.run(),
            Word::Network(word) => word.run(),
            Word::SandboxInit(word) => word.run(),
        }
    }
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigPath {
    /// A YAML file, or a directory of them
    #[arg(
        long,
        env = "BASTION_AUDIT_CONFIG",
        default_value = "/etc/bastion-audit",
        value_name = "PATH"
    )]
    config: PathBuf,
}

impl ConfigPath {
    pub(crate) fn path(&self) -> PathBuf {
        self.config.clone()
    }
}

/// Where a daemon's state is: named, or by its configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct StatePath {
    #[command(flatten)]
    config: ConfigPath,
    /// The daemon's state directory; by default what the configuration says
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Where recordings are read from.
pub(crate) struct Opened {
    pub(crate) state_dir: PathBuf,
    /// Those that are here, and those that only the object store has.
    pub(crate) store: Arc<dyn RecordingStore>,
    /// Whether there is an object store.
    pub(crate) ships: bool,
}

impl Opened {
    /// What keeps them, by what is on disk.
    pub(crate) async fn marks(&self) -> anyhow::Result<Marks> {
        Ok(custody::marks_on_disk(&self.state_dir, self.ships).await?)
    }
}

impl StatePath {
    /// The store that the configuration names; with `--state-dir`, or if `local` is set, what lies there and nothing else.
    pub(crate) fn store(&self, local: bool) -> anyhow::Result<Opened> {
        let (state_dir, s3) = self.named()?;
        let ships = s3.is_some();
        let here = FsStore::new(&state_dir);
        let store: Arc<dyn RecordingStore> = match s3 {
            Some(s3) if !local => {
                let bucket = Bucket::open(&s3, Arc::new(SystemClock))?;
                Arc::new(S3Store::new(here, Arc::new(bucket)))
            }
            _ => Arc::new(here),
        };
        Ok(Opened {
            state_dir,
            store,
            ships,
        })
    }

    pub(crate) fn state_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(self.named()?.0)
    }

    fn named(&self) -> anyhow::Result<(PathBuf, Option<config::S3>)> {
        let (dir, s3) = match &self.state_dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let bastion = config::load(&self.config.path())?.bastion;
                (bastion.state_dir, bastion.recordings.s3)
            }
        };
        // A path that was mistyped must not read as a bastion on which nothing ever happened.
        std::fs::metadata(&dir).with_context(|| format!("state directory {}", dir.display()))?;
        Ok((dir, s3))
    }
}

/// The daemon answered something else than was asked.
fn unexpected<T>(reply: Reply) -> anyhow::Result<T> {
    match reply {
        Reply::Error(sentence) => anyhow::bail!("the daemon refused: {sentence}"),
        _ => anyhow::bail!("the daemon's answer is not understood; is it of another version?"),
    }
}

/// For words of which 1 is an answer.
fn trouble_is_two(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        report(&error);
        ExitCode::from(2)
    })
}

/// Prints an error with its causes, each once, to stderr.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many errors repeat their cause in their own words.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    // Nothing can be done about a stderr that is gone.
    drop(writeln!(std::io::stderr(), "bastion-audit: {text}"));
    ExitCode::FAILURE
}
