//! Whether what API servers would read is what this issuer publishes: for `check`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::Issuer;
use crate::causes::causes;
use crate::config::IssuerSettings;
use crate::https;

/// One document.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_DOCUMENT: usize = 1 << 20;

/// Reads both documents as an API server does, from where it does, trusting whom it is told to, and holds them against the
/// keys that are here.
///
/// # Errors
///
/// What an API server would stumble over, in a sentence.
pub async fn check_published(settings: &IssuerSettings) -> Result<String, String> {
    let issuer = Issuer::open(settings).map_err(|error| error.to_string())?;
    let urls = [settings.discovery(), settings.jwks()];
    for (url, (_, ours)) in urls.iter().zip(issuer.documents().each()) {
        let read = tokio::time::timeout(PATIENCE, read(settings, url)).await;
        let theirs =
            read.map_err(|_| format!("{url}: no answer within {} s", PATIENCE.as_secs()))??;
        if theirs != *ours {
            return Err(format!(
                "{url}: what is there is not what this configuration publishes; export it again, or restart the daemon"
            ));
        }
    }
    Ok(format!(
        "{} can be read, and is of these keys",
        settings.discovery()
    ))
}

async fn read(settings: &IssuerSettings, url: &str) -> Result<Bytes, String> {
    let authority = settings.certificate_authority.clone();
    let connector = tokio::task::spawn_blocking(move || https::connector(authority.as_deref()));
    let connector = match connector.await {
        Ok(connector) => connector.map_err(|error| causes(&error))?,
        Err(_) => return Err("reading the CA failed".to_owned()),
    };
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let unreadable = |why: String| format!("{url}: {why}");
    let uri = url.parse().map_err(|_| unreadable("no URL".to_owned()))?;
    let answer = client.get(uri).await;
    let answer = answer.map_err(|error| unreadable(causes(&error)))?;
    if !answer.status().is_success() {
        return Err(unreadable(format!("answered {}", answer.status())));
    }
    match Limited::new(answer.into_body(), MAX_DOCUMENT)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(unreadable(format!("the answer broke off: {error}"))),
    }
}
