//! Which role an identity may take. Pure, no I/O, and the only place that says yes.
//!
//! [`decide`] answers for a proven identity and is the one constructor of [`Grant`]; [`explain`] answers the
//! same question about somebody who is not there, and can open nothing.

mod audit;
mod available;
mod conditions;
mod denial;
mod egress;
mod extension;
mod factors;
mod grant;
mod judge;
mod locked;
mod people;
mod rules;
mod somebody;
mod standing;
mod subjects;

pub use audit::{AuditScope, audit_denial, audit_scope};
pub use available::{Available, Gives, available, available_to};
pub use conditions::{Circumstances, OpenSession, Supposed};
pub use denial::{Denial, ShownPrincipal};
pub use egress::{NotReached, has_egress, may_connect};
pub use extension::extend;
pub use factors::{asks_for_code, asks_to_sign_on, device_flow, may_sign_on};
pub use grant::{Grant, KubernetesSubject};
pub use judge::Decision;
pub use locked::locked_out;
pub use people::{People, people};
pub use rules::{Rule, Says, rules};
pub use somebody::Somebody;
pub use standing::{
    Held, may_hold, next_end, still_allowed, terminal_allowed, tunnel_allowed, within_number,
};
pub use subjects::{InNamespace, ServiceAccounts, Unlisted, service_accounts};

use jiff::Timestamp;

use crate::config::{Config, Name, SessionKind};
use crate::identity::Identity;

/// What a proven identity asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The login name: the identity's own, `ROLE` or `ROLE+CLUSTER`. Whatever a client sends.
    pub principal: String,
    /// The kind of session.
    pub kind: SessionKind,
}

/// Says whether a proven identity may have what it asks for, now and from there, with what it has open.
///
/// # Errors
///
/// A [`Denial`] that may be shown to that identity: it speaks of nobody else.
pub fn decide(
    config: &Config,
    identity: &Identity,
    request: &Request,
    circumstances: Circumstances<'_>,
) -> Result<Grant, Denial> {
    let somebody = Somebody::who_asks(config, identity, circumstances.now)?;
    let supposed = circumstances.into();
    let mut decision = judge::judge(
        config,
        somebody.who(),
        request,
        supposed,
        circumstances.open,
    )?;
    let login = (&decision.role, decision.login());
    factors::proven(config, login, identity, circumstances.now)?;
    let word = factors::by_device(config, &decision.role, identity, circumstances.now);
    if let Some(word) = word {
        within_connection(config, &mut decision, word.until())?;
    }
    let grant = Grant::new(decision, identity, config, circumstances.from);
    Ok(grant.by_device(word.map(|word| word.provider().clone())))
}

/// What was proven for one connection opens nothing that lasts longer.
fn within_connection(
    config: &Config,
    decision: &mut Decision,
    until: Timestamp,
) -> Result<(), Denial> {
    if decision.kind == SessionKind::Credential {
        return Err(Denial::NotByDevice {
            role: decision.role.clone(),
            host: config.bastion.advertise.clone(),
        });
    }
    decision.ends = decision.ends.min(until);
    Ok(())
}

/// As whom somebody of that name would be in a cluster by a role, whether they may take it or not; `None` if the role is not there.
pub fn subject_on(
    config: &Config,
    role: &Name,
    cluster: &Name,
    identity: &Name,
) -> Option<KubernetesSubject> {
    let (_, kubernetes) = judge::kubernetes_role(config, role)?;
    let template = kubernetes.subjects.get(cluster)?;
    Some(judge::subject(template, identity))
}

/// What [`decide`] would say to somebody if they were proven then and there, with nothing open.
///
/// # Errors
///
/// The denial that they would read.
pub fn explain(
    config: &Config,
    somebody: &Somebody<'_>,
    request: &Request,
    supposed: Supposed,
) -> Result<Decision, Denial> {
    judge::judge(config, somebody.who(), request, supposed, &[])
}

#[cfg(test)]
mod tests;
