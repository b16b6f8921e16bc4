//! Credentials that the daemon signs itself: no request, no Secret, nothing that a crash leaves behind.
//!
//! Only what goes into a client's hands is written down, because it lives on without a session. A session's own token is
//! known to the daemon alone and ends with it: whoever ends the session has the gateway cut what is under way.

use std::sync::Arc;

use super::super::error::MintError;
use super::super::journal::{Intent, Issued, Means, Record};
use super::super::lease::{Acting, Lease};
use super::issue::Order;
use super::table::{Open, Phase};
use super::{Debt, Inner};
use crate::config::Name;
use crate::issuer::{Claims, Issuer, PREFIX, Signed};
use crate::session::SessionId;

impl Inner {
    pub(super) async fn sign(self: &Arc<Self>, order: Order) -> Result<Lease, MintError> {
        let (session, cluster) = (order.session, order.cluster.clone());
        let (issuer, audience) = self.issuer_for(&cluster)?;
        let intent = order.intent(&self.instance, issuer.url().to_owned(), self.clock.now());
        self.table().begin(intent.clone())?;
        // From here on, whatever fails leaves no lease.
        let debt = Debt::new(self, session);
        let signed = claim(&issuer, &audience, &intent, self.clock.now()).await?;
        self.table().change(session, |open| {
            open.issued = Some(issued(session, &signed));
            open.phase = Phase::InSession;
        });
        let credential = Arc::new(signed.credential);
        let now = self.clock.now();
        self.secrets
            .token(session, &credential, &signed.jti, signed.expires, now);
        Ok(Lease {
            session,
            cluster,
            acting: Acting::Credential(credential),
            jtis: vec![signed.jti],
            expires: signed.expires,
            audit_id: None,
            debt: Some(debt),
        })
    }

    pub(super) async fn sign_again(&self, lease: &mut Lease, open: &Open) -> Result<(), MintError> {
        let session = lease.session();
        let (issuer, audience) = self.issuer_for(&open.intent.cluster)?;
        let now = self.clock.now();
        let signed = claim(&issuer, &audience, &open.intent, now).await?;
        let record = issued(session, &signed);
        self.table()
            .change(session, |open| open.issued = Some(record));
        let credential = lease.refresh(signed.credential, signed.jti, signed.expires, None);
        let (jti, expires) = (lease.jti(), lease.expires());
        self.secrets.token(session, &credential, jti, expires, now);
        Ok(())
    }

    /// Everything about a signed lease that a restart has to know, in one piece: it is about to be in a client's hands.
    pub(super) fn account_of(&self, session: SessionId) -> Option<Vec<Record>> {
        let open = self.table().get(session)?;
        let issued = open.issued?;
        let until = issued.expires;
        Some(vec![
            Record::Intent(open.intent),
            Record::Issued(issued),
            Record::HandedOut { session, until },
        ])
    }

    /// Strikes out what was handed out and has expired.
    pub(super) async fn bury(&self, ended: Vec<SessionId>) {
        for session in ended {
            self.strike(session).await;
        }
    }

    /// The issuer, and whom it signs for on that cluster.
    fn issuer_for(&self, cluster: &Name) -> Result<(Arc<Issuer>, String), MintError> {
        let none = || MintError::NoIssuer {
            cluster: cluster.to_string(),
        };
        let upstream = self.upstream(cluster).ok_or_else(none)?;
        let audience = upstream.audience().ok_or_else(none)?.to_owned();
        Ok((self.issuing.issuer().ok_or_else(none)?, audience))
    }
}

async fn claim(
    issuer: &Issuer,
    audience: &str,
    intent: &Intent,
    now: jiff::Timestamp,
) -> Result<Signed, MintError> {
    let Means::Signature { groups, .. } = &intent.means else {
        return Err(MintError::Closed {
            session: intent.session,
        });
    };
    let claims = Claims {
        audience,
        identity: &intent.identity,
        // The API server puts it before each again.
        groups: groups
            .iter()
            .filter_map(|group| group.strip_prefix(PREFIX))
            .collect(),
        session: intent.session,
    };
    Ok(issuer.sign(&claims, now).await?)
}

fn issued(session: SessionId, signed: &Signed) -> Issued {
    Issued {
        session,
        jti: signed.jti.clone(),
        audit_id: None,
        expires: signed.expires,
    }
}
