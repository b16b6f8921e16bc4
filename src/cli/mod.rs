//! The binary's own words: argv, environment, rendering and exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An SSH daemon for Kubernetes operators: a minted identity for each session, everything on record.
#[derive(Debug, Parser)]
#[command(name = "bastion-audit", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.word {}
    }
}

/// Prints an error with its causes, each once, to stderr.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Nothing can be done about a stderr that is gone.
    drop(writeln!(std::io::stderr(), "bastion-audit: {error:#}"));
    ExitCode::FAILURE
}
