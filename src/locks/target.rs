//! What can be locked, and how it is written.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Name, NotANetwork, SourceNetwork};

/// What is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Target {
    /// Somebody, whatever proves them.
    Identity(Name),
    /// A key, `SHA256:...`: whoever logs in with it or with a certificate of it, and if it is an authority's, every certificate by it.
    Key(String),
    /// One certificate.
    Certificate {
        /// The CertificateAuthority that it is by.
        authority: Name,
        /// Its serial number, never 0, which many can have.
        serial: u64,
    },
    /// A role, whoever takes it.
    Role(Name),
    /// A cluster, for everybody.
    Cluster(Name),
    /// Where somebody comes from.
    Source(SourceNetwork),
}

/// The kinds of [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// [`Target::Identity`].
    Identity,
    /// [`Target::Key`].
    Key,
    /// [`Target::Certificate`].
    Certificate,
    /// [`Target::Role`].
    Role,
    /// [`Target::Cluster`].
    Cluster,
    /// [`Target::Source`].
    Source,
}

/// Why something cannot be locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    /// Not the name of an identity, role or cluster.
    #[error("'{0}' is not a name")]
    Name(String),
    /// Not a fingerprint.
    #[error(
        "'{0}' is not a key's fingerprint: write SHA256:..., as `ssh-keygen -l` and the audit log have it"
    )]
    Key(String),
    /// Not a certificate.
    #[error("'{0}' does not name a certificate: write AUTHORITY/SERIAL, such as corp/7")]
    Certificate(String),
    /// A serial number that is none.
    #[error("serial 0 means that a certificate has no number of its own: lock its key instead")]
    NoSerial,
    /// Not a network.
    #[error("'{text}' {reason}")]
    Source {
        /// What was written.
        text: String,
        /// Why not.
        reason: NotANetwork,
    },
}

/// As it stands in files and on the admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    value: String,
}

impl Kind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Key => "key",
            Self::Certificate => "certificate",
            Self::Role => "role",
            Self::Cluster => "cluster",
            Self::Source => "source",
        }
    }
}

impl Target {
    /// Reads what is to be locked.
    ///
    /// # Errors
    ///
    /// Whatever does not name one thing of that kind.
    pub fn parse(kind: Kind, value: &str) -> Result<Self, NotATarget> {
        let shown = || value.escape_debug().to_string();
        let name = || Name::new(value).map_err(|_| NotATarget::Name(shown()));
        match kind {
            Kind::Identity => Ok(Self::Identity(name()?)),
            Kind::Role => Ok(Self::Role(name()?)),
            Kind::Cluster => Ok(Self::Cluster(name()?)),
            Kind::Key => match is_fingerprint(value) {
                true => Ok(Self::Key(value.to_owned())),
                false => Err(NotATarget::Key(shown())),
            },
            Kind::Certificate => {
                let wrong = || NotATarget::Certificate(shown());
                let (authority, serial) = value.split_once('/').ok_or_else(wrong)?;
                let authority = Name::new(authority).map_err(|_| wrong())?;
                let digits = serial.bytes().all(|b| b.is_ascii_digit());
                match serial.parse() {
                    Ok(0) => Err(NotATarget::NoSerial),
                    Ok(serial) if digits => Ok(Self::Certificate { authority, serial }),
                    _ => Err(wrong()),
                }
            }
            Kind::Source => match SourceNetwork::parse(value) {
                Ok(network) => Ok(Self::Source(network)),
                Err(reason) => Err(NotATarget::Source {
                    text: shown(),
                    reason,
                }),
            },
        }
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Identity(_) => Kind::Identity,
            Self::Key(_) => Kind::Key,
            Self::Certificate { .. } => Kind::Certificate,
            Self::Role(_) => Kind::Role,
            Self::Cluster(_) => Kind::Cluster,
            Self::Source(_) => Kind::Source,
        }
    }

    /// What [`Target::parse`] reads.
    pub fn value(&self) -> String {
        match self {
            Self::Identity(name) | Self::Role(name) | Self::Cluster(name) => name.to_string(),
            Self::Key(fingerprint) => fingerprint.clone(),
            Self::Certificate { authority, serial } => format!("{authority}/{serial}"),
            Self::Source(network) => format!("{}/{}", network.address, network.prefix),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().as_str(), self.value())
    }
}

impl From<Target> for Written {
    fn from(target: Target) -> Self {
        Self {
            kind: target.kind(),
            value: target.value(),
        }
    }
}

impl TryFrom<Written> for Target {
    type Error = NotATarget;
    fn try_from(written: Written) -> Result<Self, NotATarget> {
        Self::parse(written.kind, &written.value)
    }
}

/// SHA-256 in base64 without padding.
fn is_fingerprint(text: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    text.strip_prefix("SHA256:")
        .is_some_and(|hash| hash.len() == 43 && hash.bytes().all(base64))
}
