//! Critical options and extensions (PROTOCOL.certkeys): each critical one is enforced or refused, never passed over.

use std::net::IpAddr;

use russh::keys::Certificate;

use super::CertificateRefusal;
use super::facts::shown;
use crate::config::SourceNetwork;

/// The most networks that a `source-address` may list.
const MAX_NETWORKS: usize = 256;

/// Where a certificate may be used from; `None`: anywhere.
///
/// # Errors
///
/// For every critical option that is not enforced here.
pub(super) fn sources(
    certificate: &Certificate,
) -> Result<Option<Vec<SourceNetwork>>, CertificateRefusal> {
    let mut sources = None;
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "source-address" => sources = Some(networks(value)?),
            "force-command" => return Err(CertificateRefusal::ForceCommand),
            "verify-required" => return Err(CertificateRefusal::VerifyRequired),
            name => return Err(CertificateRefusal::CriticalOption { name: shown(name) }),
        }
    }
    Ok(sources)
}

/// As sshd reads it (`addr_match_cidr_list`): networks divided by commas, none of them negated.
fn networks(text: &str) -> Result<Vec<SourceNetwork>, CertificateRefusal> {
    let networks: Result<Vec<SourceNetwork>, _> = text
        .split(',')
        .take(MAX_NETWORKS + 1)
        .map(SourceNetwork::parse)
        .collect();
    match networks {
        Ok(networks) if networks.len() <= MAX_NETWORKS => Ok(networks),
        _ => Err(CertificateRefusal::BadSourceAddress),
    }
}

/// Whether an address is one that a certificate may be used from.
pub(super) fn allows(
    sources: Option<&[SourceNetwork]>,
    address: IpAddr,
) -> Result<(), CertificateRefusal> {
    match sources {
        Some(networks) if !networks.iter().any(|network| network.contains(address)) => {
            Err(CertificateRefusal::SourceNotAllowed)
        }
        _ => Ok(()),
    }
}

/// Whether a certificate has an extension such as `permit-pty`. What is not known among them is passed over, as they are made for.
pub(super) fn permits(certificate: &Certificate, extension: &str) -> bool {
    certificate.extensions().contains_key(extension)
}
