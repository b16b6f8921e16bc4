//! What a role requires besides who somebody is, and whether it was proven.

use std::net::IpAddr;

use jiff::Timestamp;

use super::conditions::gives_now;
use super::judge::kubernetes_choices;
use super::{Denial, Somebody, Supposed};
use crate::config::{Config, Factor, Name, Role};
use crate::identity::{Identity, Proof};

/// What is held of somebody's proof.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    /// Who.
    pub(super) identity: &'a Name,
    /// There was a certificate.
    pub(super) certified: bool,
    /// The enrolment of a one-time code that was accepted, by when it began.
    pub(super) enrolment: Option<Timestamp>,
}

impl<'a> Held<'a> {
    fn of(identity: &'a Identity) -> Self {
        Self {
            identity: identity.name(),
            certified: matches!(identity.proof(), Proof::Certificate(_)),
            enrolment: identity.passed().map(|passed| passed.enrolment()),
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
    match missing(config, role, held) {
        None => Ok(()),
        Some(factor) => Err(denial(config, role, login, held, factor)),
    }
}

/// The same of something that is open: a code that was good when it began is good enough.
pub(super) fn still_proven(
    config: &Config,
    (role, login): (&Role, String),
    identity: &Identity,
) -> Result<(), Denial> {
    let held = Held::of(identity);
    match missing(config, role, held) {
        None => Ok(()),
        Some(factor) => Err(denial(config, role, login, held, factor)),
    }
}

/// The first of what a role requires that was not proven. A code of an enrolment that was removed since proves nothing.
pub(super) fn missing(config: &Config, role: &Role, held: Held<'_>) -> Option<Factor> {
    role.require.iter().copied().find(|factor| {
        let proven = match factor {
            Factor::Key => !held.certified,
            Factor::Certificate => held.certified,
            Factor::Totp => {
                held.enrolment.is_some() && held.enrolment == config.enrolled.since(held.identity)
            }
        };
        !proven
    })
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
    if config.enrolled.since(identity.name()).is_none() {
        return false;
    }
    let Ok(somebody) = Somebody::who_asks(config, identity, now) else {
        return false;
    };
    let supposed = Supposed {
        now,
        from: Some(from),
    };
    let Some(meant) = meant(config, &somebody, login, supposed) else {
        return false;
    };
    let Some(role) = config.roles.get(&meant) else {
        return false;
    };
    let who = somebody.who();
    // Where a certificate is missing too, a code would be of no use, but for guessing.
    missing(config, role, Held::of(identity)) == Some(Factor::Totp)
        && config
            .bindings_of(who.name, who.groups)
            .filter(|binding| gives_now(binding, supposed))
            .any(|binding| binding.roles.contains(&meant))
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
