//! The connection to one configured cluster, made when it is first needed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::access;
use super::super::api_server::ApiServer;
use super::super::endpoint::Endpoint;
use super::super::error::MintError;
use crate::config::{Cluster, ClusterAccess, Mint, Name};
use crate::gateway;

const WARM_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Upstream {
    cluster: Name,
    access: ClusterAccess,
    mint: Mint,
    built: Mutex<Option<Built>>,
    /// Moved into the building task: an exec plugin that hangs is started once, not at every login.
    building: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Built {
    api: Arc<ApiServer>,
    endpoint: Option<Endpoint>,
    gateway: Option<gateway::Upstream>,
    digest: Option<[u8; 32]>,
}

impl Upstream {
    pub(super) fn new(cluster: Name, access: ClusterAccess, mint: Mint) -> Self {
        Self {
            cluster,
            access,
            mint,
            built: Mutex::default(),
            building: Arc::default(),
        }
    }

    /// With a connection of one's own.
    #[cfg(test)]
    pub(super) fn with_api(cluster: Name, access: ClusterAccess, api: ApiServer) -> Self {
        let upstream = Self::new(cluster, access, Mint::TokenRequest);
        *upstream.lock() = Some(Built {
            api: Arc::new(api),
            endpoint: None,
            gateway: None,
            digest: None,
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
            Mint::TokenRequest => None,
        }
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
        self.lock().as_ref()?.gateway.clone()
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
        let deadline = crate::clock::monotonic() + WARM_LIMIT;
        let warmed = match self.api(deadline).await {
            Ok(api) => api.warm(deadline).await,
            Err(error) => Err(error),
        };
        if let Err(error) = warmed {
            // Whoever needs the cluster is told; this is no more than an early sign.
            tracing::debug!(cluster = %self.cluster, %error, "no connection in advance");
        }
    }

    async fn build(self: Arc<Self>) -> Result<Arc<ApiServer>, MintError> {
        let _alone = self.building.clone().lock_owned().await;
        if let Some(api) = self.built() {
            return Ok(api);
        }
        let cluster = self.cluster.as_str();
        let access = access::load(&self.access)
            .await
            .map_err(|error| MintError::Access {
                cluster: cluster.to_owned(),
                reason: error.to_string(),
            })?;
        let endpoint = Some(Endpoint::of(&access.config));
        let gateway =
            gateway::Upstream::new(&access.config).map_err(|error| MintError::Access {
                cluster: cluster.to_owned(),
                reason: error.to_string(),
            })?;
        let api = Arc::new(ApiServer::connect(cluster, access.config).await?);
        *self.lock() = Some(Built {
            api: api.clone(),
            endpoint,
            gateway: Some(gateway),
            digest: access.digest,
        });
        Ok(api)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Built>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
