//! OpenSSH user certificates (PROTOCOL.certkeys) as proof.
//!
//! russh has verified that the client holds the certified key, and that the certificate's own signature belongs to the key inside
//! of it. Everything else is said here: whether anybody trusts that key, for whom the certificate is, when, from where, and
//! whether it was taken back.

mod facts;
mod groups;
mod options;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, HashAlg};

pub use facts::CertificateFacts;
pub use refusal::CertificateRefusal;

use super::{Group, Identity, Proof};
use crate::config::{CertificateAuthority, Config, Meant, Name};

/// The longest text of a certificate. One with 256 principals and as many networks takes some 20 KiB.
pub const MAX_TEXT: usize = 48 * 1024;

/// As many as OpenSSH takes.
const MAX_PRINCIPALS: usize = 256;

/// What marks a certificate's kind; each certificate that is nested in another has it once more.
const MARKER: &[u8] = b"-cert-v01@";
/// Key ids and principals may have the marker in them, too; more would nest deeper than a stack holds.
const MAX_MARKERS: usize = 8;

/// A certificate that proved somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    certificate: Arc<Certificate>,
    text: Arc<str>,
    facts: CertificateFacts,
    fingerprint: String,
}

impl Certified {
    /// The certificate.
    pub fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// The certificate as it was offered, OpenSSH format.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What is told of it.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// `SHA256:...` of the certified key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether it allows a terminal (`permit-pty`).
    pub fn permits_pty(&self) -> bool {
        options::permits(&self.certificate, "permit-pty")
    }

    /// Whether it allows a tunnel (`permit-port-forwarding`).
    pub fn permits_forwarding(&self) -> bool {
        options::permits(&self.certificate, "permit-port-forwarding")
    }
}

/// Reads a certificate as it stands in a `-cert.pub` file. Verifies nothing.
///
/// # Errors
///
/// If it is none, or is nested too deeply to be read at all.
pub fn read(text: &str) -> Result<Certificate, CertificateRefusal> {
    let unreadable = CertificateRefusal::Unreadable;
    if text.len() > MAX_TEXT {
        return Err(unreadable);
    }
    let mut words = text.split_ascii_whitespace();
    let (kind, data) = (words.next(), words.next());
    let data = data.and_then(|data| STANDARD.decode(data).ok());
    let (Some(kind), Some(data)) = (kind, data) else {
        return Err(unreadable);
    };
    // Before it is parsed: the parser goes as deep as certificates are nested.
    let markers = data.windows(MARKER.len()).filter(|part| *part == MARKER);
    if markers.count() > MAX_MARKERS {
        return Err(unreadable);
    }
    let Ok(certificate) = Certificate::from_bytes(&data) else {
        return Err(unreadable);
    };
    if certificate.algorithm().to_certificate_type() != kind {
        return Err(unreadable);
    }
    Ok(certificate)
}

/// When a certificate must be valid.
#[derive(Clone, Copy, Debug)]
pub(super) enum When<'a> {
    /// Now, because somebody logs in.
    At(Timestamp),
    /// It was when they logged in as this identity. As with sshd, a certificate is a way in: that it ends ends nothing that is open.
    Before(&'a Name),
}

/// Who the client with this certificate is. It has proven that it holds the key.
pub(super) fn identify(
    config: &Config,
    key: &KeyData,
    text: &str,
    principal: &str,
    address: IpAddr,
    when: When<'_>,
) -> Result<Identity, CertificateRefusal> {
    let certificate = read(text)?;
    if certificate.public_key() != key {
        return Err(CertificateRefusal::Unreadable);
    }
    let vouched = vouch(config, &certificate)?;
    is_signed(&certificate)?;
    options::allows(vouched.sources.as_deref(), address)?;
    let meant = match when {
        When::At(now) => {
            valid_at(&certificate, now)?;
            vouched.one(principal)?
        }
        When::Before(name) => vouched.named(name)?,
    };
    let groups = vouched.groups_of(meant);
    let name = meant.name().clone();
    let fingerprint = certificate.public_key().fingerprint(HashAlg::Sha256);
    Ok(Identity {
        name,
        groups,
        proof: Proof::Certificate(Box::new(Certified {
            facts: CertificateFacts::of(config, &certificate),
            fingerprint: fingerprint.to_string(),
            certificate: Arc::new(certificate),
            text: Arc::from(text),
        })),
        source: address,
        passed: None,
        signed_on: None,
        device: None,
    })
}

/// What a trusted certificate says, under this configuration and at any time.
#[derive(Debug)]
pub(crate) struct Vouched<'c> {
    authority: &'c CertificateAuthority,
    /// By name. Never empty.
    meant: BTreeMap<Name, Meant<'c>>,
    groups: BTreeSet<Group>,
    sources: Option<Vec<crate::config::SourceNetwork>>,
}

/// Everything about a certificate but its signature, the time and the address.
///
/// # Errors
///
/// Whatever does not prove anybody.
pub(crate) fn vouch<'c>(
    config: &'c Config,
    certificate: &Certificate,
) -> Result<Vouched<'c>, CertificateRefusal> {
    // First: of what nobody vouches for nothing else is believed.
    let signed_by = certificate.signature_key();
    let authority =
        config
            .authority_of(signed_by)
            .ok_or_else(|| CertificateRefusal::UnknownAuthority {
                signed_by: signed_by.fingerprint(HashAlg::Sha256).to_string(),
            })?;
    signs_as_allowed(authority, certificate)?;
    if certificate.cert_type() != CertType::User {
        return Err(CertificateRefusal::NotForUsers);
    }
    // By variant: of a certificate in place of the key `algorithm()` would be that of the key inside of it.
    if !matches!(
        certificate.public_key(),
        KeyData::Ed25519(_) | KeyData::Ecdsa(_)
    ) {
        return Err(CertificateRefusal::Unreadable);
    }
    not_revoked(config, authority, certificate)?;
    let sources = options::sources(certificate)?;
    let meant = meant(config, authority, certificate)?;
    let groups = groups::groups(authority, certificate)?;
    Ok(Vouched {
        authority,
        meant,
        groups,
        sources,
    })
}

impl<'c> Vouched<'c> {
    /// The identity of this name, if it is one of those that the certificate proves.
    pub(crate) fn named(&self, name: &Name) -> Result<&Meant<'c>, CertificateRefusal> {
        self.meant
            .get(name)
            .ok_or_else(|| CertificateRefusal::NobodysPrincipals {
                authority: self.authority.name.clone(),
            })
    }

    /// The one identity that it proves. Of several that which the login name asks for: it proves each of them.
    pub(crate) fn one(&self, principal: &str) -> Result<&Meant<'c>, CertificateRefusal> {
        let mut all = self.meant.values();
        if let (Some(only), None) = (all.next(), all.next()) {
            return Ok(only);
        }
        let asked = Name::new(principal).ok();
        asked.and_then(|name| self.meant.get(&name)).ok_or_else(|| {
            CertificateRefusal::SeveralIdentities {
                identities: self.meant.keys().take(8).cloned().collect(),
            }
        })
    }

    /// The groups of an identity that it proves: those that the configuration lists, and the authority's.
    pub(crate) fn groups_of(&self, meant: &Meant<'_>) -> BTreeSet<Group> {
        let mut groups = self.groups.clone();
        if let Meant::Listed(document) = meant {
            groups.extend(document.groups.iter().cloned());
        }
        groups
    }
}

/// Whether a certificate is valid at this moment.
///
/// # Errors
///
/// If it is not yet, or no longer: `valid_after <= now < valid_before`.
pub(crate) fn valid_at(
    certificate: &Certificate,
    now: Timestamp,
) -> Result<(), CertificateRefusal> {
    // Before 1970 nothing is valid.
    let now = u64::try_from(now.as_second()).map_err(|_| CertificateRefusal::NotYetValid)?;
    if now < certificate.valid_after() {
        Err(CertificateRefusal::NotYetValid)
    } else if now >= certificate.valid_before() {
        Err(CertificateRefusal::Expired)
    } else {
        Ok(())
    }
}

/// Whether its signature holds. russh asks this as well; this is the side that decides.
pub(crate) fn is_signed(certificate: &Certificate) -> Result<(), CertificateRefusal> {
    certificate
        .verify_signature()
        .map_err(|_| CertificateRefusal::BadSignature)
}

fn signs_as_allowed(
    authority: &CertificateAuthority,
    certificate: &Certificate,
) -> Result<(), CertificateRefusal> {
    let algorithm = certificate.signature().algorithm();
    let own = certificate.signature_key().algorithm();
    let allowed = authority
        .algorithms
        .iter()
        .any(|allowed| allowed.as_str() == algorithm.as_str());
    if allowed && own == algorithm {
        return Ok(());
    }
    Err(CertificateRefusal::Algorithm {
        authority: authority.name.clone(),
        algorithm: facts::shown(algorithm.as_str()),
    })
}

fn not_revoked(
    config: &Config,
    authority: &CertificateAuthority,
    certificate: &Certificate,
) -> Result<(), CertificateRefusal> {
    let by = authority
        .revoked
        .as_ref()
        .and_then(|revoked| revoked.has_certificate(certificate));
    if let Some(by) = by {
        return Err(CertificateRefusal::Revoked { by: by.to_string() });
    }
    // A key that another authority has taken back is lost all the same.
    for key in [certificate.public_key(), certificate.signature_key()] {
        if config.has_revoked(key) {
            let by = super::krl::RevokedBy::Key.to_string();
            return Err(CertificateRefusal::Revoked { by });
        }
    }
    Ok(())
}

fn meant<'c>(
    config: &'c Config,
    authority: &CertificateAuthority,
    certificate: &Certificate,
) -> Result<BTreeMap<Name, Meant<'c>>, CertificateRefusal> {
    let principals = certificate.valid_principals();
    if principals.is_empty() {
        return Err(CertificateRefusal::NoPrincipals);
    }
    if principals.len() > MAX_PRINCIPALS {
        return Err(CertificateRefusal::TooManyPrincipals);
    }
    let meant: BTreeMap<Name, Meant<'c>> = principals
        .iter()
        .filter_map(|principal| config.meant_by(authority, principal))
        .map(|meant| (meant.name().clone(), meant))
        .collect();
    if meant.is_empty() {
        return Err(CertificateRefusal::NobodysPrincipals {
            authority: authority.name.clone(),
        });
    }
    Ok(meant)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
