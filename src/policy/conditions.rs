//! What a binding asks besides who it is: the time, the address, how many sessions there are.

use std::net::IpAddr;

use jiff::Timestamp;

use super::Denial;
use super::judge::kubernetes_role;
use crate::config::{Binding, Config, Name, SessionKind, allowed_from};

/// What counts of a proven identity that asks, besides who it is and what it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// When.
    pub now: Timestamp,
    /// From which address.
    pub from: IpAddr,
    /// What the identity has open.
    pub open: &'a [OpenSession],
}

/// When and from where somebody would ask who is not there.
#[derive(Clone, Copy, Debug)]
pub struct Supposed {
    /// When.
    pub now: Timestamp,
    /// From which address; `None`: from wherever it would be allowed.
    pub from: Option<IpAddr>,
}

/// An open session of an identity: what it takes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Under which role.
    pub role: Name,
    /// On which cluster.
    pub cluster: Name,
}

impl From<Circumstances<'_>> for Supposed {
    fn from(circumstances: Circumstances<'_>) -> Self {
        Self {
            now: circumstances.now,
            from: Some(circumstances.from),
        }
    }
}

/// Whether a binding gives anything then, to somebody from there.
pub(super) fn gives_now(binding: &Binding, supposed: Supposed) -> bool {
    stands(binding, supposed.now) && gives_there(binding, supposed.from)
}

pub(super) fn stands(binding: &Binding, now: Timestamp) -> bool {
    binding.until.is_none_or(|until| now < until)
}

pub(super) fn gives_there(binding: &Binding, from: Option<IpAddr>) -> bool {
    from.is_none_or(|address| allowed_from(&binding.from, address))
}

/// Whether a binding gives this role there at all.
pub(super) fn speaks_of(config: &Config, binding: &Binding, role: &Name, cluster: &Name) -> bool {
    binding.roles.contains(role)
        && binding
            .clusters
            .as_ref()
            .is_none_or(|clusters| clusters.contains(cluster))
        && kubernetes_role(config, role)
            .is_some_and(|(_, kubernetes)| kubernetes.subjects.contains_key(cluster))
}

/// Whether a binding may hand out credentials. What a client has it can use from anywhere, and as often as it likes, so what
/// bounds either cannot be kept.
pub(super) fn hands_out(binding: &Binding) -> bool {
    binding.from.is_empty() && binding.sessions_at_once.is_none()
}

/// Whether a binding gives one more session of this kind to who has these open.
pub(super) fn one_more(
    config: &Config,
    binding: &Binding,
    (role, cluster): (&Name, &Name),
    kind: SessionKind,
    open: &[OpenSession],
) -> Result<(), Denial> {
    if kind == SessionKind::Credential && !hands_out(binding) {
        return Err(Denial::NotHandedOut {
            role: role.clone(),
            binding: binding.name.clone(),
        });
    }
    let Some(most) = binding.sessions_at_once else {
        return Ok(());
    };
    // By what it gives and not by its name: a binding that was renamed has not lost count.
    let taken = open
        .iter()
        .filter(|session| speaks_of(config, binding, &session.role, &session.cluster))
        .count();
    if taken < usize::try_from(most).unwrap_or(usize::MAX) {
        return Ok(());
    }
    Err(Denial::TooManySessions {
        role: role.clone(),
        cluster: cluster.clone(),
        binding: binding.name.clone(),
        most,
    })
}
