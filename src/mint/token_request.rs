//! The TokenRequest API: a token that lives as long as a Secret of its own, and no longer.

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::api_server::{Answer, ApiServer, Call, NoAnswer, Tries};
use super::error::MintError;
use super::journal::{Intent, Means};
use super::lease::Credential;
use crate::config::CredentialTtl;
use crate::session::SessionId;

const CREATING: &str = "creating the session's Secret";
const ISSUING: &str = "requesting the token";
const DELETING: &str = "deleting the session's Secret";

/// The Secret of one session, by a name that nobody else has.
#[derive(Clone, Debug)]
pub(super) struct SessionSecret {
    pub(super) session: SessionId,
    /// The ServiceAccount's own: a token is bound to Secrets beside it only.
    pub(super) namespace: String,
    pub(super) name: String,
    /// Whose tokens are bound to it.
    pub(super) service_account: String,
}

/// A token as issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) credential: Credential,
    pub(super) jti: String,
    pub(super) expires: Timestamp,
    pub(super) audit_id: Option<String>,
}

/// Why there is no Secret.
#[derive(Debug)]
pub(super) enum NotCreated {
    /// And there will be none.
    Surely(MintError),
    /// Or perhaps there is: the request may have arrived.
    Perhaps(MintError),
}

/// `session-<instance>-<id>`: at most 98 characters, a valid RFC 1123 subdomain.
pub(super) fn secret_name(instance: &crate::config::Name, session: SessionId) -> String {
    format!("session-{instance}-{}", session.to_lowercase())
}

impl SessionSecret {
    /// That of an intent; none if nothing is made in the cluster.
    pub(super) fn of(intent: &Intent) -> Option<Self> {
        let Means::Secret {
            namespace,
            service_account,
            secret,
        } = &intent.means
        else {
            return None;
        };
        Some(Self {
            session: intent.session,
            namespace: namespace.clone(),
            name: secret.clone(),
            service_account: service_account.clone(),
        })
    }

    /// Creates it, empty. Answers its uid, if that is known.
    pub(super) async fn create(
        &self,
        api: &ApiServer,
        identity: &str,
        deadline: Instant,
    ) -> Result<Option<String>, NotCreated> {
        let path = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let call = Call {
            doing: CREATING,
            method: Method::POST,
            path: &path,
            body: json(&self.object(identity)),
            session: Some(self.session),
            acting: None,
        };
        let (answer, tries) = api
            .ask_again(&call, deadline)
            .await
            .map_err(|none| match none {
                NoAnswer::NotSent(error) => NotCreated::Surely(error),
                NoAnswer::InDoubt(error) | NoAnswer::Broken(error) => NotCreated::Perhaps(error),
            })?;
        if answer.status == StatusCode::CONFLICT && tries == Tries::Two {
            // The first try arrived after all. Nobody else has this name.
            return Ok(None);
        }
        if answer.status.is_client_error() {
            return Err(NotCreated::Surely(api.refusal(CREATING, &answer)));
        }
        let created: Secret = api.parse(CREATING, &answer).map_err(NotCreated::Perhaps)?;
        if created.metadata.name.as_deref() != Some(self.name.as_str()) {
            return Err(NotCreated::Perhaps(
                api.bad_answer(CREATING, "it is about another object".to_owned()),
            ));
        }
        Ok(created.metadata.uid)
    }

    /// A token of its ServiceAccount, bound to this Secret.
    pub(super) async fn request_token(
        &self,
        api: &ApiServer,
        ttl: CredentialTtl,
        uid: Option<String>,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Issued, MintError> {
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            self.namespace, self.service_account
        );
        let asked = TokenRequest {
            // No audience named: the API server's own, whatever that is called.
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(i64::from(ttl.as_secs())),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Secret".to_owned()),
                    name: Some(self.name.clone()),
                    uid,
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let call = Call {
            doing: ISSUING,
            method: Method::POST,
            path: &path,
            body: json(&asked),
            session: Some(self.session),
            acting: None,
        };
        // A token that was issued but never arrived is dead as soon as the Secret is.
        let (answer, _) = api.ask_again(&call, deadline).await?;
        issued(api, answer, now)
    }

    /// Deletes it. `Ok(false)`: there was none.
    pub(super) async fn delete(
        &self,
        api: &ApiServer,
        deadline: Instant,
    ) -> Result<bool, MintError> {
        let path = format!(
            "/api/v1/namespaces/{}/secrets/{}",
            self.namespace, self.name
        );
        let call = Call {
            doing: DELETING,
            method: Method::DELETE,
            path: &path,
            body: Bytes::new(),
            session: Some(self.session),
            acting: None,
        };
        let (answer, tries) = api.ask_again(&call, deadline).await?;
        match answer.status {
            StatusCode::NOT_FOUND if is_status(&answer) => Ok(tries == Tries::Two),
            status if status.is_success() => Ok(true),
            _ => Err(api.refusal(DELETING, &answer)),
        }
    }

    fn object(&self, identity: &str) -> Secret {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([pair(
                    "app.kubernetes.io/managed-by",
                    "bastion-audit",
                )])),
                annotations: Some(BTreeMap::from([
                    pair("bastion-audit.dev/session", &self.session.to_string()),
                    pair("bastion-audit.dev/identity", identity),
                ])),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            immutable: Some(true),
            ..Secret::default()
        }
    }
}

/// A 404 of a proxy's on the way says nothing about the Secret; Kubernetes' own is a `Status`.
fn is_status(answer: &Answer) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: String,
        reason: Option<String>,
    }
    serde_json::from_slice::<Kind>(&answer.body)
        .is_ok_and(|said| said.kind == "Status" && said.reason.as_deref() == Some("NotFound"))
}

fn issued(api: &ApiServer, answer: Answer, now: Timestamp) -> Result<Issued, MintError> {
    let bad = |what: &str| api.bad_answer(ISSUING, what.to_owned());
    let request: TokenRequest = api.parse(ISSUING, &answer)?;
    let status = request.status.ok_or_else(|| bad("it has no status"))?;
    let credential = status
        .token
        .filter(|token| !token.is_empty())
        .map(Credential::new)
        .ok_or_else(|| bad("it has no token"))?;
    let expires = status
        .expiration_timestamp
        .ok_or_else(|| bad("it has no expirationTimestamp"))?
        .0;
    if expires <= now {
        return Err(bad(
            "the token had expired when it arrived: are this host's and the API server's clocks right?",
        ));
    }
    let jti = jti(credential.expose())
        .ok_or_else(|| bad("the token has no id (jti): Kubernetes 1.30 or newer is needed"))?;
    Ok(Issued {
        credential,
        jti,
        expires,
        audit_id: answer.audit_id,
    })
}

/// The id in a JSON web token's payload (RFC 7519, 4.1.7). The signature is the API server's to check, not ours.
fn jti(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Payload {
        jti: String,
    }
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    let jti = serde_json::from_slice::<Payload>(&payload).ok()?.jti;
    let fit = !jti.is_empty() && jti.len() <= 128 && jti.bytes().all(|b| b.is_ascii_graphic());
    fit.then_some(jti)
}

/// Objects of our own making always serialize.
fn json(object: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(object)
        .map(Bytes::from)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::jwt;
    use super::*;

    #[test]
    fn the_id_of_a_token_is_read_or_the_token_is_refused() {
        assert_eq!(
            jti(&jwt(&json!({"jti": "1f0c-9", "sub": "x"}))).as_deref(),
            Some("1f0c-9")
        );
        for payload in [
            json!({"sub": "x"}),
            json!({"jti": ""}),
            json!({"jti": 7}),
            json!({"jti": "line\nbreak"}),
            json!({"jti": "x".repeat(129)}),
        ] {
            assert_eq!(jti(&jwt(&payload)), None, "{payload}");
        }
        for token in ["", "a", "a.b", "a.b.c", "a.b.c.d", "..", "eyJ.!!.x"] {
            assert_eq!(jti(token), None, "{token}");
        }
    }

    #[test]
    fn a_secrets_name_is_valid_for_the_longest_instance() {
        let instance = crate::config::Name::new(&"a".repeat(63)).unwrap();
        let name = secret_name(&instance, SessionId::new(Timestamp::UNIX_EPOCH));
        assert!(name.len() <= 253 && name.starts_with("session-a"), "{name}");
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        );
    }

    proptest! {
        #[test]
        fn any_token_is_read_without_a_panic(token in "[a-zA-Z0-9_.-]{0,200}") {
            let _id = jti(&token);
        }
    }
}
