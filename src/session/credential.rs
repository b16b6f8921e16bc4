//! `bastion credential`: the one way a credential leaves the daemon, for roles that say so.

use jiff::SignedDuration;
use serde_json::json;

use crate::audit::Event;
use crate::config::SessionKind;
use crate::messages::SessionEvent;
use crate::monitor::Monitor;
use crate::revoke;

use super::client::Client;
use super::{Caller, SessionId, room, steps};

/// kubectl uses what it has until the stated expiry, and a request under way must not meet the real one.
const EARLY: SignedDuration = SignedDuration::from_secs(60);

/// Writes an `ExecCredential` (client.authentication.k8s.io/v1) and nothing else to stdout, or one
/// sentence to stderr.
pub(super) async fn hand_out(monitor: &Monitor, caller: &Caller, client: Client) {
    let session = steps::new_session(monitor);
    match issue(monitor, caller, session).await {
        Ok(document) => {
            let said = async {
                client.print(&document).await?;
                client.send(SessionEvent::Exit(0)).await
            };
            if said.await.is_err() {
                tracing::debug!("a client left before its credential was told");
            }
        }
        Err(sentence) => {
            client
                .last_words(&format!("bastion-audit: {sentence} (session {session})"), 1)
                .await;
        }
    }
}

/// Everything about the credential is on record before it is handed out.
async fn issue(
    monitor: &Monitor,
    caller: &Caller,
    session: SessionId,
) -> Result<zeroize::Zeroizing<String>, String> {
    let grant = steps::decide(monitor, caller, SessionKind::Credential, false, session).await?;
    room::for_another(monitor, caller, &grant, session).await?;
    let lease = steps::mint(monitor, caller, &grant, session).await?;
    let (jti, until) = (lease.jti().to_owned(), lease.expires());
    let event = Event::LeaseHandedOut {
        session,
        identity: grant.identity(),
        jti: &jti,
        until,
    };
    if let Err(sentence) = steps::on_record(monitor, event).await {
        steps::release(monitor, lease).await;
        return Err(sentence);
    }
    let handed_out = match monitor.leases.hand_out(lease).await {
        Ok(handed_out) => handed_out,
        Err(error) => {
            steps::fail(monitor, caller, session, "mint", &error).await;
            return Err(error.for_operator());
        }
    };
    if let Err(sentence) = steps::still_stands(monitor, caller, &grant, session).await {
        let own = revoke::Filter::Session(session);
        revoke::revoke(monitor, &own, "it is no longer allowed").await;
        return Err(sentence);
    }
    let expires = until.saturating_sub(EARLY).unwrap_or(until);
    Ok(zeroize::Zeroizing::new(
        json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {
                "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "token": handed_out.credential.expose(),
            },
        })
        .to_string()
            + "\n",
    ))
}
