//! The words for reading recordings, as they are typed on a command line here or over ssh.

use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};
use jiff::Timestamp;

use super::find::Query;
use super::moment::{Edge, NotAMoment, parse_duration, parse_moment};
use super::summary::Status;
use super::touched::NotTouched;

/// Which sessions to list. Times without a zone are UTC. `ssh` passes no quotes on, so what may be of several words takes them
/// as several as well.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// Of this identity
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Under this role
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
    /// On this cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Begun since then: 2026-11-24, "2026-11-24 15:04", 15:04, or 90m for 90 minutes ago
    #[arg(long, value_name = "TIME", num_args = 1..=2, action = ArgAction::Set)]
    pub since: Vec<String>,
    /// Begun until then
    #[arg(long, value_name = "TIME", num_args = 1..=2, action = ArgAction::Set)]
    pub until: Vec<String>,
    /// Going on at that moment
    #[arg(long, value_name = "TIME", num_args = 1..=2, action = ArgAction::Set)]
    pub at: Vec<String>,
    /// To which the token with this id was issued (credential-id in the API server's audit log)
    #[arg(long, value_name = "ID")]
    pub jti: Option<String>,
    /// To which a token was issued, or in which a request was made, under this Audit-Id (auditID in the API server's audit log)
    #[arg(long, value_name = "ID")]
    pub audit_id: Option<String>,
    /// With this text in the command
    #[arg(long, value_name = "TEXT", num_args = 1.., action = ArgAction::Set)]
    pub command: Vec<String>,
    /// With a request like this: 'delete pods/*', 'create pods/*/exec', 'patch deployments.apps/web'; * is any text
    #[arg(long, value_name = "VERB RESOURCE[/NAME]", num_args = 1..=2, action = ArgAction::Set)]
    pub touched: Vec<String>,
    /// Of --touched: only in this namespace; * is any text
    #[arg(long, short, value_name = "NAMESPACE", requires = "touched")]
    pub namespace: Option<String>,
    /// Streams into pods as well, each a recording of its own that belongs to a session
    #[arg(long)]
    pub streams: bool,
    /// In this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<Status>,
    /// Only those that go on: the same as --state live
    #[arg(long, conflicts_with = "state")]
    pub live: bool,
    /// At most so many, the newest first; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub limit: usize,
    /// One JSON object a line, instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Filters {
    /// What these look for.
    pub fn query(&self, now: Timestamp) -> Result<Query, NotAQuery> {
        let moment = |words: &[String], edge| {
            joined(words)
                .map(|text| parse_moment(&text, now, edge))
                .transpose()
        };
        let touched = joined(&self.touched).map(|what| match &self.namespace {
            Some(namespace) => format!("{what} -n {namespace}"),
            None => what,
        });
        Ok(Query {
            identity: self.identity.clone(),
            role: self.role.clone(),
            cluster: self.cluster.clone(),
            since: moment(&self.since, Edge::Start)?,
            until: moment(&self.until, Edge::End)?,
            at: moment(&self.at, Edge::Start)?,
            jti: self.jti.clone(),
            audit_id: self.audit_id.clone(),
            command: joined(&self.command),
            touched: touched.map(|text| text.parse()).transpose()?,
            streams: self.streams,
            state: self.state.or(self.live.then_some(Status::Live)),
            limit: (self.limit > 0).then_some(self.limit),
        })
    }
}

/// What filters say makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAQuery {
    /// A time is none.
    #[error(transparent)]
    Moment(#[from] NotAMoment),
    /// No request is like that.
    #[error(transparent)]
    Touched(#[from] NotTouched),
}

/// As it was meant, before a shell or `ssh` took it apart.
fn joined(words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| words.join(" "))
}

/// How to play a recording. While it plays: space stops and goes on, `.` steps, the arrow keys jump 5 seconds, Home
/// begins again, + and - change the speed, q ends it.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct ReplayArgs {
    /// The session: its id, the beginning of it, or `latest`
    #[arg(value_name = "ID")]
    pub id: String,
    /// So many times as fast
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Begin there: 90, 1:30, 1m30s after the start, or a moment such as 2026-11-24T15:04:05Z
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Shorten pauses to so long: 2s, 500ms; 0 to skip them all
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub idle_limit: Option<Duration>,
    /// Requests to the cluster as well, in line; what is the same again and again is counted
    #[arg(long)]
    pub requests: bool,
}

impl ReplayArgs {
    /// Where to begin, in a session that was opened at `opened`.
    pub fn begin(&self, opened: Timestamp, now: Timestamp) -> Result<Duration, NotAMoment> {
        let Some(text) = self.at.as_deref() else {
            return Ok(Duration::ZERO);
        };
        if let Some(after_start) = parse_duration(text) {
            return Ok(after_start);
        }
        let moment = parse_moment(text, now, Edge::Start)?;
        // Before the start is the start.
        Ok(Duration::try_from(moment.duration_since(opened)).unwrap_or(Duration::ZERO))
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.0625..=64.0).contains(&speed) => Ok(speed),
        _ => Err("a speed is 0.0625 to 64".to_owned()),
    }
}

fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a span of time is 2s, 500ms, 1m30s".to_owned())
}

/// `bastion sessions|show|replay|fetch`, over ssh.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum ReadingWord {
    /// List recorded sessions, the newest first
    Sessions(Box<Filters>),
    /// One page about a session: who, why, what, when, from where
    Show {
        /// The session: its id, the beginning of it, or `latest`
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Play a session in this terminal (ssh -t); without one, print its text
    Replay(ReplayArgs),
    /// The recording itself, as asciicast v3
    Fetch {
        /// The session: its id, the beginning of it, or `latest`
        #[arg(value_name = "ID")]
        id: String,
    },
}
