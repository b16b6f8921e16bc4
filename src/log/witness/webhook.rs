//! A server that keeps checkpoints: each is posted to it.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use zeroize::Zeroizing;

use super::WitnessError;
use super::places::in_background;
use crate::causes::causes;
use crate::config::secrets::read_secret;
use crate::https;

/// One request with its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// `spec.log.witness.webhook`.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `https://`, or `http://` on loopback. Path and query may be what lets somebody in, so only its server is ever shown.
    pub url: http::Uri,
    /// The CAs that may vouch for it, PEM; the system's where there is none. Read again each time.
    pub ca_file: Option<PathBuf>,
    /// A file with a bearer token. Read again each time.
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &self.server())
            .field("ca_file", &self.ca_file)
            .field("token_file", &self.token_file)
            .finish()
    }
}

impl Webhook {
    fn server(&self) -> String {
        let scheme = self.url.scheme_str().unwrap_or_default();
        let server = self.url.authority().map_or("", |it| it.as_str());
        format!("{scheme}://{server}")
    }

    fn is_plain(&self) -> bool {
        self.url.scheme_str() != Some("https")
    }
}

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Posts to one.
#[derive(Clone)]
pub(super) struct Caller {
    webhook: Webhook,
    patience: Duration,
}

impl Caller {
    pub(super) fn new(webhook: Webhook) -> Self {
        Self {
            webhook,
            patience: PATIENCE,
        }
    }

    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The server, for messages.
    pub(super) fn server(&self) -> String {
        self.webhook.server()
    }

    /// Has a checkpoint kept. Only 2xx says that it was; nothing of the answer is read but its status, and no redirect is
    /// followed: the token is for this server.
    pub(super) async fn post(&self, note: &str) -> Result<(), WitnessError> {
        let (caller, note) = (self.clone(), note.to_owned());
        let ready = in_background(move || Ok((caller.client()?, caller.request(&note)?)));
        let exchange = async {
            let (client, request) = ready.await?;
            client
                .request(request)
                .await
                .map_err(|error| WitnessError::Unreachable {
                    server: self.server(),
                    reason: causes(&error),
                })
        };
        let answer = tokio::time::timeout(self.patience, exchange)
            .await
            .map_err(|_| WitnessError::Late {
                server: self.server(),
                after: self.patience,
            })??;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(WitnessError::Refused {
                server: self.server(),
                status,
            }),
        }
    }

    /// Made anew each time, once a minute or so: a CA that was renewed is trusted at once. Blocks.
    pub(super) fn client(&self) -> Result<Https, WitnessError> {
        let connector = https::connector(self.webhook.ca_file.as_deref())?;
        Ok(Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector))
    }

    /// Blocks.
    pub(super) fn request(&self, note: &str) -> Result<Request<Full<Bytes>>, WitnessError> {
        let url = &self.webhook.url;
        if self.webhook.is_plain() && !url.host().is_some_and(https::is_loopback) {
            return Err(WitnessError::Plain {
                server: self.server(),
            });
        }
        let mut request = Request::post(url)
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(
                USER_AGENT,
                concat!("bastion-audit/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(authorization) = self.authorization()? {
            request = request.header(AUTHORIZATION, authorization);
        }
        request
            .body(Full::from(note.to_owned()))
            .map_err(WitnessError::Url)
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, WitnessError> {
        let Some(path) = &self.webhook.token_file else {
            return Ok(None);
        };
        let bytes = read_secret(path)?;
        let token = bytes.trim_ascii();
        let no_token = || WitnessError::NoToken { path: path.clone() };
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err(no_token());
        }
        let bearer = Zeroizing::new([b"Bearer ", token].concat());
        let mut value = HeaderValue::from_bytes(&bearer).map_err(|_| no_token())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
