//! Enrolments for one-time codes.

use std::sync::Arc;

use super::Reply;
use crate::audit::Event;
use crate::config::Name;
use crate::monitor::Monitor;
use crate::revoke;
use crate::totp::{Hidden, NotEnrolled, Secret};

/// A new secret, which nobody has yet. Whoever may ask for one may also enroll anybody.
pub(super) fn offer(monitor: &Monitor, identity: &Name) -> Reply {
    let config = monitor.config();
    if config.enrolled.since(identity).is_some() {
        return Reply::Error(NotEnrolled::Already(identity.clone()).to_string());
    }
    let secret = match Secret::random() {
        Ok(secret) => secret,
        Err(error) => return Reply::Error(error.to_string()),
    };
    let Some(url) = secret.url(config.bastion.name.as_str(), identity.as_str()) else {
        return Reply::Error("no otpauth:// URL can be made of these names".to_owned());
    };
    Reply::TotpOffered {
        secret: secret.base32(),
        url,
        listed: config.identities.contains_key(identity),
    }
}

/// On record, on disk, in force: in this order.
pub(super) async fn enroll(
    monitor: &Monitor,
    who: String,
    identity: Name,
    secret: &Hidden,
    code: &Hidden,
) -> Reply {
    let secret = match Secret::parse(secret.expose()) {
        Ok(secret) => secret,
        Err(error) => return Reply::Error(error.to_string()),
    };
    let now = monitor.clock.now();
    if let Err(error) = monitor.codes.would_enroll(&identity, &secret, code, now) {
        return not_enrolled(&error);
    }
    let event = Event::TotpEnrolled {
        identity: &identity,
        who: &who,
    };
    if let Err(error) = monitor.audit.emit(event).await {
        return Reply::Error(format!("nobody is enrolled: {error}"));
    }
    match monitor.codes.enroll(identity, secret, code, who, now).await {
        Ok(recovery) => Reply::TotpEnrolled(recovery),
        Err(error) => not_enrolled(&error),
    }
}

/// In force first, as a lock is.
pub(super) async fn remove(monitor: &Arc<Monitor>, who: &str, identity: &Name) -> Reply {
    // Otherwise whoever enforces could be first, and what it takes back would not be told here.
    let _enforcing = monitor.taking_back.try_lock();
    let removed = monitor.codes.remove(identity).await;
    let not_kept = removed.not_kept.map(|error| error.to_string());
    if !removed.was {
        return Reply::TotpRemoved {
            was: false,
            credentials: Vec::new(),
            sessions: 0,
            not_kept,
        };
    }
    let config = monitor.config();
    let sessions = monitor.end_what_is_not_allowed(&config);
    let credentials = revoke::no_longer_allowed(monitor, &config).await;
    let event = Event::TotpRemoved {
        identity,
        who,
        sessions,
        credentials: credentials.len(),
        not_kept: not_kept.as_deref(),
    };
    monitor.audit.tell(event).await;
    Reply::TotpRemoved {
        was: true,
        credentials,
        sessions,
        not_kept,
    }
}

fn not_enrolled(error: &NotEnrolled) -> Reply {
    match error {
        NotEnrolled::WrongCode => Reply::TotpWrongCode(error.to_string()),
        error => Reply::Error(error.to_string()),
    }
}
