//! Credentials that were handed out: their sessions have ended, and live on in them.

use serde_json::json;

use super::find::Query;
use crate::clock::to_the_second;
use crate::config::SessionKind;
use crate::mint::{LeaseState, LiveLease};

impl Query {
    /// Whether a credential that is out is looked for. It has no recording: a search for a command, for what was
    /// touched or for another state does not mean it.
    pub fn means_lease(&self, lease: &LiveLease) -> bool {
        let is = |wanted: &Option<String>, there: &str| {
            wanted.as_deref().is_none_or(|name| name == there)
        };
        let began = lease.session.opened();
        is(&self.identity, lease.identity.as_str())
            && is(&self.role, lease.role.as_str())
            && is(&self.cluster, lease.cluster.as_str())
            && self.since.is_none_or(|since| since <= began)
            && self.until.is_none_or(|until| began <= until)
            && self
                .at
                .is_none_or(|at| (began..=lease.expires).contains(&at))
            && self.means_jti(lease.jti.as_deref().unwrap_or_default())
            && is(
                &self.audit_id,
                lease.audit_id.as_deref().unwrap_or_default(),
            )
            && self.command.is_none()
            && self.touched.is_none()
            && self.state.is_none_or(|state| state == super::Status::Live)
    }
}

/// A section below the table of sessions; empty if nothing is out.
pub fn lease_table(leases: &[LiveLease]) -> String {
    if leases.is_empty() {
        return String::new();
    }
    let mut text =
        String::from("\nCredentials handed out, live until they expire or are revoked:\n");
    for lease in leases {
        text.push_str(&format!(
            "{}  {} as {} on {}, until {}{}\n",
            lease.session,
            lease.identity,
            lease.role,
            lease.cluster,
            to_the_second(lease.expires),
            match lease.state {
                LeaseState::Expiring => " (nothing ends it sooner)",
                _ => "",
            },
        ));
    }
    text
}

/// One JSON object a line, of the same shape as a recorded session's as far as there is something to say.
pub fn lease_lines(leases: &[LiveLease]) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    for lease in leases {
        let line = json!({
            "state": "live",
            "session": {
                "session": lease.session,
                "kind": SessionKind::Credential,
                "identity": lease.identity,
                "role": lease.role,
                "cluster": lease.cluster,
                "subject": lease.subject.to_string(),
            },
            "leases": [{"jti": lease.jti, "auditId": lease.audit_id, "expires": lease.expires}],
        });
        out.push_str(&serde_json::to_string(&line)?);
        out.push('\n');
    }
    Ok(out)
}
