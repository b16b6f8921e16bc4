//! `bastion-audit sessions`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::replay::{self, Filters};

use super::{keep, lock, reading};

/// List recorded sessions, the newest first; live ones are marked
///
/// The column END says `live`, the exit status, the signal, `cut` (ended by the bastion or its client) or
/// `interrupted` (the daemon did not live to see the end). KEPT, where there is something to say: `waiting` (the object
/// store does not have it yet), `held` (nothing deletes it). `show ID` tells more; the first characters of an id are
/// enough.
#[derive(Debug, clap::Args)]
pub(crate) struct Sessions {
    #[command(flatten)]
    state: super::StatePath,
    /// A file with the private key of a recipient of encrypted recordings: for filters that look into them
    #[arg(long, value_name = "FILE")]
    identity_file: Vec<PathBuf>,
    #[command(flatten)]
    filters: Filters,
    /// Only what lies in the state directory; the object store is not asked
    #[arg(long)]
    local: bool,
}

/// Where stdout is no terminal: as wide as lines usually get before they are a nuisance.
const WIDTH: usize = 80;

impl Sessions {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let opened = self.state.store(self.local)?;
        let query = self.filters.query(SystemClock.now())?;
        let mut live = reading::live_sessions(&opened.state_dir)?;
        let recordings = reading::recordings(
            &opened,
            &reading::Keys {
                identity: self.identity_file.clone(),
            },
        )?;
        let found = reading::block_on(async {
            let mut found = replay::find(&recordings, &query, &live.sessions, |_| true).await?;
            opened.marks().await?.put_on(&mut found.sessions);
            Ok(found)
        })?;

        live.handed_out
            .retain(|lease| lease.state.is_with_a_client() && query.means_lease(lease));
        if self.filters.json {
            reading::print(&replay::json_lines(&found.sessions)?)?;
            reading::print(&replay::lease_lines(&live.handed_out)?)?;
            reading::print(&replay::unsearched_lines(&found.unsearched))?;
            reading::print(&keep::waiting_lines(&live.waiting)?)?;
            reading::print(&keep::witness_lines(&live.witnesses)?)?;
            reading::print(&lock::lines(&live.locks)?)?;
        } else {
            let width = reading::terminal().map_or(WIDTH, |size| size.cols.into());
            reading::print(&replay::table(&found.sessions, width))?;
            if found.more {
                reading::print("there are more: narrow the search, or give --limit\n")?;
            }
            reading::print(&replay::unsearched(&found.unsearched))?;
            reading::print(&replay::lease_table(&live.handed_out))?;
            reading::print(&keep::waiting_table(&live.waiting))?;
            reading::print(&keep::witness_table(&live.witnesses))?;
            reading::print(&lock::section(&live.locks))?;
        }
        for (id, error) in &found.unreadable {
            drop(writeln!(std::io::stderr(), "bastion-audit: {id}: {error}"));
        }
        Ok(
            if found.unreadable.is_empty() && found.unsearched.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            },
        )
    }
}
