//! What whoever takes the bastion over could be on a cluster: by how credentials for it come about.

use super::subjects::Subjects;
use crate::config::{Cluster, Config, Mint, show_duration};
use crate::issuer::{self, prefixed};
use crate::policy::people;

/// As many as say enough.
const SHOWN: usize = 12;

/// In a sentence.
pub(super) fn says(cluster: &Cluster, config: &Config) -> String {
    match &cluster.mint {
        Mint::TokenRequest => {
            let subjects = Subjects::of(cluster, config);
            let accounts = subjects.namespaces().flat_map(|(namespace, accounts)| {
                accounts
                    .iter()
                    .map(move |account| format!("{namespace}/{account}"))
            });
            format!(
                "each of the ServiceAccounts {}, by tokens of up to 1h, each in the API server's audit log, until the daemon's credential is withdrawn",
                some(accounts.collect())
            )
        }
        Mint::Impersonation(_) => {
            let people = people(config, &cluster.name);
            format!(
                "anybody of {}, in any of the groups {}, by requests in their name, each in the API server's audit log as the daemon's, until the daemon's credential is withdrawn",
                some(people.users.into_iter().collect()),
                some(people.groups.into_iter().collect()),
            )
        }
        Mint::OidcIssuer { .. } => {
            let groups = issuer::groups_of(config, &cluster.name);
            let life = config
                .bastion
                .issuer
                .as_ref()
                .map_or(0, |issuer| issuer.token_ttl.as_secs());
            format!(
                "anybody under {} in any of the groups {}, by tokens of up to {}, of which the API server sees the use and not the issue, until it trusts the issuer no more",
                prefixed("*"),
                some(groups.iter().map(|group| prefixed(group)).collect()),
                show_duration(std::time::Duration::from_secs(life.into())),
            )
        }
    }
}

fn some(all: Vec<String>) -> String {
    if all.is_empty() {
        return "(none)".to_owned();
    }
    let more = all.len().saturating_sub(SHOWN);
    let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
