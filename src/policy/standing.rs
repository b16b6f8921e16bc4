//! Whether an open session would be opened still.

use jiff::Timestamp;

use super::judge::{Who, kubernetes_choices, kubernetes_role, standing_key, subject};
use super::{Denial, Grant, KubernetesSubject};
use crate::config::{Config, Name, SessionKind};
use crate::identity::{Identity, Proof};

/// Judges an open session by another configuration than it was opened under: its key must still prove its
/// identity, and some binding must still give that identity this role, cluster, subject and kind. Groups are those
/// of the configuration now, not those at login.
///
/// Answers when the session has to end at the latest, which is sooner than [`Grant::ends`] if the binding was
/// shortened. A shortened `maxSession` is for sessions to come. A session whose own end has come is not judged any
/// more: its time is over, which says more than that the same moment ended its binding.
///
/// # Errors
///
/// Why the session must end now.
pub fn still_allowed(
    config: &Config,
    grant: &Grant,
    identity: &Identity,
    now: Timestamp,
) -> Result<Timestamp, Denial> {
    if grant.ends() <= now {
        return Ok(grant.ends());
    }
    let who = Who::proven(config, identity, now)?;
    let changed = || Denial::RoleChanged {
        role: grant.role().clone(),
        cluster: grant.cluster().clone(),
    };
    let unbound = || Denial::NoLongerBound {
        role: grant.role().clone(),
        cluster: grant.cluster().clone(),
    };
    // What is no longer defined is no longer bound either.
    config.roles.get(grant.role()).ok_or_else(unbound)?;
    let (_, role) = kubernetes_role(config, grant.role()).ok_or_else(changed)?;
    let template = role.subjects.get(grant.cluster()).ok_or_else(changed)?;
    if subject(template, identity.name()) != *grant.subject() {
        return Err(changed());
    }
    if !role.sessions.contains(&grant.kind()) {
        return Err(Denial::KindNotAllowed {
            role: grant.role().clone(),
            kind: grant.kind(),
            allowed: role.sessions.iter().copied().collect(),
        });
    }
    let choices = kubernetes_choices(config, who, now);
    let binding = choices
        .get(grant.role())
        .and_then(|clusters| clusters.get(grant.cluster()))
        .ok_or_else(unbound)?;
    Ok(binding
        .until
        .map_or(grant.ends(), |until| until.min(grant.ends())))
}

/// A credential in a client's hands, by what it was handed out for.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// To whom.
    pub identity: &'a Name,
    /// By which key they were proven then, `SHA256:...`.
    pub fingerprint: &'a str,
    /// For which role.
    pub role: &'a Name,
    /// On which cluster.
    pub cluster: &'a Name,
    /// As which ServiceAccount.
    pub subject: &'a KubernetesSubject,
}

/// Whether a credential that was handed out would be handed out now: to the same identity, proven by the same key, for the
/// same ServiceAccount. A key is taken away because somebody else may have it, and then they may have this as well.
pub fn may_hold(config: &Config, held: Held<'_>, now: Timestamp) -> bool {
    let Some(document) = config.identities.get(held.identity) else {
        return false;
    };
    let proven = standing_key(document, held.fingerprint, now).is_some();
    let handed_out = kubernetes_role(config, held.role).is_some_and(|(_, role)| {
        role.sessions.contains(&SessionKind::Credential)
            && role
                .subjects
                .get(held.cluster)
                .is_some_and(|template| subject(template, held.identity) == *held.subject)
    });
    proven
        && handed_out
        && kubernetes_choices(config, Who::named(document), now)
            .get(held.role)
            .is_some_and(|clusters| clusters.contains_key(held.cluster))
}

/// When time alone next takes something away: a binding or a key of the configuration ends.
pub fn next_end(config: &Config, now: Timestamp) -> Option<Timestamp> {
    let bindings = config.bindings.values().filter_map(|binding| binding.until);
    let keys = config
        .identities
        .values()
        .flat_map(|identity| &identity.keys)
        .filter_map(|key| key.expires);
    bindings.chain(keys).filter(|end| *end > now).min()
}

/// Whether the key that proved the identity may have a tunnel.
///
/// # Errors
///
/// A denial if its line in the configuration says `no-port-forwarding` or `restrict`.
pub fn tunnel_allowed(identity: &Identity) -> Result<(), Denial> {
    match identity.proof() {
        Proof::Key {
            no_forwarding: true,
            ..
        } => Err(Denial::NoTunnel {
            identity: identity.name().clone(),
        }),
        Proof::Key { .. } => Ok(()),
    }
}

/// Whether the key that proved the identity may have a terminal.
///
/// # Errors
///
/// A denial if its line in the configuration says `no-pty` or `restrict`.
pub fn terminal_allowed(identity: &Identity) -> Result<(), Denial> {
    match identity.proof() {
        Proof::Key { no_pty: true, .. } => Err(Denial::NoTerminal {
            identity: identity.name().clone(),
        }),
        Proof::Key { .. } => Ok(()),
    }
}
