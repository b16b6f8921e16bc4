//! `bastion WORD` inside a session: about its operator and itself. Nothing that a command has no business with: no
//! credential, no recording.

use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

use super::{LONGEST, OPEN_QUOTE, about, explain};
use crate::audit::Event;
use crate::clock;
use crate::config::{duration, show_duration};
use crate::monitor::Monitor;
use crate::policy;
use crate::recording::OpenRecording;
use crate::session::{Caller, LiveSession, SessionId, steps};

#[derive(Debug, Parser)]
#[command(
    name = "bastion",
    about = "What this bastion answers inside a session",
    disable_help_subcommand = true,
    disable_version_flag = true,
    term_width = 80,
    color = clap::ColorChoice::Never
)]
struct Words {
    #[command(subcommand)]
    word: Option<Word>,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Who was proven, and by what
    Whoami,
    /// This session: as whom it acts in which cluster, and how much time is left
    Session,
    /// More time for this session, as far as its role and your binding give more
    Extend {
        /// How much: 30m, 1h30m
        #[arg(value_name = "DURATION", default_value = "1h", value_parser = by)]
        by: Duration,
    },
    /// The roles that you may take, where, and how to log in for each
    Roles,
    /// Why you may or may not take a role
    Explain {
        /// ROLE or ROLE+CLUSTER; without one, what your login name stands for
        role: Option<String>,
    },
    /// This help
    Help,
}

/// In here that is a request like any other, on record as one.
const CAN_I: &str =
    "\nwhat Kubernetes grants this session: kubectl auth can-i --list [--namespace NAME]\n";
const ENDING: &str = "bastion-audit: this session is ending\n";

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Told {
    pub(in crate::session) text: String,
    /// 0: it goes to standard output.
    pub(in crate::session) status: u8,
}

impl Told {
    fn wrong(text: impl Into<String>, status: u8) -> Self {
        Self {
            text: text.into(),
            status,
        }
    }
}

/// Answers one line of a session's own.
pub(in crate::session) async fn answer_inside(
    monitor: &Monitor,
    caller: &Caller,
    recording: &OpenRecording,
    line: &str,
) -> Told {
    let word = match parse(line) {
        Ok(word) => word,
        Err(told) => return told,
    };
    let session = recording.id();
    let config = monitor.config();
    let now = monitor.clock.now();
    let (name, text) = match word {
        Word::Whoami => ("whoami", about::whoami(&config, caller)),
        Word::Roles => ("roles", about::roles(&config, caller, now)),
        Word::Explain { role } => {
            let login = role.as_deref().unwrap_or(&caller.principal);
            let open = monitor.live.of(caller.identity.name());
            let (text, _) = explain::decided(&config, caller, login, &open, now);
            ("explain", text + CAN_I)
        }
        Word::Session => match monitor.live.told(session) {
            Some(told) => {
                let latest = may_extend(monitor, caller, session);
                ("session", about_session(&told, latest, now))
            }
            None => return Told::wrong(ENDING, 1),
        },
        Word::Extend { by } => return extend(monitor, caller, recording, by).await,
        Word::Help => ("help", help()),
    };
    let event = Event::WordAnswered {
        identity: caller.identity.name(),
        peer: &caller.peer,
        word: name,
    };
    match steps::on_record(monitor, event).await {
        Ok(()) => Told { text, status: 0 },
        Err(sentence) => Told::wrong(format!("bastion-audit: {sentence}\n"), 1),
    }
}

/// When a session could end at the latest, if that is later than it does.
pub(in crate::session) fn may_extend(
    monitor: &Monitor,
    caller: &Caller,
    session: SessionId,
) -> Option<Timestamp> {
    let (config, now) = (monitor.config(), monitor.clock.now());
    let grant = monitor.live.grant(session)?;
    policy::extend(&config, &grant, &caller.identity, Duration::MAX, now)
        .ok()
        .map(|extended| extended.ends())
}

/// Decides, has it on record, and then lets the session last longer.
async fn extend(
    monitor: &Monitor,
    caller: &Caller,
    recording: &OpenRecording,
    by: Duration,
) -> Told {
    let refused = |sentence: String| Told::wrong(format!("bastion-audit: {sentence}\n"), 1);
    let session = recording.id();
    let Some(grant) = monitor.live.grant(session) else {
        return Told::wrong(ENDING, 1);
    };
    let (config, now) = (monitor.config(), monitor.clock.now());
    let identity = caller.identity.name();
    let extended = match policy::extend(&config, &grant, &caller.identity, by, now) {
        Ok(extended) => extended,
        Err(denial) => {
            let event = Event::ExtensionDenied {
                session,
                identity,
                denial: &denial,
                config_digest: &config.digest,
            };
            return match steps::on_record(monitor, event).await {
                Ok(()) => refused(denial.to_string()),
                Err(sentence) => refused(sentence),
            };
        }
    };
    let ends = extended.ends();
    let event = Event::SessionExtended {
        session,
        identity,
        previously: grant.ends(),
        ends,
        config_digest: &config.digest,
    };
    if let Err(sentence) = steps::on_record(monitor, event).await {
        return refused(sentence);
    }
    let text = format!("this session ends by {} now", clock::to_the_second(ends));
    if recording
        .notice(&format!("bastion-audit: {text}"))
        .await
        .is_err()
        || !monitor.live.extend(session, extended)
    {
        return Told::wrong(ENDING, 1);
    }
    let given = Duration::try_from(ends.duration_since(grant.ends())).unwrap_or_default();
    let all = if given < by {
        format!(" ({} more, which is all there is)", show_duration(given))
    } else {
        String::new()
    };
    Told {
        text: format!("{text}{all}\n"),
        status: 0,
    }
}

/// Nothing, or less than a second, is no extension.
fn by(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("that is no time at all".into()),
        by => Ok(by),
    }
}

fn about_session(session: &LiveSession, latest: Option<Timestamp>, now: Timestamp) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| about::row(&mut text, name, value);
    row("session", session.session.to_string());
    row("identity", session.identity.to_string());
    row("role", session.role.to_string());
    row("cluster", session.cluster.to_string());
    row("acts as", session.subject.to_string());
    row("opened", clock::to_the_second(session.opened));
    row("ends by", clock::to_the_second(session.ends));
    let left = clock::remaining(session.ends, now).as_secs();
    row(
        "time left",
        format!("{}h {:02}m", left / 3600, left / 60 % 60),
    );
    if let Some(latest) = latest {
        let latest = clock::to_the_second(latest);
        row("may last", format!("until {latest} (bastion extend)"));
    }
    row("recorded", "yes".into());
    text
}

fn parse(line: &str) -> Result<Word, Told> {
    if line.len() > LONGEST {
        return Err(Told::wrong("bastion-audit: that line is too long\n", 2));
    }
    let words = shlex::split(line).ok_or_else(|| Told::wrong(format!("{OPEN_QUOTE}\n"), 2))?;
    let argv = std::iter::once("bastion".to_owned()).chain(words);
    match Words::try_parse_from(argv) {
        Ok(words) => Ok(words.word.unwrap_or(Word::Help)),
        Err(error) if error.use_stderr() => Err(Told::wrong(error.render().to_string(), 2)),
        Err(_) if line.trim_start().starts_with('-') => Ok(Word::Help),
        Err(error) => Err(Told {
            text: error.render().to_string(),
            status: 0,
        }),
    }
}

fn help() -> String {
    use clap::CommandFactory;
    Words::command().render_help().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_session_is_answered_in_it() {
        assert!(matches!(parse("whoami"), Ok(Word::Whoami)));
        assert!(matches!(parse(""), Ok(Word::Help)));
        assert!(matches!(parse("--help"), Ok(Word::Help)));
        for refused in [
            "credential",
            "kubeconfig",
            "sessions",
            "show latest",
            "replay latest",
            "fetch latest",
        ] {
            assert_eq!(parse(refused).unwrap_err().status, 2, "{refused}");
        }
        assert_eq!(parse("whoami --help").unwrap_err().status, 0);
        assert_eq!(parse("explain 'x").unwrap_err().status, 2);
        assert_eq!(parse(&"x".repeat(5000)).unwrap_err().status, 2);
    }
}
