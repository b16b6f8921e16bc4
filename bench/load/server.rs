//! An API server as a kubeconfig names it: directly, behind the gateway, or behind `kubectl proxy`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::http::request::Builder;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where requests go.
pub(super) struct Server {
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<String>,
}

/// A connection that requests go down, one after the other.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
}

impl Server {
    /// The only server of a kubeconfig in JSON, and what its only user says of itself.
    pub(super) fn of(kubeconfig: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)
            .with_context(|| format!("reading {}", kubeconfig.display()))?;
        let config: Value = serde_json::from_str(&text)?;
        let word = |pointer: &str| config.pointer(pointer).and_then(Value::as_str);
        let url = word("/clusters/0/cluster/server").context("it names no server")?;
        let (scheme, authority) = url.split_once("://").context("its server is no URL")?;
        let host = authority.split(':').next().unwrap_or_default().to_owned();
        let tls = match scheme {
            "https" => {
                let ca = word("/clusters/0/cluster/certificate-authority-data")
                    .context("it names no CA")?;
                Some((
                    connector(&STANDARD.decode(ca)?)?,
                    ServerName::try_from(host)?,
                ))
            }
            _ => None,
        };
        Ok(Self {
            authority: authority.to_owned(),
            tls,
            authorization: word("/users/0/user/token").map(|token| format!("Bearer {token}")),
        })
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let tcp = TcpStream::connect(&self.authority).await?;
        tcp.set_nodelay(true)?;
        let sender = match &self.tls {
            Some((tls, name)) => handshake(tls.connect(name.clone(), tcp).await?).await?,
            None => handshake(tcp).await?,
        };
        Ok(Connection { sender })
    }

    /// A request that says who asks.
    pub(super) fn request(&self, path: &str) -> Builder {
        let mut request = Request::get(path)
            .header("host", &self.authority)
            .header("user-agent", "bench")
            .header("accept", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request
    }
}

impl Connection {
    pub(super) async fn ask(&mut self, request: Builder) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self
            .sender
            .send_request(request.body(Empty::new())?)
            .await?)
    }

    /// Asks for what must be there.
    pub(super) async fn get(&mut self, request: Builder) -> anyhow::Result<Response<Incoming>> {
        let response = self.ask(request).await?;
        ensure!(response.status() == 200, "answered {}", response.status());
        Ok(response)
    }
}

async fn handshake<S>(stream: S) -> anyhow::Result<SendRequest<Empty<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its end is seen by whoever waits for an answer.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

fn connector(ca: &[u8]) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.context("its CA is no PEM")?)?;
    }
    if roots.is_empty() {
        bail!("its CA is empty");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
