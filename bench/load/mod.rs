//! The client of the API server's rows: this same binary, told so by its first argument. It runs in a session's sandbox
//! and on the host alike, speaks to whatever the kubeconfig names, and prints a line of JSON.

mod exec;
mod get;
mod server;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};

use self::server::Server;

/// What makes this binary a client.
pub(crate) const FLAG: &str = "--load";

/// Puts load on an API server
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Options {
    /// Where, by whom it is verified, as whom; JSON
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, clap::Subcommand)]
enum Work {
    /// One request after the other on each of some connections
    Get(get::Options),
    /// The output of a command in a pod
    Exec(exec::Options),
    /// Watches that wait, told what to do by lines of standard input
    Watch(watch::Options),
}

/// What GETs came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Gets {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What an exec came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Output {
    pub(crate) bytes: u64,
    /// From the first request on.
    pub(crate) seconds: f64,
}

/// How many watches have come so far as was asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Watches {
    pub(crate) watches: u64,
}

/// Does what the arguments after [`FLAG`] say.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let options = Options::parse_from(std::iter::once("load".into()).chain(arguments));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::of(&options.kubeconfig)?;
        match options.work {
            Work::Get(work) => say(&work.run(&server).await?),
            Work::Exec(work) => say(&work.run(&server).await?),
            Work::Watch(work) => work.run(&server).await,
        }
    })
}

fn say(line: &impl Serialize) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(line)?)?;
    Ok(stdout.flush()?)
}
