//! One page that answers an auditor's questions about a session.

use std::collections::HashSet;

use jiff::Timestamp;

use super::error::FindError;
use super::find::resolve;
use super::kept::Marks;
use super::printable::printable;
use super::summary::{Status, Summary};
use super::table::brief;
use crate::recording::{Covered, Ending, Metadata, Recordings};
use crate::session::SessionId;

/// The page of the recording that `text` means, and which one it is.
pub async fn show(
    recordings: &Recordings,
    text: &str,
    live: &HashSet<SessionId>,
    allow: impl Fn(&Metadata) -> bool,
) -> Result<(SessionId, String), FindError> {
    show_kept(recordings, text, live, &Marks::default(), allow).await
}

/// The same, with what keeps the recording.
pub async fn show_kept(
    recordings: &Recordings,
    text: &str,
    live: &HashSet<SessionId>,
    marks: &Marks,
    allow: impl Fn(&Metadata) -> bool,
) -> Result<(SessionId, String), FindError> {
    let mut summary = resolve(recordings, text, live, allow).await?;
    summary.count(recordings).await?;
    summary.kept = marks.of(&summary);
    Ok((summary.id(), page(&summary)))
}

fn page(summary: &Summary) -> String {
    let session = &summary.session;
    let mut page = Page::default();
    page.line(
        "session",
        &format!("{}, {}", session.session, summary.state.as_str()),
    );
    if let Some(reason) = &summary.reason {
        page.line("", reason);
    }
    if let Some(parent) = session.parent {
        page.line(
            "part of",
            &format!("{}, request {}", parent.session, parent.request),
        );
    }
    page.line("who", session.identity.as_str());
    if !session.groups.is_empty() {
        page.line(
            "",
            &format!(
                "in {}",
                session
                    .groups
                    .iter()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        );
    }
    page.line("", &format!("by the key {}", session.fingerprint));
    if let Some(certificate) = &session.certificate {
        page.line("", &format!("with {certificate}"));
        page.line("", &format!("for {}", certificate.principals.join(", ")));
    }
    page.line("allowed by", &format!("the binding {}", session.binding));
    if let Some(reason) = &session.reason {
        page.line("", &format!("because: {reason}"));
    }
    page.line(
        "",
        &format!("under the configuration {}", session.config_digest),
    );
    page.line("as", &format!("{} on {}", session.role, session.cluster));
    page.line("", &session.subject);
    page.line("what", &session.kind.to_string());
    if let Some(command) = &session.command {
        page.line("", command);
    }
    if let Some(pod) = &session.pod {
        let container = pod.container.as_deref().unwrap_or("its default container");
        page.line(
            "",
            &format!("in {}/{}, {container}", pod.namespace, pod.name),
        );
    }
    if let Some(terminal) = &session.terminal {
        let size = terminal.size;
        page.line(
            "",
            &format!(
                "at a terminal: {}, {}x{}",
                terminal.term, size.cols, size.rows
            ),
        );
    }
    page.line("when", &when(summary));
    page.line("", &format!("opened to end by {}", moment(session.ends)));
    page.line("ended", &ended(summary));
    page.line("from", &session.client.address.to_string());
    if !session.client.client.is_empty() {
        page.line("", &session.client.client);
    }
    page.line("at", &format!("the bastion {}", session.instance));
    credentials(summary, &mut page);
    if let Some(totals) = summary.totals {
        page.line(
            "bytes",
            &format!(
                "stdout {}, stderr {}, stdin {}",
                totals.stdout_bytes, totals.stderr_bytes, totals.stdin_bytes
            ),
        );
    }
    requests(summary, &mut page);
    coverage(summary, &mut page);
    if let Some(cast) = &summary.cast {
        page.line("cast", &format!("{} bytes", cast.bytes));
        if let Some(sha256) = &cast.sha256 {
            page.line("", &format!("SHA-256 {sha256}"));
        }
    }
    for (title, text) in summary.kept.lines() {
        page.line(title, &text);
    }
    page.0
}

fn when(summary: &Summary) -> String {
    let opened = moment(summary.session.opened);
    match (summary.closed, summary.length()) {
        (Some(closed), Some(length)) => {
            format!("{opened} to {} ({})", moment(closed), brief(length))
        }
        _ => format!("since {opened}"),
    }
}

fn moment(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn ended(summary: &Summary) -> String {
    match (&summary.ending, summary.state) {
        (Some(Ending::Exit(status)), _) => format!("exit status {status}"),
        (Some(Ending::Signal(signal)), _) => format!("by the signal {signal}"),
        (Some(Ending::Cut { reason }), _) => format!("cut: {reason}"),
        (None, Status::Live) => "not yet".to_owned(),
        (None, _) => "unknown: nobody saw it".to_owned(),
    }
}

fn credentials(summary: &Summary, page: &mut Page) {
    let mut title = "credentials";
    for lease in summary.leases.iter().flatten() {
        page.line(
            title,
            &format!("jti {}, expires {}", lease.jti, moment(lease.expires)),
        );
        if let Some(audit_id) = &lease.audit_id {
            page.line("", &format!("issued as Audit-Id {audit_id}"));
        }
        title = "";
    }
    if !title.is_empty() {
        page.line(title, "none");
    }
}

/// What was asked of the cluster, and the streams into pods that have recordings of their own.
fn requests(summary: &Summary, page: &mut Page) {
    let Some(requests) = &summary.requests else {
        return;
    };
    let counts = requests.counts;
    let of = [
        (counts.writes, "writes"),
        (counts.execs, "execs"),
        (counts.port_forwards, "port-forwards"),
        (counts.secret_reads, "reads of Secrets"),
        (counts.credentials_issued, "that issue credentials"),
        (counts.refused, "refused"),
        (counts.unanswered, "unanswered"),
    ];
    let of: Vec<String> = of
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let of = if of.is_empty() {
        String::new()
    } else {
        format!(", of them {}", of.join(", "))
    };
    page.line("requests", &format!("{}{of}", counts.total));
    for child in &requests.children {
        page.line(
            "",
            &format!("request {}: the stream {}", child.request, child.session),
        );
    }
    if requests.more_children > 0 {
        page.line("", &format!("and {} streams more", requests.more_children));
    }
}

const REQUESTS: &str = "requests to the cluster";

fn coverage(summary: &Summary, page: &mut Page) {
    let coverage = summary.coverage;
    let mut title = "on record";
    for (channel, covered) in [
        ("terminal", coverage.terminal),
        ("stdin", coverage.stdin),
        ("stdout", coverage.stdout),
        ("stderr", coverage.stderr),
        (REQUESTS, coverage.requests),
    ] {
        let how = match covered {
            Covered::Absent => continue,
            Covered::Recorded if channel == REQUESTS => "yes, each one",
            Covered::Recorded => "yes, every byte",
            Covered::Digest => "length and SHA-256 only",
            Covered::Off => "no",
            Covered::HandedOut => "no: the credential went to the client",
        };
        page.line(title, &format!("{channel}: {how}"));
        title = "";
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, title: &str, text: &str) {
        self.0
            .push_str(&format!("{title:<12}{}\n", printable(text)));
    }
}
