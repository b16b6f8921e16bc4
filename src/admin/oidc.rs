//! What providers have said of whoever holds a key.

use std::sync::Arc;

use super::Reply;
use crate::audit::{Event, SignOnEvent};
use crate::monitor::Monitor;
use crate::oidc::{Removed, Whose};
use crate::revoke;

/// In force first, as a lock is.
pub(super) async fn remove(monitor: &Arc<Monitor>, who: &str, whose: Whose) -> Reply {
    // Otherwise whoever enforces could be first, and what it takes back would not be told here.
    let _enforcing = monitor.taking_back.try_lock();
    let Removed { sign_ons, not_kept } = monitor.sign_ons.remove(whose).await;
    let not_kept = not_kept.map(|error| error.to_string());
    let config = monitor.config();
    let (mut sessions, mut credentials) = (0, Vec::new());
    if !sign_ons.is_empty() {
        sessions = monitor.end_what_is_not_allowed(&config);
        credentials = revoke::no_longer_allowed(monitor, &config).await;
    }
    for sign_on in &sign_ons {
        let event = Event::SignOn(SignOnEvent::Removed {
            identity: &sign_on.identity,
            fingerprint: &sign_on.fingerprint,
            provider: &sign_on.provider,
            who,
            not_kept: not_kept.as_deref(),
        });
        monitor.audit.tell(event).await;
    }
    Reply::OidcRemoved {
        sign_ons,
        credentials,
        sessions,
        not_kept,
    }
}
