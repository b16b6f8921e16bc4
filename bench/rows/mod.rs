//! What is measured, a file for each.

mod credential;
mod exec;
mod idle;
mod keystroke;
mod pty;

use super::stage::Stage;
use super::table::Measured;

/// A row, or some that belong together.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Row {
    /// A short-lived credential, from nothing
    Credential,
    /// A gigabyte through a command without a terminal
    Exec,
    /// A flood of output at a terminal
    Pty,
    /// How soon a key that is pressed comes back
    Keystroke,
    /// Memory of a session in which nothing happens
    Idle,
}

impl Row {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Credential,
        Self::Exec,
        Self::Pty,
        Self::Keystroke,
        Self::Idle,
    ];

    pub(crate) fn measure(self, stage: &Stage) -> anyhow::Result<Vec<Measured>> {
        super::say(&format!("measuring {self:?}"));
        match self {
            Self::Credential => credential::measure(stage),
            Self::Exec => exec::measure(stage),
            Self::Pty => pty::measure(stage),
            Self::Keystroke => keystroke::measure(stage),
            Self::Idle => idle::measure(stage),
        }
    }
}
