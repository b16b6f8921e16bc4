//! `bastion-audit manifests`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use bastion_audit::config::{self, Config, Name};
use bastion_audit::manifests::{BastionUser, manifests};

/// Write what a cluster must have for this configuration, for kubectl apply and kubectl diff
///
/// Namespaces, ServiceAccounts, the daemon's own right to request tokens of exactly these, and the policies that fence it. Nothing
/// says what operators may do: bind RBAC of your own to what the comments name.
#[derive(Debug, clap::Args)]
pub(crate) struct Manifests {
    #[command(flatten)]
    config: super::ConfigPath,
    /// For which cluster; need not be said if there is only one
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Who the daemon itself is there, as Kubernetes names users
    #[arg(
        long,
        value_name = "USER",
        default_value = "system:serviceaccount:bastion-audit:bastion"
    )]
    bastion: BastionUser,
}

impl Manifests {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config.path())?;
        let cluster = self.cluster(&config)?;
        let made = manifests(&config, &cluster, &self.bastion)?;
        super::reading::print(&made.to_yaml())?;
        // Where nobody reads the comments.
        for note in made.notes().iter().filter(|note| note.starts_with("NOT")) {
            writeln!(std::io::stderr(), "bastion-audit: {note}")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn cluster(&self, config: &Config) -> anyhow::Result<Name> {
        if let Some(name) = &self.cluster {
            return Name::new(name)
                .map_err(|_| anyhow!("no Cluster '{}' is defined", name.escape_debug()));
        }
        let mut names = config.clusters.keys();
        match (names.next(), names.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => {
                let names: Vec<&str> = config.clusters.keys().map(Name::as_str).collect();
                bail!("say for which --cluster: {}", names.join(", "))
            }
        }
    }
}
