//! `bastion-audit metrics`.

use std::process::ExitCode;

use bastion_audit::admin::{self, Reply, Request};

use super::{StatePath, reading, unexpected};

/// Show what a running daemon counts, for Prometheus
///
/// Text format, as the textfile collector of its node_exporter takes it. The daemon itself serves no metrics over
/// the network.
#[derive(Debug, clap::Args)]
pub(crate) struct Metrics {
    #[command(flatten)]
    state: StatePath,
}

impl Metrics {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match admin::ask(&self.state.state_dir()?, &Request::Metrics)? {
            Reply::Metrics(text) => reading::print(&text)?,
            reply => return unexpected(reply),
        }
        Ok(ExitCode::SUCCESS)
    }
}
