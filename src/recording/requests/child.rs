//! A stream into a pod that is a recording of its own: an exec or attach of the API.

use serde::{Deserialize, Serialize};

use super::RequestNumber;
use crate::messages::{Terminal, WindowSize};
use crate::session::SessionId;

/// What a child recording is opened with; who, why and where are its parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The request that opened the stream.
    pub request: RequestNumber,
    /// What kind of stream.
    pub stream: PodStream,
    /// Where it leads.
    pub pod: Pod,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// The terminal's size if the client has said it already. It may come as a resize; until then it is the
    /// session's own.
    pub size: Option<WindowSize>,
}

/// A stream of the API that is recorded like a session. Told apart from an exec over SSH by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodStream {
    /// A process was started in a container: `pods/exec`.
    PodExec,
    /// A container's own process was joined: `pods/attach`.
    PodAttach,
}

impl std::fmt::Display for PodStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PodExec => "pod exec",
            Self::PodAttach => "pod attach",
        })
    }
}

/// A container, and what was to be run in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The container; `None` if the client left it to the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The command, argument by argument; empty for an attach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// The request that a recording belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The session that it is part of.
    pub session: SessionId,
    /// The request in that session's index.
    pub request: RequestNumber,
}

/// A command as a shell would take it, for people.
pub(super) fn shown(command: &[String]) -> String {
    let quoted = command.iter().map(String::as_str);
    // Only a NUL cannot be quoted, and none gets through to a process either.
    shlex::try_join(quoted).unwrap_or_else(|_| command.join(" "))
}

/// The terminal of a process in a pod: it says no more of itself than its size.
pub(super) fn terminal(session: Option<Terminal>, size: Option<WindowSize>) -> Terminal {
    let (term, session_size) = match session {
        Some(terminal) => (terminal.term, terminal.size),
        None => ("xterm".to_owned(), WindowSize { cols: 80, rows: 24 }),
    };
    Terminal {
        term,
        size: size.unwrap_or(session_size),
        modes: Vec::new(),
    }
}
