//! Somebody, by the configuration as it is now: a connection may be older than a reload, and neither a key, a certificate nor a
//! group that was taken away since may open anything.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;
use russh::keys::Certificate;

use super::denial::Denial;
use super::judge::{Who, standing_key};
use super::locked::{holder_is_locked_out, locked_out};
use crate::config::{Config, IdentityDocument, Meant, Name};
use crate::identity::certificate::{self, CertificateRefusal, Vouched};
use crate::identity::{self, Group, Identity, Proof};

/// An identity with what the configuration says of it now. Opens nothing: only [`super::decide`] does, and that takes an
/// [`Identity`].
#[derive(Clone, Debug, PartialEq)]
pub struct Somebody<'c> {
    name: Cow<'c, Name>,
    groups: Cow<'c, BTreeSet<Group>>,
    default_role: Option<&'c Name>,
}

impl<'c> Somebody<'c> {
    /// An Identity of the configuration.
    pub fn listed(document: &'c IdentityDocument) -> Self {
        Self {
            name: Cow::Borrowed(&document.name),
            groups: Cow::Borrowed(&document.groups),
            default_role: document.default_role.as_ref(),
        }
    }

    /// Somebody by a name and groups that nothing proves: for questions only.
    pub fn imagined(name: Name, groups: BTreeSet<Group>) -> Self {
        Self {
            name: Cow::Owned(name),
            groups: Cow::Owned(groups),
            default_role: None,
        }
    }

    /// Whom an authority would mean, with these groups of it besides their own.
    pub fn named_by(meant: &Meant<'c>, mut groups: BTreeSet<Group>) -> Self {
        match meant {
            Meant::Listed(document) => {
                groups.extend(document.groups.iter().cloned());
                Self {
                    groups: Cow::Owned(groups),
                    ..Self::listed(document)
                }
            }
            Meant::Unlisted(name) => Self::imagined(name.clone(), groups),
        }
    }

    /// Whom a certificate would prove now, if its holder asked for `login` from a good address.
    ///
    /// # Errors
    ///
    /// Whatever it would be refused for.
    pub fn certified(
        config: &'c Config,
        certificate: &Certificate,
        login: &str,
        now: Timestamp,
    ) -> Result<Self, CertificateRefusal> {
        let vouched = certificate::vouch(config, certificate)?;
        certificate::is_signed(certificate)?;
        certificate::valid_at(certificate, now)?;
        let meant = vouched.one(login)?;
        Ok(Self::meant(&vouched, meant))
    }

    /// Who.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The groups, each with its source.
    pub fn groups(&self) -> &BTreeSet<Group> {
        &self.groups
    }

    fn meant(vouched: &Vouched<'c>, meant: &Meant<'c>) -> Self {
        let groups = Cow::Owned(vouched.groups_of(meant));
        match meant {
            Meant::Listed(document) => Self {
                groups,
                ..Self::listed(document)
            },
            Meant::Unlisted(name) => Self {
                name: Cow::Owned(name.clone()),
                groups,
                default_role: None,
            },
        }
    }

    pub(super) fn who(&self) -> Who<'_> {
        Who {
            name: &self.name,
            groups: &self.groups,
            default_role: self.default_role,
        }
    }

    /// A proven identity that asks for something new: what proved it must prove it now.
    ///
    /// # Errors
    ///
    /// Why it does not any more.
    pub fn who_asks(
        config: &'c Config,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Self, Denial> {
        let somebody = Self::who_holds(config, identity, now)?;
        if let Some(certified) = identity.proof().certificate() {
            certificate::valid_at(certified.certificate(), now).map_err(|refusal| {
                Denial::CertificateEnded {
                    identity: identity.name().clone(),
                    reason: refusal.to_string(),
                }
            })?;
        }
        Ok(somebody)
    }

    /// A proven identity that has something open: what proved it must be accepted still. That a certificate has ended since does not
    /// matter, nor the address that it came from, which was judged at login.
    pub(super) fn who_holds(
        config: &'c Config,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Self, Denial> {
        locked_out(config, identity, now)?;
        let proof = identity.proof();
        let somebody = match proof {
            Proof::Key {
                fingerprint,
                no_pty,
                no_forwarding,
                ..
            } => by_key(config, identity.name(), fingerprint, now)
                .filter(|(_, line)| {
                    // The session may hold a terminal or a tunnel that its key may not have any more.
                    let taken = (line.no_pty && !no_pty) || (line.no_forwarding && !no_forwarding);
                    !taken
                })
                .map(|(somebody, _)| somebody)
                .ok_or_else(|| Denial::KeyWithdrawn {
                    identity: identity.name().clone(),
                }),
            Proof::SignedOn { fingerprint, .. } => {
                by_word(config, identity.name(), fingerprint, now).ok_or_else(|| {
                    Denial::SignOnEnded {
                        identity: identity.name().clone(),
                    }
                })
            }
            Proof::Certificate(certified) => {
                by_certificate(config, identity.name(), certified.certificate()).map_err(
                    |refusal| Denial::CertificateWithdrawn {
                        identity: identity.name().clone(),
                        reason: refusal.to_string(),
                    },
                )
            }
        }?;
        Ok(somebody.with_sign_on(config, proof.fingerprint(), now))
    }

    /// With the groups that a provider has put them into, as far as that counts now.
    fn with_sign_on(mut self, config: &Config, fingerprint: &str, now: Timestamp) -> Self {
        if let Some(groups) = config.signed_on_groups(&self.name, fingerprint, now) {
            self.groups.to_mut().extend(groups.iter().cloned());
        }
        self
    }

    /// Who was proven by a key once, or by a certificate of it.
    pub(super) fn who_held(
        config: &'c Config,
        name: &Name,
        fingerprint: &str,
        certificate: Option<&str>,
        now: Timestamp,
    ) -> Option<Self> {
        if holder_is_locked_out(config, name, fingerprint, certificate, now) {
            return None;
        }
        let somebody = match certificate {
            None => by_key(config, name, fingerprint, now)
                .map(|(somebody, _)| somebody)
                .or_else(|| by_word(config, name, fingerprint, now)),
            Some(text) => {
                let certificate = certificate::read(text).ok()?;
                by_certificate(config, name, &certificate).ok()
            }
        }?;
        Some(somebody.with_sign_on(config, fingerprint, now))
    }
}

fn by_key<'c>(
    config: &'c Config,
    name: &Name,
    fingerprint: &str,
    now: Timestamp,
) -> Option<(Somebody<'c>, &'c crate::config::AuthorizedKey)> {
    let document = config.identities.get(name)?;
    let line = standing_key(config, document, fingerprint, now)?;
    Some((Somebody::listed(document), line))
}

/// Whoever a provider that takes any key has named as this key's holder.
fn by_word<'c>(
    config: &'c Config,
    name: &Name,
    fingerprint: &str,
    now: Timestamp,
) -> Option<Somebody<'c>> {
    let (_, meant) = identity::any_key(config, fingerprint, now)?;
    (meant.name() == name).then(|| Somebody::named_by(&meant, BTreeSet::new()))
}

fn by_certificate<'c>(
    config: &'c Config,
    name: &Name,
    certificate: &Certificate,
) -> Result<Somebody<'c>, CertificateRefusal> {
    let vouched = certificate::vouch(config, certificate)?;
    let meant = vouched.named(name)?;
    Ok(Somebody::meant(&vouched, meant))
}
