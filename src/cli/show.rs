//! `bastion-audit show`.

use std::process::ExitCode;

use bastion_audit::replay;

use super::reading;

/// One page about a session: who, why allowed, what, when, from where, and what is on record of it
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    state: super::StatePath,
    #[command(flatten)]
    keys: reading::Keys,
    /// The session: its id, the beginning of it, or `latest`
    #[arg(value_name = "ID")]
    id: String,
}

impl Show {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state.state_dir()?;
        let live = reading::live_sessions(&state_dir)?;
        let recordings = reading::recordings(&state_dir, &self.keys)?;
        let (_, page) = reading::block_on(async {
            Ok(replay::show(&recordings, &self.id, &live.sessions, |_| true).await?)
        })?;
        reading::print(&page)?;
        Ok(ExitCode::SUCCESS)
    }
}
