//! Certificates of the host's keys: clients that trust their authority know this host without having met it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::HostKeys;
use crate::identity::certificate;

/// One with hundreds of names is shorter.
const LONGEST: u64 = 64 << 10;

/// Certificates that can be shown, each of another host key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostCertificates(Vec<Certificate>);

/// Why a host certificate is not shown. Clients then know the host by its key alone, or not at all.
#[derive(Debug, thiserror::Error)]
pub enum HostCertificateError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{path}: not a certificate as `ssh-keygen -h -s` writes it", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// It is one for users.
    #[error("{path}: a certificate for users; `ssh-keygen -h -s` makes one for hosts", path = path.display())]
    ForUsers {
        /// The file.
        path: PathBuf,
    },
    /// It names no host: it would be good for every one.
    #[error("{path}: names no host; `ssh-keygen -h -s CA -n NAME` does", path = path.display())]
    Nameless {
        /// The file.
        path: PathBuf,
    },
    /// It is of a key that is not served.
    #[error("{path}: certifies none of the hostKeys", path = path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// Another certificate is of the same key.
    #[error("{path}: a second certificate of the same host key: clients are shown only one", path = path.display())]
    Second {
        /// The file.
        path: PathBuf,
    },
    /// Its signature, or its time, is not good.
    #[error("{path}: {reason}", path = path.display())]
    NotGood {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: certificate::CertificateRefusal,
    },
}

impl HostCertificates {
    /// Reads them: those that can be shown now, and what is wrong with the rest. Blocks.
    pub fn read(
        paths: &[PathBuf],
        keys: &HostKeys,
        now: Timestamp,
    ) -> (Self, Vec<HostCertificateError>) {
        let (mut good, mut wrong) = (Vec::<Certificate>::new(), Vec::new());
        for path in paths {
            match host_certificate(path, keys, now) {
                Ok(found) if good.iter().any(|it| it.public_key() == found.public_key()) => {
                    wrong.push(HostCertificateError::Second { path: path.clone() });
                }
                Ok(found) => good.push(found),
                Err(error) => wrong.push(error),
            }
        }
        (Self(good), wrong)
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.0
    }
}

/// As OpenSSH writes them.
impl Serialize for HostCertificates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lines = self.0.iter().map(Certificate::to_openssh);
        let lines: Result<Vec<_>, _> = lines.collect();
        lines.map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HostCertificates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lines = Vec::<String>::deserialize(deserializer)?;
        let certificates = lines.iter().map(|line| Certificate::from_openssh(line));
        let certificates: Result<Vec<_>, _> = certificates.collect();
        certificates.map(Self).map_err(de::Error::custom)
    }
}

fn host_certificate(
    path: &Path,
    keys: &HostKeys,
    now: Timestamp,
) -> Result<Certificate, HostCertificateError> {
    let path = path.to_owned();
    let mut text = String::new();
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    if let Err(source) = read {
        return Err(HostCertificateError::Io { path, source });
    }
    let Ok(found) = certificate::read(&text) else {
        return Err(HostCertificateError::Unreadable { path });
    };
    if found.cert_type() != CertType::Host {
        return Err(HostCertificateError::ForUsers { path });
    }
    if found.valid_principals().is_empty() {
        return Err(HostCertificateError::Nameless { path });
    }
    let own = |key: &russh::keys::PrivateKey| key.public_key().key_data() == found.public_key();
    if !keys.private_keys().iter().any(own) {
        return Err(HostCertificateError::OtherKey { path });
    }
    let good = certificate::is_signed(&found).and_then(|()| certificate::valid_at(&found, now));
    match good {
        Ok(()) => Ok(found),
        Err(reason) => Err(HostCertificateError::NotGood { path, reason }),
    }
}
