//! stub
#![allow(missing_docs, dead_code)]
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use crate::config::Name;
use crate::mint::Credential;
use crate::recording::{OpenRecording, RecordingError};
use crate::session::SessionId;
use crate::store::RecordingStore;
#[derive(Debug, Clone)]
pub struct Gateway;
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {}
impl Gateway {
    pub fn open(_: &Path) -> Result<Gateway, GatewayError> { Ok(Self) }
    pub fn ca_pem(&self) -> &str { "" }
    pub async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, _stream: S, _session: Arc<ApiSession>, _admission: Admission) {}
}
pub enum Admission { Inside, Bearer(Arc<dyn Fn(&str) -> bool + Send + Sync>) }
pub struct ApiSession(ApiSessionParts);
impl ApiSession {
    pub fn new(parts: ApiSessionParts) -> Arc<Self> { Arc::new(Self(parts)) }
}
pub struct Upstream;
pub struct ApiSessionParts {
    pub session: SessionId, pub identity: Name, pub role: Name, pub cluster: Name,
    pub upstream: Upstream,
    pub credential: watch::Receiver<Arc<Credential>>,
    pub recording: OpenRecording, pub store: Arc<dyn RecordingStore>,
    pub over: CancellationToken,
    pub unrecorded: mpsc::Sender<RecordingError>,
}
