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
pub(crate) use provider::{any_key, fingerprint, identify_again};

use crate::config::{Config, Factor, Name};
use crate::oidc::{DeviceWord, SignOn};
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
    signed_on: Option<Box<SignOn>>,
    device: Option<Box<DeviceWord>>,
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
    /// A public key that is nobody's by the configuration, after its signature was verified, of whose holder a provider of the configuration has said who
    /// it is: see [`Identity::signed_on`].
    SignedOn {
        /// `SHA256:...`, as `ssh-keygen -l` prints it.
        fingerprint: String,
        /// Such as `ssh-ed25519`.
        algorithm: String,
    },
    /// A certificate of an authority of the configuration, after a signature by the certified key was verified.
    Certificate(Box<Certified>),
}

impl Proof {
    /// `SHA256:...` of the key that was signed with.
    pub fn fingerprint(&self) -> &str {
        match self {
            Self::Key { fingerprint, .. } | Self::SignedOn { fingerprint, .. } => fingerprint,
            Self::Certificate(certified) => certified.fingerprint(),
        }
    }

    /// The certificate, if it was one.
    pub fn certificate(&self) -> Option<&Certified> {
        match self {
            Self::Key { .. } | Self::SignedOn { .. } => None,
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
            }
            | Self::SignedOn {
                fingerprint,
                algorithm,
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

    /// What a provider said of whoever holds the key, if that counts.
    pub fn signed_on(&self) -> Option<&SignOn> {
        self.signed_on.as_deref()
    }

    /// What a provider said by the device flow: on this connection, for one role. It is none of [`factors`](Self::factors), which count for all roles.
    pub fn device(&self) -> Option<&DeviceWord> {
        self.device.as_deref()
    }

    /// What was proven, in the order in which roles name it.
    pub fn factors(&self) -> Vec<Factor> {
        let by = match self.proof {
            Proof::Key { .. } => Some(Factor::Key),
            Proof::SignedOn { .. } => None,
            Proof::Certificate(_) => Some(Factor::Certificate),
        };
        let code = self.passed.map(|_| Factor::Totp);
        let word = self.signed_on.as_ref().map(|_| Factor::Oidc);
        [by, code, word].into_iter().flatten().collect()
    }

    /// The same with a provider's word on whoever holds the key, and the groups that go with it, if it counts now and is about the same identity.
    fn with_sign_on(mut self, config: &Config, now: jiff::Timestamp) -> Self {
        let fingerprint = self.proof.fingerprint();
        if let Some((sign_on, _)) = config.sign_on_of(fingerprint, now)
            && sign_on.identity == self.name
        {
            self.groups.extend(sign_on.groups.iter().cloned());
            self.signed_on = Some(Box::new(sign_on.clone()));
        }
        self
    }

    /// The same with a one-time code, or without one.
    pub(crate) fn with_code(self, passed: Option<Passed>) -> Self {
        Self { passed, ..self }
    }

    /// The same with what a provider said by the device flow.
    pub(crate) fn with_device(self, word: DeviceWord) -> Self {
        let device = Some(Box::new(word));
        Self { device, ..self }
    }

    /// The same, when a key or certificate has proven it once more on one connection, with all that was proven there besides.
    pub(crate) fn with_the_rest_of(self, before: &Self) -> Self {
        Self {
            passed: before.passed,
            device: before.device.clone(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
