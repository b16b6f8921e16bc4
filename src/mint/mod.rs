//! From a grant to a short-lived credential, and back.
//!
//! A session sees a [`Minter`]: it mints, renews and releases. [`Leases`] is the one that the daemon
//! uses: it knows a connection for each configured cluster and keeps a journal, so that whatever ends
//! a session (or the daemon) nothing stays behind:
//!
//! ```text
//! intent, synced -> Secret -> token bound to it -> issued, synced -> Lease -> Secret deleted -> released
//! ```
//!
//! The Secret is empty. Its existence is what keeps the token valid; its deletion is the revocation.
//!
//! On clusters of [`Mint::OidcIssuer`](crate::config::Mint::OidcIssuer) there is neither request nor Secret: the daemon signs. On those of
//! [`Mint::Impersonation`](crate::config::Mint::Impersonation) there is no credential either: the gateway asks in the operator's name.

mod access;
mod api_server;
pub mod check;
mod endpoint;
mod error;
mod journal;
mod lease;
mod leases;
mod own_token;
mod stamps;
mod token_request;

#[cfg(test)]
mod testing;

use async_trait::async_trait;

use crate::policy::Grant;
use crate::session::SessionId;

pub use endpoint::Endpoint;
pub use error::MintError;
pub use journal::JournalError;
pub use lease::{Acting, Credential, Impersonated, Lease, Release};
pub use leases::{Filter, HandedOut, LeaseState, Leases, LiveLease, Orphan, Recovered, Revoked};

/// Makes and takes back credentials.
#[async_trait]
pub trait Minter: Send + Sync + std::fmt::Debug {
    /// Issues a credential for one session. Answers within 10 s, one way or the other.
    async fn mint(&self, grant: &Grant, session: SessionId) -> Result<Lease, MintError>;
    /// Puts a fresh token into an open lease. On an error the old one stays.
    async fn renew(&self, lease: &mut Lease) -> Result<(), MintError>;
    /// Takes it back, within 5 s; what fails then goes on in the background.
    async fn release(&self, lease: Lease) -> Release;
}
