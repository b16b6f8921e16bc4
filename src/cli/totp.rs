//! `bastion-audit totp`: enrolments for one-time codes, asked of the running daemon over its admin socket.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use bastion_audit::admin::{self, AdminError, Reply, Request};
use bastion_audit::clock::to_the_second;
use bastion_audit::config::Name;
use bastion_audit::totp::{FILE, Hidden, Listed};
use clap::Subcommand;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::{reading, revoke};

/// Codes that may be typed wrong while enrolling.
const TRIES: usize = 3;
/// The longest line that is read as a code, in bytes.
const LONGEST: u64 = 256;

/// One-time codes as a second factor, for roles that require totp
#[derive(Debug, clap::Args)]
pub(crate) struct TotpWord {
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    Enroll(Enroll),
    Remove(Remove),
    List(List),
}

impl TotpWord {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.word {
            Word::Enroll(word) => word.run(),
            Word::Remove(word) => word.run(),
            Word::List(word) => word.run(),
        }
    }
}

/// Enroll an identity for one-time codes
///
/// Prints the otpauth:// URL and a QR code of it, once, for an authenticator app of theirs, and asks for a code back: with a right one
/// they are enrolled, and read their recovery codes, which are good once each and are not shown again. Without one nothing is kept.
/// Best done with whom it is for in front of the screen: whoever sees it can make their codes.
#[derive(Debug, clap::Args)]
struct Enroll {
    #[command(flatten)]
    state: super::StatePath,
    /// Whom: an Identity's name, or the name that a certificate authority's rule gives
    #[arg(value_parser = name)]
    identity: Name,
}

/// Remove an enrolment at once
///
/// Sessions and handed-out credentials of roles that require a code end, and no role that requires one can be taken until they are
/// enrolled anew. Also for a lost phone: remove, then enroll.
#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    state: super::StatePath,
    /// Whose
    #[arg(value_parser = name)]
    identity: Name,
}

/// List who is enrolled
#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    state: super::StatePath,
    /// As JSON, one object for each
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

impl Enroll {
    fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state.state_dir()?;
        let identity = self.identity;
        let offer = Request::TotpOffer {
            identity: identity.clone(),
        };
        let (secret, url, listed) = match ask(&state_dir, &offer)? {
            Reply::TotpOffered {
                secret,
                url,
                listed,
            } => (secret, url, listed),
            other => return super::unexpected(other),
        };
        reading::print(&format!("{}\n\n{}\n\n", url.expose(), picture(&url)?))?;
        let mut told = std::io::stderr();
        if !listed {
            writeln!(
                told,
                "There is no Identity '{identity}': this is for whoever a certificate authority calls so."
            )?;
        }
        let mut input = std::io::stdin().lock();
        for _ in 0..TRIES {
            write!(
                told,
                "Scan this with an authenticator app. The code that it shows for {identity}: "
            )?;
            told.flush()?;
            let code = line(&mut input)?;
            let request = Request::TotpEnroll {
                identity: identity.clone(),
                secret: secret.clone(),
                code,
            };
            match ask(&state_dir, &request)? {
                Reply::TotpEnrolled(recovery) => return enrolled(&identity, &recovery),
                Reply::TotpWrongCode(why) => writeln!(told, "bastion-audit: {why}")?,
                other => return super::unexpected(other),
            }
        }
        anyhow::bail!("{identity} is not enrolled: {TRIES} codes were wrong")
    }
}

fn enrolled(identity: &Name, recovery: &[Hidden]) -> anyhow::Result<ExitCode> {
    let mut text = format!(
        "\n{identity}: enrolled. Recovery codes, each good once in place of a code; they are not shown again:\n"
    );
    for code in recovery {
        text.push_str(&format!("    {}\n", code.expose()));
    }
    reading::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl Remove {
    fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state.state_dir()?;
        let identity = self.identity;
        let request = Request::TotpRemove {
            identity: identity.clone(),
        };
        match ask(&state_dir, &request)? {
            Reply::TotpRemoved {
                was: true,
                credentials,
                sessions,
                not_kept,
            } => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{identity}: no longer enrolled")?;
                let code = revoke::tell(&mut out, &credentials, sessions)?;
                match not_kept {
                    None => Ok(code),
                    Some(why) => Err(anyhow!("{identity}: {why}")),
                }
            }
            Reply::TotpRemoved { not_kept, .. } => match not_kept {
                None => anyhow::bail!(
                    "{identity} is not enrolled; `bastion-audit totp list` lists who is"
                ),
                Some(why) => Err(anyhow!("{identity}: {why}")),
            },
            other => super::unexpected(other),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let listed = match ask(&self.state.state_dir()?, &Request::TotpList)? {
            Reply::TotpList(listed) => listed,
            other => return super::unexpected(other),
        };
        reading::print_list(&listed, self.json, row, "nobody is enrolled\n")
    }
}

fn row(one: &Listed) -> String {
    let blocked = one.not_before.map_or_else(String::new, |until| {
        format!(
            "; too many wrong codes, none is looked at before {}",
            to_the_second(until)
        )
    });
    format!(
        "{}: since {} by {}, {} recovery codes left{blocked}\n",
        one.identity,
        to_the_second(one.since),
        one.by,
        one.recovery_left,
    )
}

/// Two rows of the code in one line of text. Light on dark, as most terminals are: authenticators read either.
fn picture(url: &Hidden) -> anyhow::Result<String> {
    let code = QrCode::new(url.expose()).context("no QR code can be made of the URL")?;
    let mut renderer = code.render::<Dense1x2>();
    renderer
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark);
    Ok(renderer.build())
}

fn line(input: &mut impl std::io::BufRead) -> anyhow::Result<Hidden> {
    let mut text = String::new();
    std::io::Read::take(input, LONGEST).read_line(&mut text)?;
    let line = Hidden::new(text);
    match line.expose().trim() {
        "" => anyhow::bail!("no code was typed, so nobody is enrolled"),
        code => Ok(Hidden::new(code)),
    }
}

fn ask(state_dir: &Path, request: &Request) -> anyhow::Result<Reply> {
    admin::ask(state_dir, request).or_else(|error| match error {
        AdminError::NoDaemon { .. } => Err(error).with_context(|| {
            format!(
                "only a running daemon enrolls, so that it is on record; {} must not be edited",
                state_dir.join(FILE).display()
            )
        }),
        error => Err(error.into()),
    })
}
