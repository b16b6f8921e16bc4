//! `bastion-audit hold`, `release` and `delete`: asked of the running daemon over its admin socket.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use bastion_audit::admin::{self, Reply, Request};
use bastion_audit::clock::to_the_second;
use bastion_audit::log::Standing;
use bastion_audit::recording::{Identities, Recordings};
use bastion_audit::replay;
use bastion_audit::session::SessionId;
use bastion_audit::store::ship::Waiting;

use super::reading;

/// Hold a recording: nothing deletes it until it is released
///
/// The streams into pods that are part of it are held with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    which: Which,
    /// Why, for whoever wonders later
    #[arg(long)]
    reason: String,
}

/// End a hold
#[derive(Debug, clap::Args)]
pub(crate) struct Release {
    #[command(flatten)]
    which: Which,
}

/// Delete a recording now
///
/// That it was, by whom and why, stays on record. What is held, open, or not yet in the object store is not deleted.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    which: Which,
    /// Why, for whoever wonders later
    #[arg(long)]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    state: super::StatePath,
    /// The session: its id, or the beginning of it
    #[arg(value_name = "ID")]
    id: String,
}

impl Hold {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let reason = self.reason;
        self.which.ask(
            |session| Request::Hold { session, reason },
            ["held", "was held already"],
        )
    }
}

impl Release {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.which.ask(
            |session| Request::Release { session },
            ["released", "was not held"],
        )
    }
}

impl Delete {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let reason = self.reason;
        self.which.ask(
            |session| Request::Delete { session, reason },
            ["deleted", ""],
        )
    }
}

impl Which {
    fn ask(
        &self,
        request: impl FnOnce(SessionId) -> Request,
        [changed, unchanged]: [&str; 2],
    ) -> anyhow::Result<ExitCode> {
        let opened = self.state.store(false)?;
        // A whole id is taken as it is: what nobody can read can still be held.
        let session = match SessionId::parse(&self.id) {
            Ok(session) => session,
            Err(_) => {
                anyhow::ensure!(
                    !self.id.eq_ignore_ascii_case("latest"),
                    "name the session by its id: by the time this is done, another may be the latest"
                );
                let live = reading::live_sessions(&opened.state_dir)?.sessions;
                let recordings = Recordings::new(Arc::clone(&opened.store), Identities::default());
                reading::block_on(async {
                    Ok(replay::resolve(&recordings, &self.id, &live, |_| true)
                        .await?
                        .id())
                })?
            }
        };
        let said = match admin::ask(&opened.state_dir, &request(session))? {
            Reply::Held(true) | Reply::Deleted => changed,
            Reply::Held(false) => unchanged,
            other => return super::unexpected(other),
        };
        writeln!(std::io::stdout(), "{session}: {said}")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A section below the table of sessions; empty if nothing waits, or only what has just been closed.
pub(super) fn waiting_table(waiting: &[Waiting]) -> String {
    let failed = waiting
        .iter()
        .filter_map(|it| Some((it, it.reason.as_ref()?)));
    let Some((first, reason)) = failed.min_by_key(|(it, _)| it.since) else {
        return String::new();
    };
    format!(
        "\n{} not shipped yet, the oldest closed at {}; it was tried {} times: {}\n",
        match waiting.len() {
            1 => "One recording is".to_owned(),
            many => format!("{many} recordings are"),
        },
        to_the_second(first.since),
        first.tries,
        replay::printable(reason),
    )
}

/// The same as JSON lines, one for each recording.
pub(super) fn waiting_lines(waiting: &[Waiting]) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    for waiting in waiting {
        out.push_str(&serde_json::to_string(
            &serde_json::json!({ "notShipped": waiting }),
        )?);
        out.push('\n');
    }
    Ok(out)
}

/// A line for each place where checkpoints of the evidence log cannot be kept; empty if all is well.
pub(super) fn witness_table(witnesses: &[Standing]) -> String {
    let mut out = String::new();
    for standing in witnesses {
        let Some(failing) = &standing.failing else {
            continue;
        };
        out.push_str(&format!(
            "\nCheckpoints of the log are not kept ({}) since {}; it was tried {} times: {}\n",
            standing.place.as_str(),
            to_the_second(failing.since),
            failing.tries,
            replay::printable(&failing.reason),
        ));
    }
    out
}

/// The same as JSON lines.
pub(super) fn witness_lines(witnesses: &[Standing]) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    for standing in witnesses.iter().filter(|it| it.failing.is_some()) {
        out.push_str(&serde_json::to_string(
            &serde_json::json!({ "notWitnessed": standing }),
        )?);
        out.push('\n');
    }
    Ok(out)
}
