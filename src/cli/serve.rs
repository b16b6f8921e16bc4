//! `bastion-audit serve`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bastion_audit::clock::SystemClock;
use bastion_audit::config::{self, watch::Trigger};
use bastion_audit::daemon::Daemon;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Serve SSH until SIGTERM or Ctrl-C
///
/// SIGTERM lets open sessions end by themselves for limits.drain, a second one ends them at once.
/// SIGHUP reloads the configuration; so does any change of its files.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: super::ConfigPath,
    /// Write logs as JSON lines
    #[arg(long)]
    log_json: bool,
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        super::inherited::close().context("closing inherited files")?;
        super::logging::to_stderr(self.log_json);
        open_files();
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?
            .block_on(serve(self.config.path(), self.log_json))
    }
}

async fn serve(path: PathBuf, log_json: bool) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("finding this program")?;
    config::check_writers(&path)?;
    let stop = CancellationToken::new();
    let now = CancellationToken::new();
    let (watch, reloads) = config::watch::follow(&path, Arc::new(config::load(&path)?));
    let signals = on_signals(stop.clone(), now.clone(), reloads.trigger.clone())?;
    let daemon = Daemon::start(reloads, &program, log_json, Arc::new(SystemClock)).await?;
    if let Some(error) = daemon.cannot_launch() {
        drop(writeln!(
            std::io::stderr(),
            "bastion-audit: operators' commands will not be run: {error}"
        ));
    }
    // The first line on stdout is for scripts that wait for us.
    writeln!(
        std::io::stdout(),
        "bastion-audit: serving ssh on {}",
        daemon.local_addr()
    )?;
    let watching = tokio::spawn(watch.run(stop.clone()));
    let signals = tokio::spawn(signals);
    daemon.serve(stop, now).await?;
    watching.abort();
    signals.abort();
    Ok(ExitCode::SUCCESS)
}

fn on_signals(
    stop: CancellationToken,
    now: CancellationToken,
    reload: Trigger,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut hup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = hup.recv() => {
                    reload.reload();
                    continue;
                }
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if stop.is_cancelled() {
                now.cancel();
            }
            stop.cancel();
        }
    })
}

/// As many open files as there may be: a session takes some in each of the two processes.
fn open_files() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!("the limit on open files stays what it is: {error}");
    }
}
