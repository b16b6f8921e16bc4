//! Parses, runs, exits.

mod cli;

use std::process::ExitCode;

use bastion_audit::launch::inside;
use clap::Parser;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if inside::is_meant(args.next().as_deref()) {
        return cli::inside::run(&args.collect::<Vec<_>>());
    }
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(code) => code,
        Err(error) => cli::report(&error),
    }
}
