//! Who was proven, and by what.

pub mod certificate;
mod group;
pub mod krl;
mod provider;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use group::{Group, NotAGroup};
pub use provider::{
    Refusal, certificate_facts, fingerprint_of, identify, is_known, is_worth_a_signature,
};
pub(crate) use provider::{fingerprint, identify_again};

use crate::config::{Factor, Name};
use crate::totp::Passed;
use certificate::{CertificateFacts, Certified};

/// Who was proven. Only [`identify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: Name,
    groups: BTreeSet<Group>,
    proof: Proof,
    source: IpAddr,
    passed: Option<Passed>,
}

/// What proved an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A public key of the configuration, after its signature was verified.
    Key {
        /// `SHA256:...`, as `ssh-keygen -l` prints it.
        fingerprint: String,
        /// Such as `ssh-ed25519`.
        algorithm: String,
        /// The key's line forbids a terminal.
        no_pty: bool,
        /// The key's line forbids a tunnel.
        no_forwarding: bool,
    },
    /// A certificate of an authority of the configuration, after a signature by the certified key was verified.
    Certificate(Box<Certified>),
}

impl Proof {
    /// `SHA256:...` of the key that was signed with.
    pub fn fingerprint(&self) -> &str {
        match self {
            Self::Key { fingerprint, .. } => fingerprint,
            Self::Certificate(certified) => certified.fingerprint(),
        }
    }

    /// The certificate, if it was one.
    pub fn certificate(&self) -> Option<&Certified> {
        match self {
            Self::Key { .. } => None,
            Self::Certificate(certified) => Some(certified),
        }
    }

    /// What is told of the certificate, if it was one.
    pub fn certificate_facts(&self) -> Option<&CertificateFacts> {
        self.certificate().map(Certified::facts)
    }
}

impl std::fmt::Display for Proof {
    /// As its owner reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key {
                fingerprint,
                algorithm,
                ..
            } => write!(f, "{algorithm} {fingerprint}"),
            Self::Certificate(certified) => {
                let algorithm = certified.certificate().algorithm();
                let (fingerprint, facts) = (certified.fingerprint(), certified.facts());
                write!(f, "{algorithm} {fingerprint}, {facts}")?;
                match facts.valid_before {
                    Some(end) => write!(f, ", until {}", crate::clock::to_the_second(end)),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Identity {
    /// The configured name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// All groups, each with its source.
    pub fn groups(&self) -> &BTreeSet<Group> {
        &self.groups
    }

    /// What proved it.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Where it was proven from.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// The one-time code that was accepted besides, if one was.
    pub fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }

    /// What was proven, in the order in which roles name it.
    pub fn factors(&self) -> Vec<Factor> {
        let by = match self.proof {
            Proof::Key { .. } => Factor::Key,
            Proof::Certificate(_) => Factor::Certificate,
        };
        let code = self.passed.map(|_| Factor::Totp);
        [Some(by), code].into_iter().flatten().collect()
    }

    /// The same with a one-time code, or without one.
    pub(crate) fn with_code(self, passed: Option<Passed>) -> Self {
        Self { passed, ..self }
    }
}

#[cfg(test)]
mod tests;
