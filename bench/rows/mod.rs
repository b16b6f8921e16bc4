//! What is measured, a file for each.

mod credential;
mod exec;
mod flood;
mod gets;
mod idle;
mod keystroke;
mod login;
mod mapping;
mod pod_exec;
mod pty;
mod seek;
mod size;
mod typing;
mod verify;
mod watches;

use super::stage::Stage;
use super::table::{Measured, Reach, Unit};

/// A row, or some that belong together.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Row {
    /// A short-lived credential, from nothing
    Credential,
    /// A gigabyte through a command without a terminal
    Exec,
    /// A flood of output at a terminal
    Pty,
    /// How soon there is a prompt, and how many commands begin
    Login,
    /// How soon a key that is pressed comes back
    Keystroke,
    /// Memory of a session in which nothing happens
    Idle,
    /// Small answers of the API server
    Requests,
    /// A long list
    List,
    /// A flood of output of a command in a pod
    PodExec,
    /// Memory of watches in which nothing happens
    Watches,
    /// A thousand sessions that type
    Typing,
    /// Jumps in a recording of hours
    Seek,
    /// What a session takes on disk
    Size,
    /// Proving recordings
    Verify,
    /// Logins while others flood and guess
    Flood,
    /// Decisions and reloads of a large organisation
    Mapping,
}

impl Row {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Credential,
        Self::Exec,
        Self::Pty,
        Self::Login,
        Self::Keystroke,
        Self::Idle,
        Self::Requests,
        Self::List,
        Self::PodExec,
        Self::Watches,
        Self::Typing,
        Self::Seek,
        Self::Size,
        Self::Verify,
        Self::Flood,
        Self::Mapping,
    ];

    pub(crate) fn measure(self, stage: &Stage) -> anyhow::Result<Vec<Measured>> {
        super::say(&format!("measuring {self:?}"));
        match self {
            Self::Credential => credential::measure(stage),
            Self::Exec => exec::measure(stage),
            Self::Pty => pty::measure(stage),
            Self::Login => login::measure(stage),
            Self::Keystroke => keystroke::measure(stage),
            Self::Idle => idle::measure(stage),
            Self::Requests => gets::requests(stage),
            Self::List => gets::list(stage),
            Self::PodExec => pod_exec::measure(stage),
            Self::Watches => watches::measure(stage),
            Self::Typing => typing::measure(stage),
            Self::Seek => seek::measure(stage),
            Self::Size => size::measure(stage),
            Self::Verify => verify::measure(stage),
            Self::Flood => flood::measure(stage),
            Self::Mapping => mapping::measure(stage),
        }
    }
}

/// Two rows of three ways to an API server, in the order of [`super::api::Way::ALL`]: ours and `kubectl proxy`, each
/// against the direct one.
fn three(work: &str, unit: Unit, [ours, direct, proxy]: [f64; 3], reach: Reach) -> Vec<Measured> {
    let row = |work: String, ours, reach| Measured {
        work,
        unit,
        ours,
        peer: Some(direct),
        reach,
    };
    vec![
        row(format!("{work} (peer: direct)"), ours, reach),
        row(
            "the same through `kubectl proxy` (peer: direct)".to_owned(),
            proxy,
            Reach::Nothing,
        ),
    ]
}
