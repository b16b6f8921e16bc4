//! `bastion-audit oidc`: what identity providers have said, asked of the running daemon over its admin socket.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use bastion_audit::admin::{self, AdminError, Reply, Request};
use bastion_audit::clock::to_the_second;
use bastion_audit::config::Name;
use bastion_audit::oidc::{FILE, SignOn};
use clap::Subcommand;

use super::{reading, revoke};

/// Who has signed in with an identity provider, and by which key that counts
#[derive(Debug, clap::Args)]
pub(crate) struct OidcWord {
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    List(List),
    Remove(Remove),
}

impl OidcWord {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.word {
            Word::List(word) => word.run(),
            Word::Remove(word) => word.run(),
        }
    }
}

/// List who has signed in, by which key, and how long that counts
#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    state: super::StatePath,
    /// As JSON, one object for each
    #[arg(long)]
    json: bool,
}

/// Have it count no more at once
///
/// Sessions and handed-out credentials that stand on it end, and the next login signs in anew. The provider is not told: whoever may sign in
/// there may sign in here again. To keep somebody out, lock them, too.
#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    state: super::StatePath,
    /// Whose: an identity's name, or a key's fingerprint, SHA256:...
    whose: String,
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let listed = match ask(&self.state, &Request::OidcList)? {
            Reply::OidcList(listed) => listed,
            other => return super::unexpected(other),
        };
        reading::print_list(&listed, self.json, row, "nobody has signed in\n")
    }
}

fn row(one: &SignOn) -> String {
    format!(
        "{}: {} by {} ('{}'), since {}, until {}\n",
        one.identity,
        one.fingerprint,
        one.provider,
        // A provider may let people call themselves what they like.
        one.username.escape_debug(),
        to_the_second(one.since),
        to_the_second(one.until)
    )
}

impl Remove {
    fn run(self) -> anyhow::Result<ExitCode> {
        let whose = self.whose;
        let request = match whose.strip_prefix("SHA256:") {
            Some(_) => Request::OidcRemove {
                key: Some(whose.clone()),
                identity: None,
            },
            None => Request::OidcRemove {
                key: None,
                identity: Some(Name::new(&whose)?),
            },
        };
        let (sign_ons, credentials, sessions, not_kept) = match ask(&self.state, &request)? {
            Reply::OidcRemoved {
                sign_ons,
                credentials,
                sessions,
                not_kept,
            } => (sign_ons, credentials, sessions, not_kept),
            other => return super::unexpected(other),
        };
        let mut out = std::io::stdout().lock();
        for one in &sign_ons {
            writeln!(
                out,
                "{}: {} is no longer signed in",
                one.identity, one.fingerprint
            )?;
        }
        let code = revoke::tell(&mut out, &credentials, sessions)?;
        match not_kept {
            Some(why) => Err(anyhow!("{whose}: {why}")),
            None if sign_ons.is_empty() => {
                anyhow::bail!("{whose} has not signed in; `bastion-audit oidc list` lists who has")
            }
            None => Ok(code),
        }
    }
}

fn ask(state: &super::StatePath, request: &Request) -> anyhow::Result<Reply> {
    let state_dir = state.state_dir()?;
    admin::ask(&state_dir, request).or_else(|error| match error {
        AdminError::NoDaemon { .. } => Err(error).with_context(|| {
            format!(
                "only a running daemon removes, so that it is on record; {} must not be edited",
                state_dir.join(FILE).display()
            )
        }),
        error => Err(error.into()),
    })
}
