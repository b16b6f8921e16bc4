//! `bastion-audit revoke` and `kill`: asked of the running daemon over its admin socket.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bastion_audit::admin::{self, Reply, Request};
use bastion_audit::clock::to_the_second;
use bastion_audit::config::Name;
use bastion_audit::revoke::TakenBack;
use bastion_audit::session::SessionId;

/// Take back credentials that were handed out, and end the sessions concerned
///
/// The API server refuses a revoked credential within 10 seconds. Where it cannot be told now, the daemon
/// goes on trying, and this says until when the credential is valid.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    state: super::StatePath,
    /// The session that handed a credential out, or that shall end; the first characters of its id are enough
    #[arg(required_unless_present = "identity", conflicts_with = "identity")]
    id: Option<String>,
    /// Everything that an identity has open or handed out
    #[arg(long, value_parser = parse_name)]
    identity: Option<Name>,
}

/// End an open session now
#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    state: super::StatePath,
    /// Its id, or the first characters of it, as `bastion-audit sessions` shows them
    id: String,
}

impl Revoke {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state.state_dir()?;
        let request = Request::Revoke {
            session: match &self.id {
                Some(id) => Some(meant(&state_dir, id)?),
                None => None,
            },
            identity: self.identity,
        };
        let (credentials, sessions) = match admin::ask(&state_dir, &request)? {
            Reply::Revoked {
                credentials,
                sessions,
            } => (credentials, sessions),
            other => return super::unexpected(other),
        };
        let mut out = std::io::stdout().lock();
        let code = tell(&mut out, &credentials, sessions)?;
        if credentials.is_empty() && sessions == 0 {
            writeln!(out, "nothing was open or handed out")?;
        }
        Ok(code)
    }
}

impl Kill {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state.state_dir()?;
        let session = meant(&state_dir, &self.id)?;
        match admin::ask(&state_dir, &Request::Kill { session })? {
            Reply::Killed(true) => {
                writeln!(std::io::stdout(), "{session}: ended")?;
                Ok(ExitCode::SUCCESS)
            }
            Reply::Killed(false) => {
                anyhow::bail!("{session} is not open; {LISTED}")
            }
            other => super::unexpected(other),
        }
    }
}

/// What became of credentials and sessions; a failure if a credential is still valid.
pub(super) fn tell(
    out: &mut impl Write,
    credentials: &[TakenBack],
    sessions: usize,
) -> std::io::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for one in credentials {
        let session = one.session;
        let Some(until) = one.valid_until.map(to_the_second) else {
            writeln!(out, "{session}: revoked")?;
            continue;
        };
        code = ExitCode::FAILURE;
        if one.irrevocable {
            writeln!(
                out,
                "{session}: NOT revoked: nothing ends before its time what the bastion signed itself; valid until {until}"
            )?;
        } else {
            writeln!(
                out,
                "{session}: NOT revoked: the API server could not be told; valid until {until} at most, and tried again until then"
            )?;
        }
    }
    if sessions > 0 {
        writeln!(
            out,
            "{sessions} open session{} ended",
            if sessions == 1 { "" } else { "s" }
        )?;
    }
    Ok(code)
}

/// Where ids come from.
const LISTED: &str = "`bastion-audit sessions --live` lists what is";

/// The session whose id is `text`, or the only one of those that are open or live on in a credential whose id begins
/// with it.
fn meant(state_dir: &Path, text: &str) -> anyhow::Result<SessionId> {
    if let Ok(session) = SessionId::parse(text) {
        return Ok(session);
    }
    let ids: BTreeSet<SessionId> = match admin::ask(state_dir, &Request::Sessions)? {
        Reply::Sessions {
            live, handed_out, ..
        } => {
            let live = live.iter().map(|session| session.session);
            live.chain(handed_out.iter().map(|lease| lease.session))
                .collect()
        }
        other => return super::unexpected(other),
    };
    only_one(&ids, text)
}

fn only_one(ids: &BTreeSet<SessionId>, text: &str) -> anyhow::Result<SessionId> {
    let prefix = text.to_ascii_uppercase();
    let mut begin_so = ids
        .iter()
        .filter(|id| !prefix.is_empty() && id.to_string().starts_with(&prefix));
    match (begin_so.next(), begin_so.next()) {
        (Some(only), None) => Ok(*only),
        (Some(one), Some(another)) => {
            anyhow::bail!(
                "'{}' begins {one} and {another}; give more of it",
                text.escape_debug()
            )
        }
        (None, _) => anyhow::bail!(
            "no id of what is open or handed out begins with '{}'; {LISTED}",
            text.escape_debug()
        ),
    }
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_means_the_only_one_or_none() {
        let ids = ["01M85WBKGYXJSSESXAZPSBGX4B", "01M85WBKJPZ6FDD1XJBTFS3HHA"];
        let ids: BTreeSet<SessionId> = ids.map(|id| SessionId::parse(id).unwrap()).into();
        let said = |text: &str| match only_one(&ids, text) {
            Ok(id) => id.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said("01m85wbkg"), "01M85WBKGYXJSSESXAZPSBGX4B");
        assert!(
            said("01M85WBK").contains("give more"),
            "{}",
            said("01M85WBK")
        );
        for nothing in ["", "02", "01M85WBKGYXJSSESXAZPSBGX4BX", "\u{1b}["] {
            assert!(said(nothing).starts_with("no id"), "{}", said(nothing));
            assert!(!said(nothing).contains('\u{1b}'));
        }
    }
}
