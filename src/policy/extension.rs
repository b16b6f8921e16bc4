//! More time for an open session.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::judge::kubernetes_role;
use super::standing::stands_until;
use super::{Denial, Grant, Somebody, factors};
use crate::config::Config;
use crate::identity::Identity;

/// Says whether an open session may end later by `by`, and gives the grant with the end that it has then: as late as was asked for, or as
/// the role's `maxExtension` after the first end and the binding's `until` let it be.
///
/// That is something new, and not only something that stays: a certificate must be valid and a one-time code count, as at login, and everything else that
/// [`super::still_allowed`] asks for must hold.
///
/// # Errors
///
/// If the role's sessions are not extended, this one would not end later, or it would have to end now.
pub fn extend(
    config: &Config,
    grant: &Grant,
    identity: &Identity,
    by: Duration,
    now: Timestamp,
) -> Result<Grant, Denial> {
    let ends = grant.ends();
    if ends <= now {
        return Err(Denial::LastsNoLonger { ends });
    }
    Somebody::who_asks(config, identity, now)?;
    let login = (
        grant.role(),
        format!("{}+{}", grant.role(), grant.cluster()),
    );
    factors::proven(config, login, identity, now)?;
    let until = stands_until(config, grant, identity, now)?;
    let (_, role) = kubernetes_role(config, grant.role()).ok_or_else(|| Denial::RoleChanged {
        role: grant.role().clone(),
        cluster: grant.cluster().clone(),
    })?;
    if role.max_extension.is_zero() {
        return Err(Denial::NotExtended {
            role: grant.role().clone(),
        });
    }
    let latest = later(grant.first_end(), role.max_extension);
    let latest = until.map_or(latest, |until| until.min(latest));
    let word = factors::by_device(config, grant.role(), identity, now);
    let latest = word.map_or(latest, |word| word.until().min(latest));
    let end = later(ends, by).min(latest);
    if end <= ends {
        return Err(Denial::LastsNoLonger { ends });
    }
    Ok(grant.until(end))
}

fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    moment.saturating_add(by).unwrap_or(Timestamp::MAX)
}
