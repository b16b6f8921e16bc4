//! Which role an identity may take. Pure, no I/O, and the only place that says yes.
//!
//! [`decide`] answers for a proven identity and is the one constructor of [`Grant`]; [`explain`] answers the
//! same question about somebody who is not there, and can open nothing.

mod audit;
mod available;
mod denial;
mod egress;
mod grant;
mod judge;
mod locked;
mod somebody;
mod standing;

use jiff::Timestamp;

pub use audit::{AuditScope, audit_scope};
pub use available::{Available, Gives, available, available_to};
pub use denial::{Denial, ShownPrincipal};
pub use egress::{NotReached, has_egress, may_connect};
pub use grant::{Grant, KubernetesSubject};
pub use judge::Decision;
pub use locked::locked_out;
pub use somebody::Somebody;
pub use standing::{Held, may_hold, next_end, still_allowed, terminal_allowed, tunnel_allowed};

use crate::config::{Config, SessionKind};
use crate::identity::Identity;

/// What a proven identity asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The login name: the identity's own, `ROLE` or `ROLE+CLUSTER`. Whatever a client sends.
    pub principal: String,
    /// The kind of session.
    pub kind: SessionKind,
}

/// Says whether a proven identity may have what it asks for, now.
///
/// # Errors
///
/// A [`Denial`] that may be shown to that identity: it speaks of nobody else.
pub fn decide(
    config: &Config,
    identity: &Identity,
    request: &Request,
    now: Timestamp,
) -> Result<Grant, Denial> {
    let somebody = Somebody::who_asks(config, identity, now)?;
    let decision = judge::judge(config, somebody.who(), request, now)?;
    Ok(Grant::new(decision, identity, config))
}

/// What [`decide`] would say to somebody if they were proven now.
///
/// # Errors
///
/// The denial that they would read.
pub fn explain(
    config: &Config,
    somebody: &Somebody<'_>,
    request: &Request,
    now: Timestamp,
) -> Result<Decision, Denial> {
    judge::judge(config, somebody.who(), request, now)
}

#[cfg(test)]
mod tests;
