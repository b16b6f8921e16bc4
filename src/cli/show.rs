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
        let opened = self.state.store(false)?;
        let live = reading::live_sessions(&opened.state_dir)?;
        let recordings = reading::recordings(&opened, &self.keys)?;
        let (_, page) = reading::block_on(async {
            let marks = opened.marks().await?;
            Ok(replay::show_kept(&recordings, &self.id, &live.sessions, &marks, |_| true).await?)
        })?;
        reading::print(&page)?;
        Ok(ExitCode::SUCCESS)
    }
}
