//! The steps from a proven identity to an open session. Each is on record before the next.

use crate::audit::Event;
use crate::causes::causes;
use crate::config::SessionKind;
use crate::messages::{Command, Open};
use crate::mint::{Lease, Minter};
use crate::monitor::Monitor;
use crate::policy::{self, Circumstances, Grant};
use crate::recording::{Keeping, Metadata, OpenRecording, RecordingError};

use super::client::Client;
use super::{Caller, SessionId, room};

/// Longest command line that an audit event or a header repeats, in characters.
const COMMAND_SHOWN: usize = 4096;
/// Longest login name that an audit event repeats, in characters.
pub(super) const PRINCIPAL_SHOWN: usize = 256;

/// No session: one sentence for the operator, and the client to say it to.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) sentence: String,
    pub(super) client: Client,
}

/// Why a step failed: a sentence for the operator. The reason for administrators is in the audit log.
pub(super) type Sentence = String;

pub(super) fn new_session(monitor: &Monitor) -> SessionId {
    SessionId::new(monitor.clock.now())
}

/// Asks policy, and puts its answer on record.
pub(super) async fn decide(
    monitor: &Monitor,
    caller: &Caller,
    kind: SessionKind,
    terminal: bool,
    session: SessionId,
) -> Result<Grant, Sentence> {
    let config = monitor.config();
    let request = policy::Request {
        principal: caller.principal.clone(),
        kind,
    };
    let principal = shown(&caller.principal, PRINCIPAL_SHOWN);
    let identity = &caller.identity;
    let fingerprint = identity.proof().fingerprint();
    let certificate = identity.proof().certificate_facts();
    let circumstances = Circumstances {
        now: monitor.clock.now(),
        from: caller.peer.address.ip(),
        open: &monitor.live.of(identity.name()),
    };
    let decision = policy::decide(&config, identity, &request, circumstances);
    let by_proof = match kind {
        SessionKind::Tunnel => policy::tunnel_allowed(identity),
        _ if terminal => policy::terminal_allowed(identity),
        _ => Ok(()),
    };
    match decision.and_then(|grant| by_proof.map(|()| grant)) {
        Ok(grant) => {
            let event = Event::Granted {
                session,
                peer: &caller.peer,
                fingerprint,
                certificate,
                groups: identity.groups(),
                principal: &principal,
                grant: &grant,
            };
            on_record(monitor, event).await?;
            Ok(grant)
        }
        Err(denial) => {
            let event = Event::Denied {
                session,
                peer: &caller.peer,
                identity: identity.name(),
                fingerprint,
                certificate,
                groups: identity.groups(),
                principal: &principal,
                kind,
                denial: &denial,
                config_digest: &config.digest,
            };
            on_record(monitor, event).await?;
            Err(denial.to_string())
        }
    }
}

/// Who is locked out gets no answer to a word of ours either.
pub(super) async fn not_locked_out(monitor: &Monitor, caller: &Caller) -> Result<(), Sentence> {
    let now = monitor.clock.now();
    let Err(denial) = policy::locked_out(&monitor.config(), &caller.identity, now) else {
        return Ok(());
    };
    let event = Event::RequestRefused {
        peer: &caller.peer,
        identity: Some(caller.identity.name()),
        what: "a word of ours, to somebody who is locked out",
    };
    on_record(monitor, event).await?;
    Err(denial.to_string())
}

/// Whether a decision would be the same now. Recording and minting take time, and a configuration that changed meanwhile
/// found no session that it could have ended: so this is asked once more, as soon as it could. The same holds for a disk that
/// became full, and for as many sessions as there may be, which may have been opened at the same time.
pub(super) async fn still_stands(
    monitor: &Monitor,
    caller: &Caller,
    grant: &Grant,
    session: SessionId,
) -> Result<(), Sentence> {
    let now = monitor.clock.now();
    let config = monitor.config();
    let before = monitor.live.before(session, caller.identity.name());
    let stands = policy::still_allowed(&config, grant, &caller.identity, now)
        .and_then(|_| policy::within_number(&config, grant, &caller.identity, &before, now));
    match stands {
        Ok(()) => room::still(monitor, caller, grant, session).await,
        Err(denial) => {
            fail(monitor, caller, session, "policy", &denial).await;
            Err(denial.to_string())
        }
    }
}

/// Opens the recording. No recorder, no session.
pub(super) async fn record(
    monitor: &Monitor,
    caller: &Caller,
    grant: &Grant,
    open: &Open,
    session: SessionId,
) -> Result<OpenRecording, Sentence> {
    room::for_another(monitor, caller, grant, session).await?;
    let identity = &caller.identity;
    let metadata = Metadata {
        session,
        instance: monitor.config().bastion.name.clone(),
        identity: identity.name().clone(),
        groups: identity.groups().iter().map(ToString::to_string).collect(),
        fingerprint: identity.proof().fingerprint().to_owned(),
        certificate: identity.proof().certificate_facts().cloned(),
        role: grant.role().clone(),
        binding: grant.binding().clone(),
        reason: grant.reason().map(str::to_owned),
        cluster: grant.cluster().clone(),
        subject: grant.subject().to_string(),
        kind: grant.kind().into(),
        parent: None,
        pod: None,
        command: command_shown(monitor, open),
        client: caller.peer.clone(),
        terminal: open.terminal.clone(),
        config_digest: grant.config_digest().to_owned(),
        opened: session.opened(),
        ends: grant.ends(),
    };
    let config = monitor.config();
    let keeping = Keeping {
        rescue: grant.rescue(),
        ..config.bastion.recordings.keeping(grant.record_input())
    };
    match monitor.recorder.open(metadata, keeping).await {
        Ok(recording) => Ok(recording),
        Err(error) => {
            fail(monitor, caller, session, "recording", &error).await;
            Err(match error {
                RecordingError::NoRoom { trouble } => {
                    format!("{trouble}, so no session is opened; tell your administrator")
                }
                _ => "this session cannot be recorded, so it is refused; tell your administrator"
                    .into(),
            })
        }
    }
}

/// Mints the credential, and puts it on record before it is used.
pub(super) async fn mint(
    monitor: &Monitor,
    caller: &Caller,
    grant: &Grant,
    session: SessionId,
) -> Result<Lease, Sentence> {
    let lease = match monitor.leases.mint(grant, session).await {
        Ok(lease) => lease,
        Err(error) => {
            fail(monitor, caller, session, "mint", &error).await;
            return Err(error.for_operator());
        }
    };
    let event = Event::LeaseIssued {
        session,
        identity: grant.identity(),
        cluster: grant.cluster(),
        subject: grant.subject().to_string(),
        jti: lease.jti(),
        audit_id: lease.audit_id(),
        expires: lease.expires(),
    };
    if let Err(sentence) = on_record(monitor, event).await {
        release(monitor, lease).await;
        return Err(sentence);
    }
    Ok(lease)
}

/// Takes the credential back, and puts on record whether that worked.
pub(super) async fn release(monitor: &Monitor, lease: Lease) {
    let session = lease.session();
    let jti = lease.jti().to_owned();
    let valid_until = match monitor.leases.release(lease).await {
        crate::mint::Release::Released => None,
        crate::mint::Release::ExpiresAt(until) => Some(until),
    };
    monitor
        .audit
        .tell(Event::LeaseReleased {
            session,
            jti: &jti,
            valid_until,
        })
        .await;
}

/// Puts on record that a session could not be opened, with the reason that operators are not told.
pub(super) async fn fail(
    monitor: &Monitor,
    caller: &Caller,
    session: SessionId,
    step: &str,
    error: &(dyn std::error::Error + Sync),
) {
    let reason = causes(error);
    let identity = caller.identity.name();
    monitor
        .audit
        .tell(Event::SessionFailed {
            session,
            identity,
            step,
            reason,
        })
        .await;
}

/// What must be on record before it happens.
pub(super) async fn on_record(monitor: &Monitor, event: Event<'_>) -> Result<(), Sentence> {
    monitor.audit.emit(event).await.map_err(|error| {
        tracing::error!("{error}");
        "the audit log cannot be written, so nothing is allowed; tell your administrator".to_owned()
    })
}

/// The command line as text, bounded, without credentials.
pub(super) fn command_shown(monitor: &Monitor, open: &Open) -> Option<String> {
    match &open.command {
        Command::Exec(line) => {
            let line = String::from_utf8_lossy(line);
            let line = monitor.leases.secrets().masked_text(&line);
            Some(line.chars().take(COMMAND_SHOWN).collect())
        }
        Command::Shell | Command::Tunnel(_) | Command::Subsystem(_) => None,
    }
}

/// Text of a client's, without control characters and bounded.
pub(super) fn shown(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .flat_map(char::escape_debug)
        .collect()
}
