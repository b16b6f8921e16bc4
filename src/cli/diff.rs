//! `bastion-audit diff`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{self, Config};
use bastion_audit::mapping::difference;
use jiff::Timestamp;

/// Say who gains and who loses what between two configurations
///
/// Of bindings that stand now. Who is proven by certificates and listed nowhere is named by the group of the authority. Exits as
/// diff(1) does: with 0 if nobody gains or loses anything, 1 if somebody does, 2 if it cannot be said.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The configuration before, a file or a directory
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The configuration after
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// As JSON, with everybody's name and every aspect of what they gain
    #[arg(long)]
    json: bool,
    /// As if it were then, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

impl Diff {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        Ok(super::trouble_is_two(self.compare()))
    }

    fn compare(&self) -> anyhow::Result<ExitCode> {
        let (old, new) = (load(&self.old)?, load(&self.new)?);
        let now = self.at.unwrap_or_else(|| SystemClock.now());
        let difference = difference(&old, &new, now);
        let text = match self.json {
            true => serde_json::to_string_pretty(&difference)? + "\n",
            false => difference.to_string(),
        };
        super::reading::print(&text)?;
        Ok(ExitCode::from(u8::from(!difference.is_empty())))
    }
}

fn load(path: &Path) -> anyhow::Result<Config> {
    Ok(config::load(path)?)
}
