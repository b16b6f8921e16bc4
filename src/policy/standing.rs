//! Whether an open session would be opened still.

use jiff::Timestamp;

use super::conditions::{gives_now, hands_out, one_more, speaks_of, stands};
use super::judge::{kubernetes_role, outlasts, standing_key, subject};
use super::locked::closed;
use super::{Denial, Grant, KubernetesSubject, OpenSession, Somebody, Supposed, factors};
use crate::config::{Binding, Config, Name, SessionKind};
use crate::identity::{Identity, Proof};

/// Judges an open session by another configuration than it was opened under: its key or certificate must still be accepted for its
/// identity, and some binding must still give that identity this role, cluster, subject and kind, from where it came. Groups are those
/// of the configuration now, not those at login.
///
/// What the role requires by now must have been proven when it was opened; that a one-time code has had its time since ends nothing, that its
/// enrolment was removed does.
///
/// Answers when the session has to end at the latest, which is sooner than [`Grant::ends`] if the binding was
/// shortened. A certificate that has ended since login ends nothing. A shortened `maxSession` and a lowered `sessionsAtOnce` are for sessions to come. A session whose own end has come is not judged any
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
    let until = stands_until(config, grant, identity, now)?;
    Ok(until.map_or(grant.ends(), |until| until.min(grant.ends())))
}

/// What [`still_allowed`] asks of a session whose time is not over; and the `until` of the binding that lasts longest.
pub(super) fn stands_until(
    config: &Config,
    grant: &Grant,
    identity: &Identity,
    now: Timestamp,
) -> Result<Option<Timestamp>, Denial> {
    let somebody = Somebody::who_holds(config, identity, now)?;
    let changed = || Denial::RoleChanged {
        role: grant.role().clone(),
        cluster: grant.cluster().clone(),
    };
    let unbound = || Denial::NoLongerBound {
        role: grant.role().clone(),
        cluster: grant.cluster().clone(),
    };
    closed(config, identity.name(), grant.role(), grant.cluster(), now)?;
    // What is no longer defined is no longer bound either.
    let required = config.roles.get(grant.role()).ok_or_else(unbound)?;
    let login = (required, format!("{}+{}", grant.role(), grant.cluster()));
    factors::still_proven(config, login, identity, now)?;
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
    let mut last: Option<&Binding> = None;
    for binding in giving(config, grant, &somebody, now) {
        if last.is_none_or(|last| outlasts(binding, last)) {
            last = Some(binding);
        }
    }
    let binding = last.ok_or_else(unbound)?;
    Ok(binding.until)
}

/// Whether a session that is being opened is within the number that its binding gives at once. Asked when others can see that it is
/// there, because two that are opened at the same time see nothing of each other before.
///
/// # Errors
///
/// If those that were there before it are as many as there may be, or no binding gives it any more.
pub fn within_number(
    config: &Config,
    grant: &Grant,
    identity: &Identity,
    before: &[OpenSession],
    now: Timestamp,
) -> Result<(), Denial> {
    let somebody = Somebody::who_holds(config, identity, now)?;
    let what = (grant.role(), grant.cluster());
    let mut refused = Denial::NoLongerBound {
        role: grant.role().clone(),
        cluster: grant.cluster().clone(),
    };
    for binding in giving(config, grant, &somebody, now) {
        match one_more(config, binding, what, grant.kind(), before) {
            Ok(()) => return Ok(()),
            Err(denial) => refused = denial,
        }
    }
    Err(refused)
}

/// The bindings that give now what a grant is for.
fn giving<'c>(
    config: &'c Config,
    grant: &Grant,
    somebody: &Somebody<'_>,
    now: Timestamp,
) -> impl Iterator<Item = &'c Binding> {
    let supposed = Supposed {
        now,
        from: Some(grant.from()),
    };
    let handed_out = grant.kind() == SessionKind::Credential;
    let who = somebody.who();
    config
        .bindings_of(who.name, who.groups)
        .filter(move |binding| gives_now(binding, supposed))
        .filter(move |binding| !handed_out || hands_out(binding))
        .filter(move |binding| speaks_of(config, binding, grant.role(), grant.cluster()))
}

/// A credential in a client's hands, by what it was handed out for.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// To whom.
    pub identity: &'a Name,
    /// By which key they were proven then, `SHA256:...`.
    pub fingerprint: &'a str,
    /// By which certificate of that key, OpenSSH format, if it was one.
    pub certificate: Option<&'a str>,
    /// By a one-time code of which enrolment besides.
    pub enrolment: Option<Timestamp>,
    /// For which role.
    pub role: &'a Name,
    /// On which cluster.
    pub cluster: &'a Name,
    /// As whom in the cluster.
    pub subject: &'a KubernetesSubject,
}

/// Whether a credential that was handed out would be handed out now: to the same identity, proven by the same key or certificate, for the
/// same ServiceAccount. A key is taken away because somebody else may have it, and then they may have this as well.
pub fn may_hold(config: &Config, held: Held<'_>, now: Timestamp) -> bool {
    let (key, certificate) = (held.fingerprint, held.certificate);
    let Some(somebody) = Somebody::who_held(config, held.identity, key, certificate, now) else {
        return false;
    };
    let handed_out = kubernetes_role(config, held.role).is_some_and(|(_, role)| {
        role.sessions.contains(&SessionKind::Credential)
            && role
                .subjects
                .get(held.cluster)
                .is_some_and(|template| subject(template, held.identity) == *held.subject)
    });
    let owns = config
        .identities
        .get(held.identity)
        .is_some_and(|document| standing_key(config, document, key, now).is_some());
    let proof = factors::Held {
        identity: held.identity,
        by: match (certificate, owns) {
            (Some(_), _) => factors::By::Certificate,
            (None, true) => factors::By::Key,
            (None, false) => factors::By::Word,
        },
        fingerprint: key,
        enrolment: held.enrolment,
        // Nothing is handed out by that.
        device: None,
    };
    let proven = config
        .roles
        .get(held.role)
        .is_some_and(|role| factors::missing(config, role, proof, now).is_none());
    let who = somebody.who();
    handed_out
        && proven
        && closed(config, held.identity, held.role, held.cluster, now).is_ok()
        && config.bindings_of(who.name, who.groups).any(|binding| {
            stands(binding, now)
                && hands_out(binding)
                && speaks_of(config, binding, held.role, held.cluster)
        })
}

/// When time alone next takes something away: a binding or a key of the configuration ends, or what a provider said.
pub fn next_end(config: &Config, now: Timestamp) -> Option<Timestamp> {
    let bindings = config.bindings.values().filter_map(|binding| binding.until);
    let keys = config
        .identities
        .values()
        .flat_map(|identity| &identity.keys)
        .filter_map(|key| key.expires);
    let sign_ons = config.sign_ons.ends();
    bindings
        .chain(keys)
        .chain(sign_ons)
        .filter(|end| *end > now)
        .min()
}

/// Whether what proved the identity may have a tunnel.
///
/// # Errors
///
/// A denial if the key's line in the configuration says `no-port-forwarding` or `restrict`, or the certificate does not have
/// `permit-port-forwarding`.
pub fn tunnel_allowed(identity: &Identity) -> Result<(), Denial> {
    let identity_name = || identity.name().clone();
    match identity.proof() {
        Proof::Key {
            no_forwarding: true,
            ..
        } => Err(Denial::NoTunnel {
            identity: identity_name(),
        }),
        Proof::Certificate(certified) if !certified.permits_forwarding() => {
            Err(Denial::NotPermitted {
                identity: identity_name(),
                extension: "permit-port-forwarding".to_owned(),
            })
        }
        Proof::Key { .. } | Proof::SignedOn { .. } | Proof::Certificate(_) => Ok(()),
    }
}

/// Whether what proved the identity may have a terminal.
///
/// # Errors
///
/// A denial if the key's line in the configuration says `no-pty` or `restrict`, or the certificate does not have `permit-pty`.
pub fn terminal_allowed(identity: &Identity) -> Result<(), Denial> {
    let identity_name = || identity.name().clone();
    match identity.proof() {
        Proof::Key { no_pty: true, .. } => Err(Denial::NoTerminal {
            identity: identity_name(),
        }),
        Proof::Certificate(certified) if !certified.permits_pty() => Err(Denial::NotPermitted {
            identity: identity_name(),
            extension: "permit-pty".to_owned(),
        }),
        Proof::Key { .. } | Proof::SignedOn { .. } | Proof::Certificate(_) => Ok(()),
    }
}
