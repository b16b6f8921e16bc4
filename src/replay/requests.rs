//! Requests to the cluster, in line with what a session showed: what changed or read something that matters stands
//! out, a program's polling is counted and not repeated.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::printable::printable;
use crate::recording::Happening;
use crate::recording::requests::{Answered, Asked, Mark, Note, RequestNumber, RequestSummary};

/// Of so many kinds of request in a row is remembered that they were shown.
const KINDS: usize = 32;
/// Requests under way whose answer is of interest.
const UNDER_WAY: usize = 1024;
/// A command in a line about a request; the index has all of it.
const LONGEST: usize = 200;

/// A line about requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestLine {
    /// One line of text, safe for a terminal.
    pub(crate) text: String,
    /// It stands out.
    pub(crate) loud: bool,
}

/// Tells of requests, event by event.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    /// What was shown lately, the newest last.
    shown: VecDeque<RequestSummary>,
    /// Requests like those that came since.
    folded: u64,
    /// What is told of an answer.
    asked: BTreeMap<RequestNumber, Told>,
}

/// When an answer is told of.
#[derive(Debug)]
enum Told {
    Always,
    /// With what was asked, if that was not shown.
    IfItFailed(String),
}

impl RequestLog {
    /// What there is to say about an event.
    pub(crate) fn tell(&mut self, what: &Happening) -> Vec<RequestLine> {
        match what {
            Happening::Request(asked) => self.request(asked),
            Happening::Answer(answered) => self.answer(answered),
            Happening::Note(noted) => match &noted.note {
                Note::Child(session) => {
                    let text = format!("request {}: its stream is {session}", noted.request);
                    vec![RequestLine { text, loud: false }]
                }
                Note::Files(files) => files
                    .iter()
                    .map(|file| RequestLine {
                        text: format!(
                            "request {}: copied {} ({} bytes) {}",
                            noted.request,
                            printable(&file.name),
                            file.bytes,
                            file.direction.as_str()
                        ),
                        loud: true,
                    })
                    .collect(),
                Note::Forwards(_) | Note::Body(_) => Vec::new(),
            },
            Happening::End(_) => self.unfold().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn request(&mut self, asked: &Asked) -> Vec<RequestLine> {
        let loud = asked.marks.iter().any(|mark| *mark != Mark::DryRun);
        let folded = !loud && !self.is_new(&asked.info);
        if self.asked.len() < UNDER_WAY {
            let told = match (loud, folded) {
                (true, _) => Told::Always,
                (false, true) => Told::IfItFailed(said(asked)),
                (false, false) => Told::IfItFailed(String::new()),
            };
            self.asked.insert(asked.request, told);
        }
        if folded {
            self.folded = self.folded.saturating_add(1);
            return Vec::new();
        }
        let mut lines: Vec<_> = self.unfold().into_iter().collect();
        lines.push(RequestLine {
            text: format!("request {}: {}", asked.request, said(asked)),
            loud,
        });
        lines
    }

    fn answer(&mut self, answered: &Answered) -> Vec<RequestLine> {
        let failed = answered.error.is_some() || answered.status.is_none_or(|status| status >= 400);
        // What an ordinary question is answered is on the screen.
        let (loud, what) = match self.asked.remove(&answered.request) {
            Some(Told::Always) => (true, String::new()),
            Some(Told::IfItFailed(what)) if failed => (false, what),
            _ if !answered.marks.is_empty() => (true, String::new()),
            _ => return Vec::new(),
        };
        let what = if what.is_empty() {
            what
        } else {
            format!("{what}: ")
        };
        let status = answered
            .status
            .map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let seconds = Duration::from(answered.seconds).as_secs_f64();
        let mut text = format!(
            "request {}: {what}{status} after {seconds:.3} s",
            answered.request
        );
        if let Some(error) = &answered.error {
            text.push_str(&format!(" ({})", printable(error)));
        }
        text.push_str(&marks(&answered.marks));
        vec![RequestLine { text, loud }]
    }

    /// Whether none like it was shown lately. A path that is about no resource is discovery.
    fn is_new(&mut self, info: &RequestSummary) -> bool {
        if !info.is_resource || self.shown.contains(info) {
            return false;
        }
        if self.shown.len() >= KINDS {
            self.shown.pop_front();
        }
        self.shown.push_back(info.clone());
        true
    }

    fn unfold(&mut self) -> Option<RequestLine> {
        let folded = std::mem::take(&mut self.folded);
        (folded > 0).then(|| RequestLine {
            text: match folded {
                1 => "1 more request of the same kind, or for discovery".to_owned(),
                some => format!("{some} more requests of the same kinds, or for discovery"),
            },
            loud: false,
        })
    }
}

/// A request as one would say it: `delete pods default/web`.
fn said(asked: &Asked) -> String {
    let info = &asked.info;
    let mut text = info.verb.clone();
    text.push(' ');
    if !info.is_resource {
        text.push_str(&asked.path);
    } else {
        text.push_str(&info.resource);
        for (before, part) in [(".", &info.api_group), ("/", &info.subresource)] {
            if !part.is_empty() {
                text.push_str(before);
                text.push_str(part);
            }
        }
        let of = match (info.namespace.as_str(), info.name.as_str()) {
            ("", "") => String::new(),
            ("", name) => format!(" {name}"),
            (namespace, "") => format!(" in {namespace}"),
            (namespace, name) => format!(" {namespace}/{name}"),
        };
        text.push_str(&of);
    }
    let command: Vec<&str> = asked
        .query
        .iter()
        .filter(|(name, _)| name == "command")
        .map(|(_, value)| value.as_str())
        .collect();
    if !command.is_empty() {
        let command =
            shlex::try_join(command.iter().copied()).unwrap_or_else(|_| command.join(" "));
        text.push_str(": ");
        text.extend(command.chars().take(LONGEST));
        if command.chars().count() > LONGEST {
            text.push('\u{2026}');
        }
    }
    printable(&text) + &marks(&asked.marks)
}

fn marks(marks: &[Mark]) -> String {
    let marks: Vec<&str> = marks.iter().map(|mark| mark.as_str()).collect();
    if marks.is_empty() {
        String::new()
    } else {
        format!(" <{}>", marks.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Ending;

    fn asked(number: u64, verb: &str, resource: &str, name: &str, marks: &[Mark]) -> Happening {
        Happening::Request(Box::new(Asked {
            request: serde_json::from_value(number.into()).unwrap(),
            info: RequestSummary {
                is_resource: !resource.is_empty(),
                verb: verb.to_owned(),
                resource: resource.to_owned(),
                namespace: "default".to_owned(),
                name: name.to_owned(),
                ..RequestSummary::default()
            },
            path: "/api".to_owned(),
            query: Vec::new(),
            marks: marks.to_vec(),
        }))
    }

    fn texts(lines: &[RequestLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn polling_is_folded_and_what_matters_stands_out() {
        let mut log = RequestLog::default();
        assert_eq!(texts(&log.tell(&asked(1, "get", "", "", &[]))), [""; 0]);
        let lines = log.tell(&asked(2, "list", "pods", "", &[]));
        assert_eq!(
            texts(&lines),
            [
                "1 more request of the same kind, or for discovery",
                "request 2: list pods in default"
            ]
        );
        for number in 3..20 {
            assert_eq!(log.tell(&asked(number, "list", "pods", "", &[])), []);
        }
        let lines = log.tell(&asked(20, "delete", "pods", "web", &[Mark::Write]));
        assert_eq!(
            texts(&lines),
            [
                "17 more requests of the same kinds, or for discovery",
                "request 20: delete pods default/web <write>"
            ]
        );
        assert!(!lines[0].loud && lines[1].loud);
        // The same again is shown again: it changed something.
        assert_eq!(
            log.tell(&asked(21, "delete", "pods", "web", &[Mark::Write]))
                .len(),
            1
        );
        assert_eq!(log.tell(&Happening::End(Ending::Exit(0))), []);
    }

    #[test]
    fn what_fails_is_told_also_when_it_was_folded() {
        let mut log = RequestLog::default();
        log.tell(&asked(1, "list", "pods", "", &[]));
        assert_eq!(log.tell(&asked(2, "list", "pods", "", &[])), []);
        let answer = |number: u64, status: u16| {
            let answered = serde_json::json!({
                "request": number, "status": status, "seconds": 0.25, "bytesIn": 0, "bytesOut": 2,
            });
            Happening::Answer(Box::new(serde_json::from_value(answered).unwrap()))
        };
        assert_eq!(log.tell(&answer(1, 200)), []);
        let lines = log.tell(&answer(2, 403));
        assert_eq!(
            texts(&lines),
            ["request 2: list pods in default: 403 after 0.250 s"]
        );
    }

    #[test]
    fn a_stranger_s_text_cannot_harm_a_terminal() {
        let mut log = RequestLog::default();
        let lines = log.tell(&asked(
            1,
            "get",
            "pods",
            "\u{1b}]0;x\u{7}\n",
            &[Mark::Write],
        ));
        assert!(
            lines[0]
                .text
                .chars()
                .all(|character| !character.is_control()),
            "{lines:?}"
        );
    }
}
