//! `bastion-audit verify`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bastion_audit::clock::to_the_second;
use bastion_audit::log::{self, LogReader, witness_notes};
use bastion_audit::session::SessionId;
use bastion_audit::signing::Keys;
use bastion_audit::store::retention;
use bastion_audit::verify::{self, Entries, Heads, Held, State, Verdict};
use bastion_audit::{recording::Recordings, replay};

use super::log::KeyFile;
use super::reading::{self, print};

/// Something is not what it was, or is not there.
const UNSOUND: u8 = 1;
/// It could not be found out.
const FAILED: u8 = 2;
/// Nothing is wrong, but not everything is complete.
const INTERRUPTED: u8 = 3;

/// Prove that recordings are what they were, and that all of them are there
///
/// Needs no daemon, and no key to what is encrypted; what only the object store has is read from there (not with
/// --state-dir: that directory is looked at and nothing else). Each recording is held against its signed
/// checkpoints, and against the log of recordings, and that log against the heads of it that the manifests carry. What the
/// log's end covers can be proven only against a checkpoint of it that was kept elsewhere (--witness): files alone cannot
/// show that the newest recordings were not taken away with the end of the log.
///
/// Exit status: 0 all is sound and complete; 1 something is not sound; 2 it could not be found out; 3 all is sound, but
/// some were interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    keys: KeyFile,
    #[command(flatten)]
    identities: reading::Keys,
    /// The recording: its id, the beginning of it, or `latest`
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Option<String>,
    /// Every recording that is there, and every one that should be
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// A directory of the log; several if parts were moved aside. By default that of the state directory
    #[arg(long, value_name = "DIR")]
    log: Vec<PathBuf>,
    /// A file of checkpoints of the log that were kept elsewhere
    #[arg(long, value_name = "FILE")]
    witness: Option<PathBuf>,
    /// JSON lines: one for each recording, and a summary, which says how far it is proven that none is missing
    #[arg(long)]
    json: bool,
}

/// In which a daemon enters what it has just opened or closed.
const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(500);

impl Verify {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let json = self.json;
        match self.verify() {
            Ok(tally) => Ok(ExitCode::from(tally.status())),
            Err(error) => {
                if json {
                    print(&format!(
                        "{}\n",
                        serde_json::json!({"error": format!("{error:#}")})
                    ))?;
                }
                super::report(&error);
                Ok(ExitCode::from(FAILED))
            }
        }
    }

    fn verify(self) -> anyhow::Result<Tally> {
        let json = self.json;
        let opened = self.keys.store()?;
        let state_dir = &opened.state_dir;
        let keys = self.keys.keys()?;
        let mut tally = Tally::default();
        let mut log = self.read_log(state_dir, &keys, &mut tally)?;
        let mut heads = Heads::default();
        let live = reading::live_sessions(state_dir)?.sessions;
        let recordings = reading::recordings(&opened, &self.identities)?;
        reading::block_on(async {
            let entries = log.as_ref().map(|log| &log.entries);
            let mut later = Vec::new();
            for session in wanted(&recordings, self.id.as_deref(), entries, &live).await? {
                let verdict = verify::recording(&recordings, session, &keys, entries).await?;
                if entries.is_some() && verdict.may_be_early() {
                    later.push(session);
                    continue;
                }
                tally.count(&verdict, live.contains(&session));
                heads.add(&verdict);
                self.tell(&verdict)?;
            }
            let is_behind = |log: &Log| {
                heads
                    .newest()
                    .is_some_and(|newest| newest > log.reader.size())
            };
            if later.is_empty() && !log.as_ref().is_some_and(is_behind) {
                return Ok(());
            }
            // A daemon that goes on adds to the log what was not in it when it was read.
            tokio::time::sleep(A_MOMENT).await;
            if tally.log == 0
                && let Some(newer) = self.read_log(state_dir, &keys, &mut tally)?
            {
                log = Some(newer);
            }
            let entries = log.as_ref().map(|log| &log.entries);
            for session in later {
                let verdict = verify::recording(&recordings, session, &keys, entries).await?;
                tally.count(&verdict, live.contains(&session));
                heads.add(&verdict);
                self.tell(&verdict)?;
            }
            anyhow::Ok(())
        })?;
        let held = log.as_ref().map(|log| heads.hold(&log.reader));
        for problem in held.iter().flat_map(|held| &held.problems) {
            tally.log_problem(json, &problem.to_string())?;
        }
        let summed_up = tally.summed_up(log.as_ref().zip(held.as_ref()));
        print(&match json {
            true => format!("{}\n", serde_json::json!({"summary": summed_up})),
            false => summed_up.to_string(),
        })?;
        Ok(tally)
    }

    fn tell(&self, verdict: &Verdict) -> anyhow::Result<()> {
        print(&match self.json {
            true => verify::json_lines(verdict)?,
            false => verify::text(verdict),
        })
    }

    /// `None` if there is none, which is told.
    fn read_log(
        &self,
        state_dir: &std::path::Path,
        keys: &Keys,
        tally: &mut Tally,
    ) -> anyhow::Result<Option<Log>> {
        let mut directories = self.log.clone();
        if directories.is_empty() {
            directories.push(state_dir.join(log::DIRECTORY));
        }
        let mut longest: Option<(LogReader, Entries)> = None;
        for directory in &directories {
            let mut entries = Entries::default();
            let read = LogReader::open(directory, keys, |position, leaf| {
                // It begins again where a running daemon got in the way.
                if position.0 == 0 {
                    entries.clear();
                }
                entries.add(position, leaf);
            });
            let reader = match read {
                Ok(reader) => reader,
                Err(error) => {
                    tally.log_problem(self.json, &error.to_string())?;
                    continue;
                }
            };
            let (newer, older) = match longest.take() {
                None => {
                    longest = Some((reader, entries));
                    continue;
                }
                Some(other) if other.0.size() >= reader.size() => (other, (reader, entries)),
                Some(other) => ((reader, entries), other),
            };
            if let Err(error) = newer.0.continues(&older.0) {
                tally.log_problem(self.json, &error.to_string())?;
            }
            longest = Some(newer);
        }
        let Some((reader, mut entries)) = longest else {
            return Ok(None);
        };
        entries.set_under_way(retention::under_way(state_dir)?);
        let mut proven = None;
        if let Some(file) = &self.witness {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            let notes = witness_notes(&bytes);
            anyhow::ensure!(
                !notes.is_empty(),
                "{}: there is no checkpoint in it",
                file.display()
            );
            for note in notes {
                match reader.check_witness(note.as_bytes()) {
                    Ok(head) => proven = proven.max(Some(head.size())),
                    Err(error) => tally.log_problem(self.json, &error.to_string())?,
                }
            }
        }
        Ok(Some(Log {
            reader,
            entries,
            proven,
        }))
    }
}

struct Log {
    reader: LogReader,
    entries: Entries,
    /// Leaves that a checkpoint covers that was kept elsewhere.
    proven: Option<u64>,
}

async fn wanted(
    recordings: &Recordings,
    id: Option<&str>,
    log: Option<&Entries>,
    live: &std::collections::HashSet<SessionId>,
) -> anyhow::Result<Vec<SessionId>> {
    let Some(id) = id else {
        return Ok(verify::sessions(recordings, log)
            .await?
            .into_iter()
            .collect());
    };
    // One that is gone from the store, or cannot be read any more, is asked for by its whole id.
    if let Ok(session) = SessionId::parse(id) {
        return Ok(vec![session]);
    }
    let found = replay::resolve(recordings, id, live, |_| true).await?;
    Ok(vec![found.id()])
}

#[derive(Debug, Default)]
struct Tally {
    recordings: u64,
    unsound: u64,
    interrupted: u64,
    open: u64,
    log: u64,
}

impl Tally {
    fn count(&mut self, verdict: &Verdict, live: bool) {
        self.recordings += 1;
        self.unsound += u64::from(!verdict.problems.is_empty());
        self.interrupted += u64::from(verdict.state == State::Interrupted);
        self.open += u64::from(verdict.state == State::Open && !live);
    }

    fn log_problem(&mut self, json: bool, sentence: &str) -> anyhow::Result<()> {
        self.log += 1;
        if json {
            print(&format!("{}\n", serde_json::json!({"log": sentence})))?;
        } else {
            writeln!(std::io::stderr(), "bastion-audit: {sentence}")?;
        }
        Ok(())
    }

    fn status(&self) -> u8 {
        match self {
            Self { unsound, log, .. } if *unsound > 0 || *log > 0 => UNSOUND,
            Self {
                interrupted, open, ..
            } if *interrupted > 0 || *open > 0 => INTERRUPTED,
            _ => 0,
        }
    }

    fn summed_up(&self, log: Option<(&Log, &Held)>) -> Summary {
        Summary {
            recordings: self.recordings,
            unsound: self.unsound,
            interrupted: self.interrupted,
            open: self.open,
            log: log.map(|(log, held)| Completeness {
                leaves: log.reader.size(),
                manifests: held.manifests,
                newest_head: held.newest,
                witnessed: log.proven,
                unproven_since: (log.proven != Some(log.reader.size()))
                    .then(|| log.entries.time_at(log.proven.unwrap_or(0)))
                    .flatten(),
            }),
        }
    }
}

/// What was found, and how far that none is missing is proven.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    recordings: u64,
    unsound: u64,
    interrupted: u64,
    /// Neither sealed nor live.
    open: u64,
    /// `None` without a log, which proves nothing.
    log: Option<Completeness>,
}

#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Completeness {
    leaves: u64,
    /// Manifests with a head of the log that fits it.
    manifests: u64,
    /// Leaves that the newest of these heads covers.
    newest_head: Option<u64>,
    /// Leaves that a checkpoint covers that was kept elsewhere.
    witnessed: Option<u64>,
    /// What was removed since then would not be noticed. `None` if all is proven, which is when as many leaves are witnessed as there are; or since
    /// the log's beginning.
    unproven_since: Option<jiff::Timestamp>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!(
            "{} recordings: {} not sound, {} interrupted\n",
            self.recordings, self.unsound, self.interrupted
        );
        let Some(log) = &self.log else {
            text.push_str(
                "There is no log of recordings: that none is missing cannot be proven.\n",
            );
            return f.write_str(&text);
        };
        let leaves = log.leaves;
        if let Some(newest) = log.newest_head {
            text.push_str(&format!(
                "The heads of the log in {} manifests fit it; the newest covers {newest} leaves.\n",
                log.manifests
            ));
        }
        text.push_str(&match log.witnessed {
            Some(proven) if proven == leaves => {
                format!("The log has {leaves} leaves, and a checkpoint kept elsewhere covers them all.\n")
            }
            Some(proven) => format!(
                "The log has {leaves} leaves; a checkpoint kept elsewhere covers {proven}. That nothing was removed since {} is unproven.\n",
                since(log.unproven_since)
            ),
            None => format!(
                "The log has {leaves} leaves. Without a checkpoint kept elsewhere (--witness), that nothing was removed since {}{} is unproven.\n",
                since(log.unproven_since),
                match log.newest_head {
                    // What was closed after it and is still there would carry a head that the log is behind.
                    Some(_) => ", together with everything that was closed after it,",
                    None => "",
                }
            ),
        });
        f.write_str(&text)
    }
}

fn since(time: Option<jiff::Timestamp>) -> String {
    time.map_or_else(|| "its beginning".to_owned(), to_the_second)
}
