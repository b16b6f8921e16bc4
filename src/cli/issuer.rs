//! `bastion-audit issuer`: the daemon as an OpenID Connect issuer for its clusters, offline.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bastion_audit::clock::{Clock as _, SystemClock};
use bastion_audit::config::{self, Config, Mint, Name};
use bastion_audit::issuer::{
    Algorithm, Issuer, IssuerError, Jwk, KeyHolder, authentication_config, create_key,
};
use clap::Subcommand;

use super::reading::print;
use super::signer::Behind;

/// For clusters that mint by oidcIssuer: keys, published documents, and what an API server is told
#[derive(Debug, clap::Args)]
pub(crate) struct IssuerWord {
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    NewKey(NewKey),
    Signer(IssuerSigner),
    Export(Export),
    AuthenticationConfig(AuthenticationConfig),
}

impl IssuerWord {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.word {
            Word::NewKey(word) => word.run(),
            Word::Signer(word) => word.run(),
            Word::Export(word) => word.run(),
            Word::AuthenticationConfig(word) => word.run(),
        }
    }
}

/// Make a key to sign tokens with, for signingKeys of spec.issuer, and print its id
#[derive(Debug, clap::Args)]
struct NewKey {
    /// RS256 (RSA, 3072 bits) is for API servers that know no other: its tokens are longer, and cost more
    #[arg(long, value_name = "ALGORITHM", value_enum, default_value_t = By::Es256)]
    algorithm: By,
    /// The file to make (0600); one that is there is left alone
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// An algorithm of tokens.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    #[value(name = "ES256")]
    Es256,
    #[value(name = "RS256")]
    Rs256,
}

impl NewKey {
    fn run(self) -> anyhow::Result<ExitCode> {
        let algorithm = match self.algorithm {
            By::Es256 => Algorithm::Es256,
            By::Rs256 => Algorithm::Rs256,
        };
        print(&format!("{}\n", create_key(&self.file, algorithm)?.id()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Hold a key apart from the daemon, and sign its tokens over a unix socket
///
/// Signs nothing but tokens of that issuer that begin now and live for 10 minutes at most. Name the socket and the public key that this
/// prints in signingKeys of spec.issuer: {socket: PATH, publicKey: {...}}.
#[derive(Debug, clap::Args)]
struct IssuerSigner {
    /// The key file, as 'bastion-audit issuer new-key' makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// url of spec.issuer
    #[arg(long, value_name = "URL")]
    issuer: String,
    #[command(flatten)]
    behind: Behind,
}

impl IssuerSigner {
    fn run(self) -> anyhow::Result<ExitCode> {
        let holder = KeyHolder::open(&self.key, self.issuer)?;
        let public = public(holder.public())?;
        let sign = move |message: &[u8]| {
            holder
                .sign(message, SystemClock.now())
                .map_err(|error| error.to_string())
        };
        self.behind.serve(Arc::new(sign), &public)
    }
}

fn public(key: &Jwk) -> anyhow::Result<String> {
    serde_json::to_string(key).context("writing the public key")
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
