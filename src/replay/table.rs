//! Lists of recordings, for eyes and for programs.

use std::time::Duration;

use jiff::Timestamp;

use super::printable::printable;
use super::summary::{Status, Summary};
use crate::recording::Ending;
use crate::session::SessionId;

/// Identity and role are cut beyond these, so that something is left for the command.
const WIDEST_IDENTITY: usize = 16;
const WIDEST_ROLE: usize = 20;

/// A table with a heading, newest first, no line wider than `width` (at least 60).
pub fn table(sessions: &[Summary], width: usize) -> String {
    if sessions.is_empty() {
        return "no sessions\n".to_owned();
    }
    let short = shortest_prefix(sessions);
    // Most lists have nothing to say of it.
    let kept = sessions.iter().any(|it| !it.kept.in_a_word().is_empty());
    let heading = ["SESSION", "STARTED (UTC)", "LENGTH", "END"];
    let heading = heading.into_iter().chain(kept.then_some("KEPT"));
    let heading = heading.chain(["IDENTITY", "ROLE+CLUSTER", "WHAT"]);
    let mut rows = vec![heading.map(str::to_owned).collect::<Vec<_>>()];
    for summary in sessions {
        let session = &summary.session;
        let id = session.session.to_string();
        let mut row = vec![
            id.get(..short).unwrap_or(&id).to_owned(),
            started(session.opened),
            summary.length().map_or_else(|| "-".to_owned(), brief),
            end(summary),
        ];
        row.extend(kept.then(|| summary.kept.in_a_word().to_owned()));
        row.extend([
            cut(session.identity.as_str(), WIDEST_IDENTITY),
            cut(
                &format!("{}+{}", session.role, session.cluster),
                WIDEST_ROLE,
            ),
            match &session.command {
                Some(command) => printable(command),
                None => session.kind.to_string(),
            },
        ]);
        rows.push(row);
    }
    lay_out(&rows, width.max(60))
}

/// What could not be searched, a line for each; nothing if all was.
pub fn unsearched(found: &[(SessionId, String)]) -> String {
    let line = |(id, why): &(SessionId, String)| {
        format!("could not be searched: {id}: {}\n", printable(why))
    };
    found.iter().map(line).collect()
}

/// The same as JSON lines.
pub fn unsearched_lines(found: &[(SessionId, String)]) -> String {
    let line = |(id, why): &(SessionId, String)| {
        format!(
            "{}\n",
            serde_json::json!({ "unsearched": id, "reason": why })
        )
    };
    found.iter().map(line).collect()
}

/// One JSON object for each, newest first.
pub fn json_lines(sessions: &[Summary]) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    for summary in sessions {
        out.push_str(&serde_json::to_string(summary)?);
        out.push('\n');
    }
    Ok(out)
}

fn lay_out(rows: &[Vec<String>], width: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let mut widths = vec![0; columns];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, wide)) in row.iter().zip(&widths).enumerate() {
            let wide = *wide;
            if column + 1 == columns {
                let left = width.saturating_sub(line.chars().count());
                line.push_str(&cut(cell, left));
            } else {
                line.push_str(&format!("{cell:<wide$} "));
            }
        }
        out.push_str(cut(line.trim_end(), width).as_str());
        out.push('\n');
    }
    out
}

/// How many characters tell these ids apart: at least ten, which name the millisecond.
fn shortest_prefix(sessions: &[Summary]) -> usize {
    let mut ids: Vec<String> = sessions
        .iter()
        .map(|summary| summary.id().to_string())
        .collect();
    ids.sort_unstable();
    ids.iter()
        .zip(ids.iter().skip(1))
        .map(|(a, b)| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count() + 1)
        .max()
        .unwrap_or(0)
        .max(10)
}

fn started(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M").to_string()
}

/// A span of time in at most six characters: `42s`, `12m30s`, `8h02m`, `3d04h`.
pub(super) fn brief(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

fn end(summary: &Summary) -> String {
    match (summary.state, &summary.ending) {
        (Status::Live, _) => "live".to_owned(),
        (Status::Interrupted, _) => "interrupted".to_owned(),
        (Status::Complete, Some(Ending::Exit(status))) => status.to_string(),
        (Status::Complete, Some(Ending::Signal(name))) => cut(&printable(name), 8),
        (Status::Complete, Some(Ending::Cut { .. })) => "cut".to_owned(),
        (Status::Complete, None) => "-".to_owned(),
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}
