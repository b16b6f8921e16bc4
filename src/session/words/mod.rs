//! `ssh HOST bastion WORD`: what the daemon itself answers. Words run no process and leave audit events,
//! not casts.

mod about;
mod choice;
mod clients;
mod evidence;
mod explain;
mod inside;

use clap::{Parser, Subcommand};

use crate::audit::Event;
use crate::messages::Open;
use crate::monitor::Monitor;
use crate::replay::ReadingWord;

use super::client::Client;
use super::{Caller, credential, steps};

pub(super) use inside::{answer_inside, may_extend};

/// Longest command line of ours, in bytes.
const LONGEST: usize = 4096;

const OPEN_QUOTE: &str = "bastion-audit: that command line has an open quote; close it";

#[derive(Debug, Parser)]
#[command(
    name = "bastion",
    about = "What this bastion answers itself, over plain ssh",
    disable_help_subcommand = true,
    disable_version_flag = true,
    term_width = 80,
    color = clap::ColorChoice::Never
)]
struct Words {
    #[command(subcommand)]
    word: Option<Word>,
}

// Made once for each word that is typed: boxing would buy nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
enum Word {
    /// Who was proven, and by what
    Whoami,
    /// The roles that you may take, where, and how to ask for each
    Roles,
    /// Why you may or may not take a role, and what Kubernetes grants you there
    Explain(explain::ExplainArgs),
    /// The Host block for your ~/.ssh/config
    SshConfig,
    /// A short-lived credential (ExecCredential) on stdout, if your role allows it
    Credential,
    /// A kubeconfig for kubectl, k9s, helm on your own machine, through a tunnel: `ssh -N -D 1080 HOST`
    Kubeconfig(KubeconfigArgs),
    #[command(flatten)]
    Reading(ReadingWord),
    /// This help
    Help,
}

/// It is written once and stays right: it holds no credential, and works on a tunnel of yours only.
#[derive(Debug, clap::Args)]
struct KubeconfigArgs {
    /// Where `ssh -N -D PORT HOST` listens on your machine: one tunnel for every role and cluster
    #[arg(long, value_name = "PORT", default_value_t = 1080, value_parser = clap::value_parser!(u16).range(1..))]
    socks_port: u16,
    /// Where `ssh -N -L PORT:kubernetes:443 HOST` listens: what your login name stands for, and nothing else
    #[arg(long, value_name = "PORT", conflicts_with = "socks_port", value_parser = clap::value_parser!(u16).range(1..))]
    local_port: Option<u16>,
    /// Without a tunnel: each credential comes by `ssh HOST bastion credential`, where a role hands them out
    #[arg(long, conflicts_with_all = ["socks_port", "local_port", "rotate"])]
    plugin: bool,
    /// Have every kubeconfig of yours that was written until now count no more
    #[arg(long)]
    rotate: bool,
}

/// Answers one word and ends the channel.
pub(super) async fn answer(
    monitor: &Monitor,
    caller: &Caller,
    open: &Open,
    line: &str,
    client: Client,
) {
    let word = match parse(line) {
        Ok(word) => word,
        Err(Usage::Asked(help)) => return finish(&client, &help).await,
        Err(Usage::Wrong(usage)) => return client.last_words(usage.trim_end(), 2).await,
    };
    let told = match word {
        Word::Credential => return credential::hand_out(monitor, caller, client).await,
        Word::Explain(asked) => return explain::answer(monitor, caller, &asked, client).await,
        Word::Reading(word) => return evidence::answer(monitor, caller, open, word, client).await,
        word => simple(monitor, caller, &word).await,
    };
    match told {
        Ok(text) => finish(&client, &text).await,
        Err(sentence) => {
            client
                .last_words(&format!("bastion-audit: {sentence}"), 1)
                .await
        }
    }
}

async fn finish(client: &Client, text: &str) {
    let said = async {
        client.print(text).await?;
        client.send(crate::messages::SessionEvent::Exit(0)).await
    };
    if said.await.is_err() {
        tracing::debug!("a client left before its answer was told");
    }
}

/// The words that are about the caller alone.
async fn simple(monitor: &Monitor, caller: &Caller, word: &Word) -> Result<String, String> {
    let config = monitor.config();
    let now = monitor.clock.now();
    let (name, text) = match word {
        Word::Whoami => ("whoami", Ok(about::whoami(&config, caller))),
        Word::Roles => ("roles", Ok(about::roles(&config, caller, now))),
        Word::SshConfig => ("ssh-config", Ok(clients::ssh_config(&config, caller, now))),
        Word::Kubeconfig(how) => (
            "kubeconfig",
            clients::kubeconfig(monitor, &config, caller, how, now).await,
        ),
        _ => ("help", Ok(help())),
    };
    let identity = caller.identity.name();
    steps::on_record(
        monitor,
        Event::WordAnswered {
            identity,
            peer: &caller.peer,
            word: name,
        },
    )
    .await?;
    text
}

/// What to print instead of an answer.
#[derive(Debug)]
enum Usage {
    Asked(String),
    Wrong(String),
}

fn parse(line: &str) -> Result<Word, Usage> {
    if line.len() > LONGEST {
        return Err(Usage::Wrong(
            "bastion-audit: that command line is too long".into(),
        ));
    }
    let words = shlex::split(line).ok_or_else(|| Usage::Wrong(OPEN_QUOTE.into()))?;
    let argv = std::iter::once("bastion".to_owned()).chain(words);
    match Words::try_parse_from(argv) {
        Ok(words) => Ok(words.word.unwrap_or(Word::Help)),
        Err(error) if error.use_stderr() => Err(Usage::Wrong(error.render().to_string())),
        Err(_) if words_asked_for(line) => Ok(Word::Help),
        Err(error) => Err(Usage::Asked(error.render().to_string())),
    }
}

/// `bastion --help`: all of the words, not one of them.
fn words_asked_for(line: &str) -> bool {
    line.trim_start().starts_with('-')
}

fn help() -> String {
    use clap::CommandFactory;
    let words = Words::command().render_help().to_string();
    format!(
        "A shell:          ssh NAME@bastion        NAME is yours, a ROLE, or ROLE+CLUSTER\n\
         One command:      ssh bastion kubectl get pods -A\n\
         A word of ours:   ssh bastion bastion WORD\n\n{words}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_parse_and_help_is_the_default() {
        assert!(matches!(parse("whoami"), Ok(Word::Whoami)));
        assert!(matches!(parse(""), Ok(Word::Help)));
        assert!(matches!(parse("--help"), Ok(Word::Help)));
        assert!(
            matches!(parse("show 'latest'"), Ok(Word::Reading(ReadingWord::Show { id })) if id == "latest")
        );
    }

    #[test]
    fn what_is_no_word_says_what_to_do() {
        let wrong = |line: &str| match parse(line) {
            Err(Usage::Wrong(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(wrong("whoam").contains("whoami"));
        assert!(wrong("show 'x").contains("quote"));
        assert!(wrong(&"x".repeat(10_000)).contains("too long"));
    }

    #[test]
    fn a_word_has_a_help_of_its_own() {
        assert!(
            matches!(parse("sessions --help"), Err(Usage::Asked(help)) if help.contains("--since"))
        );
    }
}
