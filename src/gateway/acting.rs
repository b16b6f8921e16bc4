//! In whose name a request goes to an API server.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::status::Sorry;
use super::upstream::Upstream;
use crate::mint::Acting;

/// Adds what says who asks. On a connection that is the daemon's own, nothing ever goes without a name of somebody's.
pub(super) async fn authorize(
    upstream: &Upstream,
    acting: &Acting,
    headers: &mut HeaderMap,
) -> Result<(), Sorry> {
    let named = |name: &HeaderName| name.as_str().starts_with("impersonate-");
    if headers.keys().any(named) {
        return Err(Sorry::bad("who is asked for is not the client's to say"));
    }
    match (acting, upstream.own()) {
        (Acting::Credential(credential), None) => {
            let bearer = Zeroizing::new(format!("Bearer {}", credential.expose()));
            let mut value = HeaderValue::from_str(&bearer)
                .map_err(|_| Sorry::bad("the session's credential cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
            Ok(())
        }
        (Acting::Impersonating(who), Some(own)) => {
            let own = own.headers().await.map_err(|error| {
                tracing::warn!("{error}: does the kubeconfig's exec plugin work, is its token file there?");
                unavailable("the bastion's own credential for this cluster cannot be had; tell your administrator")
            })?;
            headers.extend(own);
            let named = who
                .headers()
                .map_err(|_| Sorry::bad("a name cannot be sent as it is"))?;
            for (name, value) in named {
                headers.append(name, value);
            }
            Ok(())
        }
        _ => Err(unavailable(
            "how credentials for this cluster come about was changed; open a new session",
        )),
    }
}

fn unavailable(message: &str) -> Sorry {
    Sorry::new(http::StatusCode::SERVICE_UNAVAILABLE, message)
}
