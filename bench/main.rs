//! `cargo bench`: one table, with a peer in the same run and the same client for both: Debian's OpenSSH for sessions, the
//! API server itself and `kubectl proxy` for the gateway.
//!
//! `cargo bench -- --quick` for a short run, `cargo bench -- exec keystroke` for some rows. Everything is started on
//! loopback and stopped again, by its id. Whether a reach is met is printed and never an exit status: this is a
//! measurement of one machine at one time, not a test. How to read it: docs/PERFORMANCE.md.

// A stopwatch is what this is.
#![allow(clippy::disallowed_methods)]

mod api;
mod cpu;
mod daemon;
mod ending;
mod files;
mod harness;
mod lean;
mod load;
mod peer;
mod process;
mod rows;
mod ssh;
mod stage;
mod stats;
mod table;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use self::rows::Row;
use self::stage::Stage;

/// Measures the daemon against OpenSSH, and its gateway against the API server itself
#[derive(Debug, Parser)]
#[command(name = "cargo bench --")]
struct Options {
    /// Less of everything: a minute instead of several, and noisier numbers
    #[arg(long)]
    quick: bool,
    /// Keep the directory with the logs and recordings
    #[arg(long)]
    keep: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Which rows; all without any
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = if arguments.next().is_some_and(|first| first == load::FLAG) {
        load::run(arguments)
    } else {
        let options = Options::parse();
        let done = ending::on_signals().and_then(|()| run(&options));
        ending::now();
        done
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cargo bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let stage = Stage::set(options.quick, options.keep)?;
    let chosen: &[Row] = match options.rows.as_slice() {
        [] => Row::ALL,
        some => some,
    };
    let (mut measured, mut failed) = (Vec::new(), None);
    for row in chosen {
        match row.measure(&stage) {
            Ok(rows) => measured.extend(rows),
            // What the others came to is told all the same.
            Err(error) => {
                say(&format!("{row:?} failed: {error:#}"));
                failed = Some(error.context(format!("measuring {row:?}")));
            }
        }
    }
    let table = table::render(&measured);
    writeln!(std::io::stdout(), "\n{}\n\n{table}", stage.told())?;
    failed.map_or(Ok(()), Err)
}

/// What goes on, beside the table.
fn say(line: &str) {
    // Nobody is there to tell that telling failed.
    drop(writeln!(std::io::stderr(), "{line}"));
}
