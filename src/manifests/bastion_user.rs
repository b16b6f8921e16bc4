//! Who the daemon itself is in a cluster.

use serde_json::{Value, json};

use crate::config::Name;

/// The daemon's own user of a cluster, by the credential in its kubeconfig or pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BastionUser {
    /// A ServiceAccount.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Somebody else, such as a client certificate's common name.
    User(String),
}

/// Why a text is no [`BastionUser`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAUser {
    /// It would have to be quoted where it is compared.
    #[error("a user of Kubernetes is written here with letters, digits and '-_.:@/', at most 253")]
    Characters,
    /// `system:serviceaccount:` and then no two names.
    #[error("a ServiceAccount is system:serviceaccount:NAMESPACE:NAME")]
    ServiceAccount,
    /// It may be everybody.
    #[error("of Kubernetes' own users (system:...) the bastion can be a ServiceAccount only")]
    System,
}

impl std::str::FromStr for BastionUser {
    type Err = NotAUser;

    /// As Kubernetes writes user names.
    fn from_str(text: &str) -> Result<Self, NotAUser> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:@/".contains(&b);
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if text.len() > 253 || !begins || !text.bytes().all(plain) {
            return Err(NotAUser::Characters);
        }
        if let Some(account) = text.strip_prefix("system:serviceaccount:") {
            let (namespace, name) = account.split_once(':').ok_or(NotAUser::ServiceAccount)?;
            let label = |text: &str| Name::new(text).is_ok();
            if !label(namespace) || !name.split('.').all(label) {
                return Err(NotAUser::ServiceAccount);
            }
            return Ok(Self::ServiceAccount {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
        }
        if text.starts_with("system:") {
            return Err(NotAUser::System);
        }
        Ok(Self::User(text.to_owned()))
    }
}

impl std::fmt::Display for BastionUser {
    /// As Kubernetes writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ServiceAccount { namespace, name } => {
                write!(f, "system:serviceaccount:{namespace}:{name}")
            }
            Self::User(name) => f.write_str(name),
        }
    }
}

impl BastionUser {
    /// Where it lives, if that is in the cluster.
    pub fn namespace(&self) -> Option<&String> {
        match self {
            Self::ServiceAccount { namespace, .. } => Some(namespace),
            Self::User(_) => None,
        }
    }

    /// As a RoleBinding names it.
    pub(super) fn subject(&self) -> Value {
        match self {
            Self::ServiceAccount { namespace, name } => {
                json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
            }
            Self::User(name) => {
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
            }
        }
    }
}
