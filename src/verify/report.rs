//! Verdicts for people and for programs.

use serde::{Serialize as _, Serializer};

use super::{Finding, State, Verdict};
use crate::clock;
use crate::log::Head;
use crate::replay::printable;

/// A line for a sound recording, and one more for each thing that is wrong.
pub fn text(verdict: &Verdict) -> String {
    let state = match verdict.state {
        State::Complete => "complete",
        State::Interrupted => "interrupted",
        State::Open => "open",
        State::Missing => "missing",
        State::Deleted => "deleted",
        State::Unknown => "unknown",
    };
    let sound = match verdict.problems.is_empty() {
        true => "ok",
        false => "NOT SOUND",
    };
    let mut text = format!("{} {state:<11} {sound}", verdict.session);
    if verdict.checkpoints > 0 {
        text.push_str(&format!(
            "  {} bytes under {} checkpoints",
            verdict.bytes, verdict.checkpoints
        ));
    }
    if verdict.state == State::Open
        && let Some(until) = verdict.until
    {
        text.push_str(&format!(", until {}", clock::to_the_second(until)));
    }
    text.push('\n');
    if let Some(reason) = &verdict.reason {
        text.push_str(&format!("    {}\n", printable(reason)));
    }
    for finding in &verdict.problems {
        text.push_str(&format!("  ! {}\n", printable(&finding.to_string())));
    }
    text
}

/// One JSON object a line.
pub fn json_lines(verdict: &Verdict) -> serde_json::Result<String> {
    serde_json::to_string(verdict).map(|line| line + "\n")
}

pub(super) fn size<S: Serializer>(head: &Option<Head>, serializer: S) -> Result<S::Ok, S::Error> {
    head.as_ref().map(Head::size).serialize(serializer)
}

pub(super) fn sentences<S: Serializer>(
    findings: &[Finding],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(findings.iter().map(ToString::to_string))
}
