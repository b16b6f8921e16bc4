//! What a role requires besides who somebody is, and whether it was proven.

use std::net::IpAddr;

use jiff::Timestamp;

use super::conditions::gives_now;
use super::judge::{kubernetes_choices, role_named};
use super::{Denial, Somebody, Supposed};
use crate::config::{Config, Factor, IdentityProvider, Name, Role, Subject};
use crate::identity::{self, Identity, Proof};
use crate::oidc::DeviceWord;

/// What is held of somebody's proof.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    /// Who.
    pub(super) identity: &'a Name,
    /// By what they were proven first.
    pub(super) by: By,
    /// The key that signed, `SHA256:...`.
    pub(super) fingerprint: &'a str,
    /// The enrolment of a one-time code that was accepted, by when it began.
    pub(super) enrolment: Option<Timestamp>,
    /// What a provider said by the device flow.
    pub(super) device: Option<&'a DeviceWord>,
}

/// What proved somebody, before anything else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A key of the configuration.
    Key,
    /// A certificate.
    Certificate,
    /// A provider's word on a key that is nobody's.
    Word,
}

impl<'a> Held<'a> {
    fn of(identity: &'a Identity) -> Self {
        Self {
            identity: identity.name(),
            by: match identity.proof() {
                Proof::Key { .. } => By::Key,
                Proof::Certificate(_) => By::Certificate,
                Proof::SignedOn { .. } => By::Word,
            },
            fingerprint: identity.proof().fingerprint(),
            enrolment: identity.passed().map(|passed| passed.enrolment()),
            device: identity.device(),
        }
    }
}

/// Whether what was proven is all that a role requires, of something new: a code that has had its time is none.
pub(super) fn proven(
    config: &Config,
    (role, login): (&Name, String),
    identity: &Identity,
    now: Timestamp,
) -> Result<(), Denial> {
    let mut held = Held::of(identity);
    if identity
        .passed()
        .is_some_and(|passed| passed.until() <= now)
    {
        held.enrolment = None;
    }
    let Some(role) = config.roles.get(role) else {
        return Ok(());
    };
    match missing(config, role, held, now) {
        None => Ok(()),
        Some(factor) => Err(denial(config, role, login, held, factor)),
    }
}

/// The same of something that is open: a code that was good when it began is good enough. A provider's word is not: it ends what it opened.
pub(super) fn still_proven(
    config: &Config,
    (role, login): (&Role, String),
    identity: &Identity,
    now: Timestamp,
) -> Result<(), Denial> {
    let held = Held::of(identity);
    match missing(config, role, held, now) {
        None => Ok(()),
        Some(factor) => Err(denial(config, role, login, held, factor)),
    }
}

/// The first of what a role requires that was not proven. A code of an enrolment that was removed since proves nothing.
pub(super) fn missing(
    config: &Config,
    role: &Role,
    held: Held<'_>,
    now: Timestamp,
) -> Option<Factor> {
    role.require.iter().copied().find(|factor| {
        let proven = match factor {
            Factor::Key => held.by == By::Key,
            Factor::Certificate => held.by == By::Certificate,
            Factor::Totp => {
                held.enrolment.is_some() && held.enrolment == config.enrolled.since(held.identity)
            }
            Factor::Oidc => {
                let signed_on = config.signed_on_groups(held.identity, held.fingerprint, now);
                let by_device = |word: &DeviceWord| word.counts(config, role, held.identity, now);
                signed_on.is_some() || held.device.is_some_and(by_device)
            }
        };
        !proven
    })
}

/// The word by the device flow that lets an identity have a role that it would not have without.
pub(super) fn by_device<'i>(
    config: &Config,
    role: &Name,
    identity: &'i Identity,
    now: Timestamp,
) -> Option<&'i DeviceWord> {
    let (name, key) = (identity.name(), identity.proof().fingerprint());
    if config.signed_on_groups(name, key, now).is_some() {
        return None;
    }
    let role = config.roles.get(role)?;
    let word = identity.device()?;
    (role.require.contains(&Factor::Oidc) && word.counts(config, role, name, now)).then_some(word)
}

/// For which role, and by which provider, a login may sign in by the device flow: its name says that role and nothing else, a binding gives it to them without
/// any provider's groups, the role's administrator has opted in, and nothing else is to be proven first.
pub fn device_flow(
    config: &Config,
    identity: &Identity,
    login: &str,
    from: IpAddr,
    now: Timestamp,
) -> Option<(Name, IdentityProvider)> {
    let somebody = Somebody::who_asks(config, identity, now).ok()?;
    let supposed = Supposed {
        now,
        from: Some(from),
    };
    let role = config
        .roles
        .get(&role_named(config, somebody.who(), login, supposed)?)?;
    let provider = config.providers.get(role.device_flow.as_ref()?)?;
    let missing = missing(config, role, Held::of(identity), now);
    (missing == Some(Factor::Oidc)).then(|| (role.name.clone(), provider.clone()))
}

fn denial(config: &Config, role: &Role, login: String, held: Held<'_>, missing: Factor) -> Denial {
    Denial::Unproven {
        role: role.name.clone(),
        identity: held.identity.clone(),
        missing,
        login,
        enrolled: config.enrolled.since(held.identity).is_some(),
        host: config.bastion.advertise.clone(),
    }
}

/// Whether a login should be asked for a one-time code: what the login name stands for requires one, a binding gives it to them, and they
/// are enrolled. Whoever is not asked is denied such a role later, and told why.
pub fn asks_for_code(
    config: &Config,
    identity: &Identity,
    login: &str,
    from: IpAddr,
    now: Timestamp,
) -> bool {
    config.enrolled.since(identity.name()).is_some()
        && lacks(config, identity, login, from, now) == Some(Factor::Totp)
}

/// Whether a login should be sent to a provider: what the login name stands for requires its word, and a binding gives it to them; or only its word can put
/// them into a group that has it.
pub fn asks_to_sign_on(
    config: &Config,
    identity: &Identity,
    login: &str,
    from: IpAddr,
    now: Timestamp,
) -> bool {
    if config.providers.is_empty() {
        return false;
    }
    let in_a_group = || {
        let supposed = Supposed {
            now,
            from: Some(from),
        };
        identity.signed_on().is_none() && only_by_a_word(config, identity, login, supposed)
    };
    lacks(config, identity, login, from, now) == Some(Factor::Oidc) || in_a_group()
}

/// Whether the role that a login name stands for is nothing that they have, and something that a provider's groups have.
fn only_by_a_word(config: &Config, identity: &Identity, login: &str, supposed: Supposed) -> bool {
    let Ok(somebody) = Somebody::who_asks(config, identity, supposed.now) else {
        return false;
    };
    let Some(meant) = meant(config, &somebody, login, supposed) else {
        return false;
    };
    let who = somebody.who();
    let mut own = config
        .bindings_of(who.name, who.groups)
        .filter(|binding| gives_now(binding, supposed));
    !own.any(|binding| binding.roles.contains(&meant))
        && may_be_put_into_a_group(config, &meant, supposed)
}

/// Whether a signature by a key that proves nobody may be made good by a provider's word.
pub fn may_sign_on(config: &Config, refusal: &identity::Refusal) -> bool {
    config.takes_any_key() && *refusal == identity::Refusal::UnknownKey
}

/// The first that is missing of what the role requires that the login name stands for, where a binding gives it.
fn lacks(
    config: &Config,
    identity: &Identity,
    login: &str,
    from: IpAddr,
    now: Timestamp,
) -> Option<Factor> {
    let Ok(somebody) = Somebody::who_asks(config, identity, now) else {
        return None;
    };
    let supposed = Supposed {
        now,
        from: Some(from),
    };
    let meant = meant(config, &somebody, login, supposed)?;
    let role = config.roles.get(&meant)?;
    let who = somebody.who();
    // The first: where a certificate is missing too, a code would be of no use, but for guessing.
    let missing = missing(config, role, Held::of(identity), now)?;
    // A provider's word may put them into a group that has it.
    let given = missing == Factor::Oidc && may_be_put_into_a_group(config, &meant, supposed);
    let mut bindings = config
        .bindings_of(who.name, who.groups)
        .filter(|binding| gives_now(binding, supposed));
    (given || bindings.any(|binding| binding.roles.contains(&meant))).then_some(missing)
}

fn may_be_put_into_a_group(config: &Config, role: &Name, supposed: Supposed) -> bool {
    config
        .bindings
        .values()
        .filter(|binding| binding.roles.contains(role) && gives_now(binding, supposed))
        .flat_map(|binding| &binding.subjects)
        .any(|subject| matches!(subject, Subject::Group(group) if group.is_of_a_provider()))
}

/// The role that a login name stands for, whether it may be taken or not.
fn meant(
    config: &Config,
    somebody: &Somebody<'_>,
    login: &str,
    supposed: Supposed,
) -> Option<Name> {
    let who = somebody.who();
    if login != who.name.as_str() {
        let role = login.split_once('+').map_or(login, |(role, _)| role);
        return Name::new(role).ok();
    }
    if let Some(role) = who.default_role {
        return Some(role.clone());
    }
    let choices = kubernetes_choices(config, who, supposed);
    let mut roles = choices.keys();
    match (roles.next(), roles.next()) {
        (Some(role), None) => Some((*role).clone()),
        _ => None,
    }
}
