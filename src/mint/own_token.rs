//! The daemon's own token, where nobody else renews it: it asks for the next one while the present one is good.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use zeroize::Zeroizing;

use super::access::{AccessError, read_token};
use super::api_server::{ApiServer, Call};
use super::error::MintError;
use crate::clock::monotonic;
use crate::replaced;

const RENEWING: &str = "renewing the daemon's own token";
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// What an API server gives at least.
const SHORTEST: i64 = 600;

/// Why the daemon's own token is not renewed. It is good until it expires.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewalError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{path}: {why}, so it cannot be renewed: renewToken is for a ServiceAccount's token")]
    Unfit { path: PathBuf, why: &'static str },
    #[error("renewing the daemon's own token was given up")]
    GivenUp,
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error("{path}: the next token cannot be written: {source}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// What a token says of itself (RFC 7519, 4.1). That it is true is the API server's to check.
#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
    iat: i64,
    exp: i64,
}

/// Puts the next token into the file if two thirds of the present one's life are over. Whether it did.
pub(super) async fn renew(
    path: &Path,
    api: &ApiServer,
    now: Timestamp,
) -> Result<bool, RenewalError> {
    let file = path.to_owned();
    let claims = aside(move || claims(&file, read_token(&file)?)).await?;
    let life = claims.exp.saturating_sub(claims.iat);
    if now.as_second() < claims.iat.saturating_add(life / 3 * 2) {
        return Ok(false);
    }
    let unfit = |why| RenewalError::Unfit {
        path: path.to_owned(),
        why,
    };
    let account = claims.sub.strip_prefix("system:serviceaccount:");
    let (namespace, name) = account
        .and_then(|account| account.split_once(':'))
        .filter(|(namespace, name)| is_plain(namespace) && is_plain(name))
        .ok_or_else(|| unfit("it is no ServiceAccount's"))?;
    let call_path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let asked = TokenRequest {
        // As long as whoever made the first one gave it.
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(life.max(SHORTEST)),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let call = Call {
        doing: RENEWING,
        method: Method::POST,
        path: &call_path,
        body: serde_json::to_vec(&asked)
            .map(Bytes::from)
            .unwrap_or_default(),
        session: None,
        acting: None,
    };
    let (answer, _) = api
        .ask_again(&call, monotonic() + ANSWER_LIMIT)
        .await
        .map_err(MintError::from)?;
    let answered: TokenRequest = api.parse(RENEWING, &answer)?;
    let token = answered.status.and_then(|status| status.token);
    let token = Zeroizing::new(token.unwrap_or_default());
    if token.is_empty() {
        return Err(api
            .bad_answer(RENEWING, "it has no token".to_owned())
            .into());
    }
    let path = path.to_owned();
    aside(move || match replaced::write(&path, token.as_bytes()) {
        Ok(()) => Ok(true),
        Err(source) => Err(RenewalError::Write { path, source }),
    })
    .await
}

/// Where a disk that hangs holds up nobody.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RenewalError> + Send + 'static,
) -> Result<T, RenewalError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(RenewalError::GivenUp),
    }
}

fn claims(path: &Path, token: Zeroizing<String>) -> Result<Claims, RenewalError> {
    let payload = token.split('.').nth(1).unwrap_or_default();
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()
        .map(Zeroizing::new)
        .and_then(|payload| serde_json::from_slice(&payload).ok())
        .ok_or_else(|| RenewalError::Unfit {
            path: path.to_owned(),
            why: "it does not say whose it is and how long it lives",
        })
}

/// What may become part of a URL's path.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::super::testing::{Reply, api_server, jwt, refusal};
    use super::*;

    const OWN: &str = "/api/v1/namespaces/bastion-audit/serviceaccounts/bastion/token";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn file(directory: &Path, sub: &str) -> PathBuf {
        let path = directory.join("token");
        let token = jwt(&json!({"sub": sub, "iat": 10_000, "exp": 13_600}));
        std::fs::write(&path, format!("{token}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[tokio::test]
    async fn the_next_token_is_there_before_the_present_one_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(
            directory.path(),
            "system:serviceaccount:bastion-audit:bastion",
        );
        let (api, log) = api_server(|_| {
            let status = json!({"token": "next", "expirationTimestamp": "2030-01-01T00:00:00Z"});
            Reply::Json(201, json!({"spec": {"audiences": []}, "status": status}))
        });
        assert!(!renew(&path, &api, at(12_399)).await.unwrap());
        assert!(log.lock().unwrap().is_empty());
        assert!(renew(&path, &api, at(12_400)).await.unwrap());
        assert_eq!(read_token(&path).unwrap().as_str(), "next");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let log = log.lock().unwrap();
        assert_eq!(log[0].path, OWN);
        assert_eq!(log[0].body["spec"]["expirationSeconds"], 3600);
    }

    #[tokio::test]
    async fn what_cannot_be_renewed_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (api, log) = api_server(|_| refusal(403, "Forbidden"));
        for sub in [
            "operator-a",
            "system:serviceaccount:a:../b",
            "system:serviceaccount:a",
        ] {
            let path = file(directory.path(), sub);
            let error = renew(&path, &api, at(13_000)).await.unwrap_err();
            assert!(error.to_string().contains("no ServiceAccount's"), "{error}");
        }
        assert!(log.lock().unwrap().is_empty());
        let path = file(
            directory.path(),
            "system:serviceaccount:bastion-audit:bastion",
        );
        let before = std::fs::read(&path).unwrap();
        let error = renew(&path, &api, at(13_000)).await.unwrap_err();
        assert!(error.to_string().contains("(403)"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
