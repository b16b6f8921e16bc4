//! The connection to one configured cluster, made when it is first needed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::access;
use super::super::api_server::ApiServer;
use super::super::endpoint::Endpoint;
use super::super::error::MintError;
use super::super::own_token;
use super::super::stamps::Stamps;
use crate::clock::monotonic;
use crate::config::{Cluster, ClusterAccess, Mint, Name};
use crate::gateway;

const WARM_LIMIT: Duration = Duration::from_secs(5);
/// Between two tries to renew the daemon's own token.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Upstream {
    cluster: Name,
    access: ClusterAccess,
    mint: Mint,
    built: Mutex<Option<Built>>,
    /// The gateway's way there: sessions hold it for as long as they are open.
    gateway: Mutex<Option<gateway::Upstream>>,
    /// That of the one in whose place this is: open sessions hold it.
    former: Option<gateway::Upstream>,
    /// One looks after files at a time; from then on may be tried what failed.
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    /// Moved into the building task: an exec plugin that hangs is started once, not at every login.
    building: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Built {
    api: Arc<ApiServer>,
    endpoint: Option<Endpoint>,
    digest: Option<[u8; 32]>,
    files: Stamps,
}

impl Upstream {
    pub(super) fn new(cluster: Name, access: ClusterAccess, mint: Mint) -> Self {
        Self {
            cluster,
            access,
            mint,
            built: Mutex::default(),
            gateway: Mutex::default(),
            former: None,
            refreshing: tokio::sync::Mutex::default(),
            building: Arc::default(),
        }
    }

    /// One that takes the place of another. If it leads to the same API server, sessions that are open go there by what this one reads.
    pub(super) fn in_place_of(former: &Self, access: ClusterAccess, mint: Mint) -> Self {
        let way = former.gateway().or_else(|| former.former.clone());
        Self {
            former: way.filter(|_| former.mint == mint),
            ..Self::new(former.cluster.clone(), access, mint)
        }
    }

    /// With a connection of one's own.
    #[cfg(test)]
    pub(super) fn with_api(cluster: Name, access: ClusterAccess, api: ApiServer) -> Self {
        let upstream = Self::new(cluster, access, Mint::TokenRequest);
        *upstream.lock() = Some(Built {
            api: Arc::new(api),
            endpoint: None,
            digest: None,
            files: Stamps::default(),
        });
        upstream
    }

    pub(super) fn cluster(&self) -> &Name {
        &self.cluster
    }

    /// Whom tokens for it are signed for, if we sign them.
    pub(super) fn audience(&self) -> Option<&str> {
        match &self.mint {
            Mint::OidcIssuer { audience } => Some(audience),
            Mint::TokenRequest | Mint::Impersonation(_) => None,
        }
    }

    pub(super) fn mint(&self) -> &Mint {
        &self.mint
    }

    /// Whether it is what the configuration says now.
    pub(super) fn is_current(&self, cluster: &Cluster) -> bool {
        let access = &cluster.access;
        (&self.access, &self.mint) == (access, &cluster.mint)
            && self
                .lock()
                .as_ref()
                .is_none_or(|built| built.digest == access::digest(access))
    }

    pub(super) fn built(&self) -> Option<Arc<ApiServer>> {
        self.lock().as_ref().map(|built| built.api.clone())
    }

    /// Where clients find it, once there is a connection.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.lock().as_ref()?.endpoint.clone()
    }

    /// The gateway's way there, once there is a connection.
    pub(super) fn gateway(&self) -> Option<gateway::Upstream> {
        let gateway = self.gateway.lock();
        gateway.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credential again when it is next needed.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    pub(super) async fn api(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Arc<ApiServer>, MintError> {
        if let Some(api) = self.built() {
            return Ok(api);
        }
        let building = tokio::spawn(self.clone().build());
        match tokio::time::timeout_at(deadline, building).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(MintError::Access {
                cluster: self.cluster.to_string(),
                reason: "reading the daemon's own credential took too long: does the kubeconfig's exec plugin work?"
                    .to_owned(),
            }),
        }
    }

    /// Makes the connection before it is needed, and keeps it from being closed as idle.
    pub(super) async fn warm(self: Arc<Self>) {
        let deadline = monotonic() + WARM_LIMIT;
        let warmed = match self.api(deadline).await {
            Ok(api) => api.warm(deadline).await,
            Err(error) => Err(error),
        };
        if let Err(error) = warmed {
            // Whoever needs the cluster is told; this is no more than an early sign.
            tracing::debug!(cluster = %self.cluster, %error, "no connection in advance");
        }
    }

    /// Renews the daemon's own token where nobody else does, and takes up files that were replaced: a token, an authority's next
    /// certificate. What is open stays open, and connections that are made from now on know what is new. What cannot be read
    /// changes nothing.
    pub(super) async fn refresh(self: Arc<Self>, now: Timestamp) {
        let Ok(mut again_at) = self.refreshing.try_lock() else {
            return;
        };
        self.renew(now, &mut again_at).await;
        self.read_again().await;
    }

    /// The daemon's own token, where it is ours to renew.
    async fn renew(&self, now: Timestamp, again_at: &mut Option<Instant>) {
        let (ClusterAccess::Server(server), Some(api)) = (&self.access, self.built()) else {
            return;
        };
        let path = server.token_file.as_ref().filter(|_| server.renew_token);
        let (Some(path), false) = (path, again_at.is_some_and(|at| monotonic() < at)) else {
            return;
        };
        match own_token::renew(path, &api, now).await {
            Ok(renewed) => {
                *again_at = None;
                if renewed {
                    tracing::info!(cluster = %self.cluster, "the daemon's own token was renewed");
                }
            }
            Err(error) => {
                *again_at = Some(monotonic() + RENEW_AGAIN);
                tracing::error!("cluster {}: {error}", self.cluster);
            }
        }
    }

    async fn read_again(&self) {
        let Some(known) = self.lock().as_ref().map(|built| built.files.clone()) else {
            return;
        };
        let look = known.clone();
        let now = match tokio::task::spawn_blocking(move || look.now()).await {
            Ok(now) if now != known => now,
            _ => return,
        };
        // Whoever builds reads them anyway.
        let Ok(_alone) = self.building.clone().try_lock_owned() else {
            return;
        };
        match self.load().await {
            Ok((fresh, _)) => {
                let mut place = self.lock();
                match place.as_mut() {
                    Some(built) if built.api.server() == fresh.api.server() => {
                        *built = fresh;
                        tracing::info!(cluster = %self.cluster, "the daemon's own credential, or the cluster's authority, was taken up anew");
                    }
                    // Leases are out on this one.
                    Some(built) => {
                        built.files = now;
                        tracing::warn!(cluster = %self.cluster, "the kubeconfig leads to another API server now, which a reload of the configuration takes up");
                    }
                    None => {}
                }
            }
            Err(error) => {
                tracing::warn!("{error}; what was read before is used on");
                if let Some(built) = self.lock().as_mut() {
                    built.files = now;
                }
            }
        }
    }

    async fn build(self: Arc<Self>) -> Result<Arc<ApiServer>, MintError> {
        let _alone = self.building.clone().lock_owned().await;
        if let Some(api) = self.built() {
            return Ok(api);
        }
        let (built, gateway) = self.load().await?;
        let api = built.api.clone();
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = Some(gateway);
        *self.lock() = Some(built);
        Ok(api)
    }

    /// With the gateway's way, which is the present one wherever it leads to the same place.
    async fn load(&self) -> Result<(Built, gateway::Upstream), MintError> {
        let unusable = |reason: String| MintError::Access {
            cluster: self.cluster.to_string(),
            reason,
        };
        let access = access::load(&self.access).await;
        let access = access.map_err(|error| unusable(error.to_string()))?;
        let endpoint = Some(Endpoint::of(&access.config));
        let former = self.gateway().or_else(|| self.former.clone());
        let acts = matches!(self.mint, Mint::Impersonation(_));
        let config = access.config.clone();
        // It may run a plugin.
        let way = tokio::task::spawn_blocking(move || match former {
            Some(former) if former.leads_to(&config) => former.replace(&config).map(|()| former),
            _ if acts => gateway::Upstream::of_the_daemon(&config),
            _ => gateway::Upstream::new(&config),
        });
        let gateway = match way.await {
            Ok(way) => way.map_err(|error| unusable(error.to_string()))?,
            Err(_) => {
                return Err(unusable(
                    "reading the daemon's own credential failed".to_owned(),
                ));
            }
        };
        let api = ApiServer::connect(self.cluster.as_str(), access.config).await?;
        let built = Built {
            api: Arc::new(api),
            endpoint,
            digest: access.digest,
            files: access.files,
        };
        Ok((built, gateway))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Built>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a kubeconfig for a server whose authority is a new one each time.
    fn kubeconfig(directory: &Path, server: &str) -> ClusterAccess {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        put(&directory.join("ca.crt"), &made.cert.pem());
        put(&directory.join("token"), "t0ps3cret");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"{server}\", certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{tokenFile: token}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        let path = directory.join("kubeconfig");
        put(&path, &text);
        ClusterAccess::Kubeconfig(path)
    }

    /// A reload that comes with a new file, before the file alone was looked at.
    #[tokio::test]
    async fn what_takes_anothers_place_is_where_open_sessions_go() {
        let directory = tempfile::tempdir().unwrap();
        let access = kubeconfig(directory.path(), "https://127.0.0.1:6443");
        let name = Name::new("prod").unwrap();
        let first = Upstream::new(name, access.clone(), Mint::TokenRequest);
        let (_, held) = first.load().await.unwrap();
        *first.gateway.lock().unwrap() = Some(held.clone());
        let before = held.way_now();

        kubeconfig(directory.path(), "https://127.0.0.1:6443");
        let second = Upstream::in_place_of(&first, access.clone(), Mint::TokenRequest);
        assert!(
            second.gateway().is_none(),
            "nothing is there until it is read"
        );
        let (_, new) = second.load().await.unwrap();
        assert!(new.is(&held));
        assert_ne!(held.way_now(), before, "by the new authority");

        // Elsewhere, or by other means, it is another way.
        kubeconfig(directory.path(), "https://127.0.0.1:7443");
        let elsewhere = Upstream::in_place_of(&first, access.clone(), Mint::TokenRequest);
        assert!(!elsewhere.load().await.unwrap().1.is(&held));
        kubeconfig(directory.path(), "https://127.0.0.1:6443");
        let audience = "a".to_owned();
        let signed = Upstream::in_place_of(&first, access, Mint::OidcIssuer { audience });
        assert!(!signed.load().await.unwrap().1.is(&held));
    }
}
