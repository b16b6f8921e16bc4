//! Where the daemon asks in somebody's name: there is nothing to be made, kept or taken back. Who may be named is bounded by what
//! RBAC there lists for the daemon; that a session is over is in the gateway's hands alone.

use std::sync::Arc;

use super::super::error::MintError;
use super::super::lease::{Acting, Impersonated, Lease};
use super::Inner;
use crate::config::Mint;
use crate::policy::{Grant, KubernetesSubject};
use crate::session::SessionId;

impl Inner {
    /// A lease that lasts as long as its session. Its id is the session's: the API server's audit log has it as an extra of
    /// the impersonated user.
    pub(super) fn act_for(
        &self,
        grant: &Grant,
        session: SessionId,
    ) -> Result<Option<Lease>, MintError> {
        let KubernetesSubject::Impersonated { username, groups } = grant.subject() else {
            return Ok(None);
        };
        let cluster = grant.cluster().clone();
        let acts = self
            .upstream(&cluster)
            .is_some_and(|upstream| matches!(upstream.mint(), Mint::Impersonation(_)));
        if !acts {
            return Err(MintError::OtherMint {
                cluster: cluster.to_string(),
            });
        }
        let named = Impersonated::new(username.clone(), groups.clone(), session);
        let named = named.ok_or_else(|| MintError::KubernetesOwn {
            username: username.clone(),
        })?;
        Ok(Some(Lease {
            session,
            cluster,
            acting: Acting::Impersonating(Arc::new(named)),
            jtis: vec![session.to_string()],
            expires: grant.ends(),
            audit_id: None,
            debt: None,
        }))
    }
}
