//! All leases of the daemon, on all its clusters.

mod act;
mod handed_out;
mod issue;
mod janitor;
mod sign;
mod table;
mod upstream;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Minter;
use super::api_server::ApiServer;
use super::endpoint::Endpoint;
use super::error::MintError;
use super::journal::{Found, Journal, JournalError, Record};
use super::lease::{Acting, Lease, Release};
use crate::clock::{Clock, monotonic};
use crate::config::{Config, Name};
use crate::gateway;
use crate::issuer::Issuing;
use crate::policy::{Grant, KubernetesSubject};
use crate::recording::Secrets;
use crate::session::SessionId;
use crate::store::room::Room;

pub use handed_out::{Filter, HandedOut, LeaseState, LiveLease, Revoked};
pub use table::{Orphan, Recovered};

use issue::Order;
use table::{Phase, Table};
use upstream::Upstream;

/// A whole mint. The operator is promised an answer within 10 s; the rest is for the session's own steps.
const MINT_LIMIT: Duration = Duration::from_secs(8);

/// One deletion, a session's end waits no longer.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Mints, renews and takes back, and remembers on disk what is out.
///
/// Dropping it stops the background work at once; what is not taken back by then is in the journal.
#[derive(Debug)]
pub struct Leases {
    inner: Arc<Inner>,
    janitor: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    instance: Name,
    journal: Journal,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    issuing: Issuing,
    table: Mutex<Table>,
    upstreams: Mutex<Upstreams>,
    /// Something is due: the janitor's bell.
    bell: Notify,
}

/// A connection for each configured cluster, and former ones that open leases need.
#[derive(Debug, Default)]
struct Upstreams {
    present: BTreeMap<Name, Arc<Upstream>>,
    retired: Vec<Arc<Upstream>>,
}

impl Leases {
    /// Opens the journal in `state_dir`, which must exist, and takes up what an earlier life left: what was handed out
    /// stays live, everything else is deleted as soon as [`Leases::update`] says where its cluster is. `instance` is
    /// in the name of each Secret. What finds no space gets some of `room`. Needs a tokio runtime.
    pub fn open(
        state_dir: &Path,
        instance: Name,
        clock: Arc<dyn Clock>,
        room: Room,
    ) -> Result<Self, JournalError> {
        let (journal, found) = Journal::open(state_dir, room)?;
        Ok(Self::start(journal, found, instance, clock))
    }

    fn start(journal: Journal, found: Found, instance: Name, clock: Arc<dyn Clock>) -> Self {
        let table = Table::restore(found, clock.now());
        let inner = Arc::new(Inner {
            instance,
            journal,
            clock,
            secrets: Secrets::default(),
            issuing: Issuing::default(),
            table: Mutex::new(table),
            upstreams: Mutex::default(),
            bell: Notify::new(),
        });
        let janitor = AbortOnDropHandle::new(tokio::spawn(janitor::run(inner.clone())));
        Self { inner, janitor }
    }

    /// Every token that is out, for as long as it is: none of them gets into a recording. Those that an earlier life of
    /// the daemon handed out are not among them, because the daemon keeps none on disk.
    pub fn secrets(&self) -> &Secrets {
        &self.inner.secrets
    }

    /// Who signs, on clusters that mint so.
    pub fn issuing(&self) -> &Issuing {
        &self.inner.issuing
    }

    /// What was found on opening.
    pub fn recovered(&self) -> Recovered {
        self.inner.table().recovered.clone()
    }

    /// Takes a configuration over. Clusters that did not change keep their connections; leases on those that did (or
    /// are gone) can still be renewed and released. No cluster needs to be up.
    pub fn update(&self, config: &Config) {
        self.inner.update(config);
        self.inner.bell.notify_one();
    }

    /// What the journal holds for clusters that are not configured: it stays there until they are again.
    pub fn orphans(&self) -> Vec<Orphan> {
        let configured = self.inner.upstreams();
        self.inner.table().orphans(|cluster| {
            configured.present.contains_key(cluster)
                || configured.retired.iter().any(|u| u.cluster() == cluster)
        })
    }

    /// Stops the background work and closes the journal. What was not taken back by then is in it, for the next start.
    pub async fn close(self) {
        let Self { inner, janitor } = self;
        janitor.abort();
        // Cancelled, as it was asked to be.
        drop(janitor.await);
        let deadline = monotonic() + RELEASE_LIMIT;
        while Arc::strong_count(&inner) > 1 && monotonic() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where clients of a cluster find its API server.
    pub async fn endpoint(&self, cluster: &Name) -> Result<Endpoint, MintError> {
        let not_configured = || MintError::NotConfigured {
            cluster: cluster.to_string(),
        };
        let upstream = self.inner.upstream(cluster).ok_or_else(not_configured)?;
        upstream.api(monotonic() + RELEASE_LIMIT).await?;
        upstream.endpoint().ok_or_else(not_configured)
    }

    /// The gateway's way to a cluster, shared by all its sessions.
    pub async fn upstream(&self, cluster: &Name) -> Result<gateway::Upstream, MintError> {
        let not_configured = || MintError::NotConfigured {
            cluster: cluster.to_string(),
        };
        let upstream = self.inner.upstream(cluster).ok_or_else(not_configured)?;
        upstream.api(monotonic() + RELEASE_LIMIT).await?;
        upstream.gateway().ok_or_else(not_configured)
    }

    /// Waits until nothing is left to be taken back, at most for `limit`. Answers how many leases are.
    pub async fn settle(&self, limit: Duration) -> usize {
        let deadline = monotonic() + limit;
        loop {
            let left = self.inner.table().due_count();
            if left == 0 || monotonic() >= deadline {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[async_trait]
impl Minter for Leases {
    async fn mint(&self, grant: &Grant, session: SessionId) -> Result<Lease, MintError> {
        if let Some(lease) = self.inner.act_for(grant, session)? {
            return Ok(lease);
        }
        let order = Order::new(grant, session)?;
        if let KubernetesSubject::Own { .. } = &order.subject {
            return self.inner.sign(order).await;
        }
        // On a task of its own: a caller that goes away halfway must not stop it between a request and its answer.
        match tokio::spawn(self.inner.clone().mint(order)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(MintError::Closed { session }),
        }
    }

    async fn renew(&self, lease: &mut Lease) -> Result<(), MintError> {
        if let Acting::Impersonating(_) = lease.acting() {
            return Ok(());
        }
        self.inner.renew(lease).await
    }

    async fn release(&self, mut lease: Lease) -> Release {
        let (session, expires) = (lease.session(), lease.expires());
        if let Acting::Impersonating(_) = lease.acting() {
            // Nobody but the gateway had anything of it.
            return Release::Released;
        }
        let Some(debt) = lease.debt.take() else {
            return Release::ExpiresAt(expires);
        };
        // What we signed nothing recalls: dropping the debt forgets it.
        let recalled = !self.inner.is_signed(session) && self.inner.release(session).await;
        if recalled {
            debt.settle();
            Release::Released
        } else {
            // Dropping the debt puts it on the janitor's list.
            Release::ExpiresAt(expires)
        }
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn upstreams(&self) -> MutexGuard<'_, Upstreams> {
        self.upstreams
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn update(&self, config: &Config) {
        if let Err(error) = self.issuing.update(config.bastion.issuer.as_ref()) {
            tracing::error!("the issuer stays what it was: {error}");
        }
        let mut upstreams = self.upstreams();
        let mut former = std::mem::take(&mut upstreams.present);
        for (name, cluster) in &config.clusters {
            let kept = former
                .get(name)
                .is_some_and(|upstream| upstream.is_current(cluster));
            let upstream = match former.remove(name) {
                Some(upstream) if kept => upstream,
                changed => {
                    let (access, mint) = (cluster.access.clone(), cluster.mint.clone());
                    let new = match &changed {
                        Some(former) => Upstream::in_place_of(former, access, mint),
                        None => Upstream::new(name.clone(), access, mint),
                    };
                    upstreams.retired.extend(changed);
                    Arc::new(new)
                }
            };
            upstreams.present.insert(name.clone(), upstream);
        }
        upstreams.retired.extend(former.into_values());
        let table = self.table();
        upstreams.retired.retain(|upstream| {
            upstream
                .built()
                .is_some_and(|api| table.needs(upstream.cluster(), api.server()))
        });
    }

    fn is_signed(&self, session: SessionId) -> bool {
        let open = self.table().get(session);
        open.is_some_and(|open| open.intent.is_signed())
    }

    fn upstream(&self, cluster: &Name) -> Option<Arc<Upstream>> {
        self.upstreams().present.get(cluster).cloned()
    }

    /// The connection for a lease that is out: the API server that issued it, if there is still a way to that one.
    async fn api_for(
        &self,
        cluster: &Name,
        server: &str,
        deadline: tokio::time::Instant,
    ) -> Result<Arc<ApiServer>, MintError> {
        let present = match self.upstream(cluster) {
            Some(upstream) => upstream.api(deadline).await,
            None => Err(MintError::NotConfigured {
                cluster: cluster.to_string(),
            }),
        };
        if let Ok(api) = &present
            && api.server() == server
        {
            return present;
        }
        let retired = self
            .upstreams()
            .retired
            .iter()
            .filter(|upstream| upstream.cluster() == cluster)
            .find_map(|upstream| upstream.built().filter(|api| api.server() == server));
        retired.map_or(present, Ok)
    }

    /// Deletes the Secret of a session now. Answers whether it is surely gone.
    async fn release(&self, session: SessionId) -> bool {
        let deadline = monotonic() + RELEASE_LIMIT;
        self.table().set_phase(session, Phase::Leaving);
        match self.delete(session, deadline).await {
            Ok(gone) => gone,
            Err(error) => {
                tracing::warn!(%session, %error, "a lease could not be released yet; it will be tried again");
                false
            }
        }
    }

    /// Deletes the Secret and strikes the lease out. `Ok(false)`: there is none, but there may be one yet.
    async fn delete(
        &self,
        session: SessionId,
        deadline: tokio::time::Instant,
    ) -> Result<bool, MintError> {
        let Some(entry) = self.table().get(session) else {
            return Ok(true);
        };
        let Some(secret) = entry.secret() else {
            return Ok(false);
        };
        let api = self
            .api_for(&entry.intent.cluster, &entry.intent.server, deadline)
            .await?;
        let deleted = match secret.delete(&api, deadline).await {
            Err(error) => {
                self.note(&entry.intent.cluster, &error);
                return Err(error);
            }
            Ok(deleted) => deleted,
        };
        let same_server = api.server() == entry.intent.server;
        if !deleted && !entry.absence_is_proof(same_server, self.clock.now()) {
            return Ok(false);
        }
        self.strike(session).await;
        Ok(true)
    }

    /// The Secret is gone, or never was. If that cannot be written down, a restart looks once more: no harm.
    async fn strike(&self, session: SessionId) {
        let record = Record::Released { session };
        let limit = monotonic() + RELEASE_LIMIT;
        if let Err(error) = self.journal.record_by(record, limit).await {
            tracing::warn!(%session, %error, "a released lease could not be struck out of the journal");
        }
        self.table().remove(session);
        self.secrets.forget(session);
    }

    /// The daemon's own credential may have been replaced on disk.
    fn note(&self, cluster: &Name, error: &MintError) {
        if matches!(
            error,
            MintError::Unauthorized { .. } | MintError::Tls { .. }
        ) && let Some(upstream) = self.upstream(cluster)
        {
            upstream.forget();
        }
    }
}

/// What is owed to a cluster: a Secret that must go. However it is dropped, the Secret goes; only [`Debt::settle`]
/// ends it. Of what we signed nothing is owed: it is forgotten.
#[derive(Debug)]
pub(super) struct Debt {
    inner: Weak<Inner>,
    session: SessionId,
}

impl Debt {
    fn new(inner: &Arc<Inner>, session: SessionId) -> Self {
        Self {
            inner: Arc::downgrade(inner),
            session,
        }
    }

    fn settle(mut self) {
        self.inner = Weak::new();
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            if inner.table().abandon(self.session) {
                inner.bell.notify_one();
            } else {
                inner.secrets.forget(self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests;
