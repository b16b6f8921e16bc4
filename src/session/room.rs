//! Whether there is room for one more session, on record like every other step.

use crate::audit::Event;
use crate::monitor::Monitor;
use crate::policy::Grant;
use crate::store::room::Trouble;

use super::steps::Sentence;
use super::{Caller, SessionId};

/// Sessions of a rescue role at once: what is kept back is for them and for the ends of all others.
const RESCUES: usize = 2;

/// Before anything is made for a session.
pub(super) async fn for_another(
    monitor: &Monitor,
    caller: &Caller,
    grant: &Grant,
    session: SessionId,
) -> Result<(), Sentence> {
    let open = rescues(monitor);
    let refused = refused(monitor, grant, open >= RESCUES);
    on_record(monitor, caller, session, refused).await
}

/// Once it could be found by whoever ends those that cannot be recorded: that may have been before, and another one may
/// have begun at the same time.
pub(super) async fn still(
    monitor: &Monitor,
    caller: &Caller,
    grant: &Grant,
    session: SessionId,
) -> Result<(), Sentence> {
    let open = rescues(monitor);
    let refused = refused(monitor, grant, open > RESCUES);
    on_record(monitor, caller, session, refused).await
}

fn rescues(monitor: &Monitor) -> usize {
    monitor.live.count(|grant| grant.rescue())
}

fn refused(monitor: &Monitor, grant: &Grant, too_many: bool) -> Option<String> {
    if grant.rescue() && too_many {
        return Some(format!(
            "{RESCUES} sessions of the rescue role are open already, which is as many as there may be"
        ));
    }
    match monitor.room.trouble()? {
        Trouble::NoSpace if grant.rescue() => None,
        trouble => Some(format!("{trouble}, so no session is opened")),
    }
}

async fn on_record(
    monitor: &Monitor,
    caller: &Caller,
    session: SessionId,
    refused: Option<String>,
) -> Result<(), Sentence> {
    let Some(reason) = refused else {
        return Ok(());
    };
    let sentence = format!("{reason}; tell your administrator");
    let event = Event::SessionFailed {
        session,
        identity: caller.identity.name(),
        step: "recording",
        reason,
    };
    monitor.audit.tell(event).await;
    Err(sentence)
}
