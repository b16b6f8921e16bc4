//! Of `spec.recordings` of a Bastion: where recordings go, and how long they stay.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Name;

/// `spec.recordings.store.s3`: a bucket that speaks the S3 protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// What all our keys begin with, without slashes at its ends; default: the bastion's name.
    pub prefix: String,
    /// The region that requests are signed for; default `us-east-1`.
    pub region: String,
    /// The server, if it is not Amazon's: `https://`, or `http://` on loopback.
    pub endpoint: Option<String>,
    /// CAs that may vouch for the server, instead of the system's; PEM, absolute path.
    pub ca_file: Option<PathBuf>,
    /// Access key and secret key; absolute path. Without it: environment, web identity, container or instance role.
    pub credentials_file: Option<PathBuf>,
    /// How the server is to encrypt.
    pub sse: Option<Sse>,
    /// How the server is to lock what it takes.
    pub object_lock: Option<ObjectLock>,
    /// How long a copy stays in `stateDir` after the bucket has it; `None`: as long as the recording.
    pub keep_local: Option<Duration>,
}

/// Encryption by the server, at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sse {
    /// With keys of S3 itself.
    Aes256,
    /// With a key of the key management service: this one, or the bucket's default.
    Kms(Option<String>),
}

/// Retention that the server enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    /// Who may end it.
    pub mode: LockMode,
    /// From the upload on.
    pub retain: Duration,
}

/// Who may end an object lock before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody.
    Compliance,
    /// Who holds `s3:BypassGovernanceRetention`.
    Governance,
}

impl LockMode {
    /// As S3 calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        }
    }
}

/// When recordings are deleted: so long after they were closed. What nothing is said about stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of roles that are not named.
    pub default: Option<Duration>,
    /// Of these roles. They need not be defined: recordings outlive roles.
    pub roles: BTreeMap<Name, Duration>,
}

impl Retention {
    /// How long a recording under this role stays; `None`: for ever.
    pub fn of(&self, role: &Name) -> Option<Duration> {
        self.roles.get(role).copied().or(self.default)
    }

    /// Nothing that is younger is deleted; `None`: nothing is ever deleted.
    pub fn shortest(&self) -> Option<Duration> {
        self.roles.values().copied().chain(self.default).min()
    }
}
