//! What must be in a cluster for the daemon to serve it, and nothing more: made of the configuration, so that a change of who may
//! take what is a change that a reviewer of manifests sees.
//!
//! What operators may *do* is not here. That is RBAC's to say, and no configuration of ours has verbs of theirs.

mod bastion_user;
mod fence;
mod impersonation;
mod notes;
mod objects;
mod yaml;

use serde_json::Value;

pub use bastion_user::{BastionUser, NotAUser};

use crate::config::{ClusterAccess, Config, Mint, Name};
use crate::policy::{ServiceAccounts, people, service_accounts};

/// Why there are no manifests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// No such cluster.
    #[error("no Cluster '{0}' is defined")]
    UnknownCluster(String),
    /// A namespace of somebody else's would be taken over.
    #[error(
        "the role {role} has its ServiceAccount in the namespace '{namespace}', which is {whose}: a role's namespace holds nothing \
         else, is labelled and fenced as a whole, and no pod starts in it; give it one of its own"
    )]
    TakenNamespace {
        /// A role that is there.
        role: Name,
        /// Where.
        namespace: String,
        /// Whose it is.
        whose: &'static str,
    },
    /// The policies that come with this program cannot be read.
    #[error("the policies that come with this program cannot be read: {0}")]
    Fence(String),
}

/// What a cluster must have.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    objects: Vec<Value>,
    notes: Vec<String>,
}

/// Makes them. The same configuration gives the same text, whatever the time is.
///
/// # Errors
///
/// If the cluster is not defined, or a namespace that is not the role's own would be changed.
pub fn manifests(
    config: &Config,
    cluster: &Name,
    bastion: &BastionUser,
) -> Result<Manifests, ManifestError> {
    let known = config
        .clusters
        .get(cluster)
        .ok_or_else(|| ManifestError::UnknownCluster(cluster.to_string()))?;
    if let Mint::OidcIssuer { .. } = known.mint {
        return Ok(Manifests {
            objects: Vec::new(),
            notes: notes::of_an_issuer(config, cluster),
        });
    }
    let mut own = objects::of_the_bastion(bastion);
    if let ClusterAccess::Server(server) = &known.access
        && server.renew_token
    {
        own.extend(objects::of_its_own_renewal(bastion));
    }
    if let Mint::Impersonation(naming) = &known.mint {
        let people = people(config, cluster);
        own.extend(impersonation::of_people(&people, naming, bastion));
        return Ok(Manifests {
            objects: own,
            notes: notes::of_people(config, cluster, &people),
        });
    }
    let accounts = service_accounts(config, cluster);
    namespaces_are_the_roles(&accounts, bastion)?;
    let mut objects = own;
    if !accounts.namespaces.is_empty() {
        objects.extend(fence::policies(bastion)?);
    }
    for (namespace, inside) in &accounts.namespaces {
        objects.extend(objects::of_a_role_namespace(namespace, inside, bastion));
    }
    Ok(Manifests {
        objects,
        notes: notes::of_service_accounts(config, cluster, &accounts),
    })
}

impl Manifests {
    /// The objects, in the order in which they are applied.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// What is for people to know and in no object: which RBAC is theirs to write, and what could not be listed.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// As `kubectl apply` takes them, the notes as comments before them.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            text.push_str(&format!("# {note}\n"));
        }
        for object in &self.objects {
            text.push_str("---\n");
            text.push_str(&yaml::document(object));
        }
        text
    }
}

/// What is applied labels and fences a namespace as a whole.
fn namespaces_are_the_roles(
    accounts: &ServiceAccounts,
    bastion: &BastionUser,
) -> Result<(), ManifestError> {
    for (namespace, inside) in &accounts.namespaces {
        let whose = if namespace == "default" || namespace.starts_with("kube-") {
            "Kubernetes' own"
        } else if bastion.namespace() == Some(namespace) {
            "the bastion's own"
        } else {
            continue;
        };
        let role = inside.roles.first().cloned();
        if let Some(role) = role {
            return Err(ManifestError::TakenNamespace {
                role,
                namespace: namespace.clone(),
                whose,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
