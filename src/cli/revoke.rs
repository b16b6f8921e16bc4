//! `bastion-audit revoke` and `kill`: asked of the running daemon over its admin socket.

use std::io::Write;
use std::process::ExitCode;

use bastion_audit::admin::{self, Reply, Request};
use bastion_audit::clock::to_the_second;
use bastion_audit::config::Name;
use bastion_audit::session::SessionId;

/// Take back credentials that were handed out, and end the sessions concerned
///
/// The API server refuses a revoked credential within 10 seconds. Where it cannot be told now, the daemon
/// goes on trying, and this says until when the credential is valid.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    state: super::StatePath,
    /// The session that handed a credential out, or that shall end
    #[arg(value_parser = parse_id, required_unless_present = "identity", conflicts_with = "identity")]
    id: Option<SessionId>,
    /// Everything that an identity has open or handed out
    #[arg(long, value_parser = parse_name)]
    identity: Option<Name>,
}

/// End an open session now
#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    state: super::StatePath,
    /// Its id, as `bastion-audit sessions` shows it
    #[arg(value_parser = parse_id)]
    id: SessionId,
}

impl Revoke {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let request = Request::Revoke {
            session: self.id,
            identity: self.identity,
        };
        let (credentials, sessions) = match admin::ask(&self.state.state_dir()?, &request)? {
            Reply::Revoked {
                credentials,
                sessions,
            } => (credentials, sessions),
            other => return super::unexpected(other),
        };
        let mut out = std::io::stdout().lock();
        let mut code = ExitCode::SUCCESS;
        for (session, valid_until) in &credentials {
            match valid_until {
                None => writeln!(out, "{session}: revoked")?,
                Some(until) => {
                    code = ExitCode::FAILURE;
                    let until = to_the_second(*until);
                    writeln!(
                        out,
                        "{session}: NOT revoked: the API server could not be told; valid until {until} at most, and tried again until then"
                    )?;
                }
            }
        }
        if sessions > 0 {
            writeln!(
                out,
                "{sessions} open session{} ended",
                if sessions == 1 { "" } else { "s" }
            )?;
        }
        if credentials.is_empty() && sessions == 0 {
            writeln!(out, "nothing was open or handed out")?;
        }
        Ok(code)
    }
}

impl Kill {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let request = Request::Kill { session: self.id };
        match admin::ask(&self.state.state_dir()?, &request)? {
            Reply::Killed(true) => {
                writeln!(std::io::stdout(), "{}: ended", self.id)?;
                Ok(ExitCode::SUCCESS)
            }
            Reply::Killed(false) => {
                anyhow::bail!(
                    "{} is not open; `bastion-audit sessions --state live` lists what is",
                    self.id
                )
            }
            other => super::unexpected(other),
        }
    }
}

fn parse_id(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).map_err(|error| error.to_string())
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}
