//! `bastion-audit issuer`: the daemon as an OpenID Connect issuer for its clusters, offline.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bastion_audit::config::{self, Config, Mint, Name};
use bastion_audit::issuer::{Issuer, IssuerError, authentication_config, create_key};
use clap::Subcommand;

use super::reading::print;

/// For clusters that mint by oidcIssuer: keys, published documents, and what an API server is told
#[derive(Debug, clap::Args)]
pub(crate) struct IssuerWord {
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    NewKey(NewKey),
    Export(Export),
    AuthenticationConfig(AuthenticationConfig),
}

impl IssuerWord {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.word {
            Word::NewKey(word) => word.run(),
            Word::Export(word) => word.run(),
            Word::AuthenticationConfig(word) => word.run(),
        }
    }
}

/// Make a key to sign tokens with (ES256), for signingKeys of spec.issuer, and print its id
#[derive(Debug, clap::Args)]
struct NewKey {
    /// The file to make (0600); one that is there is left alone
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl NewKey {
    fn run(self) -> anyhow::Result<ExitCode> {
        print(&format!("{}\n", create_key(&self.file)?))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Write the documents that API servers read into a directory, for a web server or bucket of your own
///
/// Of the keys there is nothing in them but their public halves. Export again, and publish, before another key signs.
#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    config: super::ConfigPath,
    /// What the discovery document's URL is the root of
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Export {
    fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config.path())?;
        let settings = config.bastion.issuer.as_ref();
        let issuer = Issuer::open(settings.ok_or(IssuerError::NotConfigured)?)?;
        for (path, document) in issuer.documents().each() {
            let file = self.dir.join(path.trim_start_matches('/'));
            write(&file, document).with_context(|| file.display().to_string())?;
            print(&format!("{}\n", file.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whole or not at all: a server may publish the directory at this moment.
fn write(file: &Path, document: &[u8]) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let new = file.with_extension("new");
    let mut written = std::fs::File::create(&new)?;
    written.write_all(document)?;
    written.sync_all()?;
    std::fs::rename(new, file)
}

/// Print what a kube-apiserver's --authentication-config must say for it to trust this bastion, and no further
///
/// Where the API server has such a file already, add what stands under jwt to it.
#[derive(Debug, clap::Args)]
struct AuthenticationConfig {
    #[command(flatten)]
    config: super::ConfigPath,
    /// The cluster; may be left out where only one mints by oidcIssuer
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
}

impl AuthenticationConfig {
    fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config.path())?;
        let cluster = match &self.cluster {
            Some(name) => Name::new(name)?,
            None => only_one(&config)?,
        };
        print(&authentication_config(&config, &cluster)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn only_one(config: &Config) -> anyhow::Result<Name> {
    let mut ours = config
        .clusters
        .values()
        .filter(|cluster| matches!(cluster.mint, Mint::OidcIssuer { .. }))
        .map(|cluster| &cluster.name);
    match (ours.next(), ours.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => anyhow::bail!("no Cluster mints by oidcIssuer"),
        (Some(one), Some(other)) => {
            anyhow::bail!(
                "several clusters mint by oidcIssuer, such as {one} and {other}; name one"
            )
        }
    }
}
