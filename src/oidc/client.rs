//! What is asked of providers: where to send people, and what it says of whoever came back.
//!
//! What a provider publishes of itself is kept for an hour, and asked for anew sooner where a token is signed by a key that is not among it. One that does not
//! answer is left alone for a few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClaimName, CoreClaimType,
    CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreResponseMode, CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AdditionalProviderMetadata, AuthorizationCode, Client, ClientId,
    ClientSecret, CsrfToken, DiscoveryError, EmptyExtraTokenFields, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IdTokenFields, IssuerUrl, Nonce, NonceVerifier, PkceCodeChallenge,
    PkceCodeVerifier, ProviderMetadata, RedirectUrl, RequestTokenError, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::ProviderError;
use super::attempts::Sending;
use super::http::{Http, HttpError};
use crate::causes::causes;
use crate::clock::{self, Clock};
use crate::config::secrets::read_secret;
use crate::config::{IdentityProvider, Name};
use crate::identity::Group;
use crate::totp::Hidden;

/// What a provider publishes of itself is good for so long,
pub(super) const GOOD_FOR: Duration = Duration::from_secs(3600);
/// and is not asked for again sooner, whatever a token says.
const NOT_AGAIN_WITHIN: Duration = Duration::from_secs(30);
/// A provider that did not answer is not asked again sooner.
const LEFT_ALONE: Duration = Duration::from_secs(3);
/// A provider's clock may be ahead of ours by so much, in seconds.
const AHEAD: i64 = 60;
/// The most groups that are kept of one token.
const MAX_GROUPS: usize = 256;
/// The longest `sub` (OpenID Connect Core 1.0, 2) and the longest username, in bytes.
const LONGEST_SUBJECT: usize = 255;

/// What ID tokens may be signed by: nothing that has no key, and nothing whose key the daemon shares with the provider.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// The providers of a configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Providers {
    known: Arc<Mutex<BTreeMap<Name, Slot>>>,
    clock: Arc<dyn Clock>,
}

/// What is known of one provider. Whoever looks it up holds it.
type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

#[derive(Debug)]
struct Known {
    settings: IdentityProvider,
    http: Arc<Http>,
    looked: Instant,
    published: Result<Arc<Published>, String>,
}

/// What a provider publishes of itself.
pub(super) type Published = ProviderMetadata<
    Beyond,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// What it publishes beyond OpenID Connect.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Beyond {
    /// RFC 8628, 4. Whatever it is: one that is no URL is no reason against the rest.
    #[serde(default)]
    pub(super) device_authorization_endpoint: Option<Value>,
}

impl AdditionalProviderMetadata for Beyond {}

/// What makes a token the answer to a question, and not to another.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    /// The nonce that a browser was sent away with.
    Nonce(&'a Hidden),
    /// A code of the device flow, where there is no nonce: the token is fetched by a secret that nobody else has ever had, and is not older than that.
    DeviceCode {
        /// When the code was given.
        since: jiff::Timestamp,
    },
}

impl NonceVerifier for Question<'_> {
    fn verify(self, said: Option<&Nonce>) -> Result<(), String> {
        match self {
            Self::Nonce(sent) => Nonce::new(sent.expose().to_owned()).verify(said),
            Self::DeviceCode { .. } if said.is_none() => Ok(()),
            Self::DeviceCode { .. } => Err("it has a nonce, and none was sent".to_owned()),
        }
    }
}

/// What a provider says of somebody.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) subject: String,
    pub(crate) username: String,
    pub(super) groups: BTreeSet<Group>,
}

/// Claims that OpenID Connect does not define.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Further {
    #[serde(flatten)]
    claims: BTreeMap<String, Value>,
}

impl AdditionalClaims for Further {}

pub(super) type Tokens = StandardTokenResponse<
    IdTokenFields<
        Further,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

pub(super) type OidcClient = Client<
    Further,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl Providers {
    /// Asks nobody yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            known: Arc::default(),
            clock,
        }
    }

    pub(super) fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Where a browser is sent.
    pub(super) async fn authorization_url(
        &self,
        provider: &IdentityProvider,
        callback: &str,
        sending: &Sending,
    ) -> Result<String, ProviderError> {
        let (_, published) = self.published(provider, GOOD_FOR).await?;
        let down = |why: &str| down(provider, why);
        if published.authorization_endpoint().url().scheme() != "https" {
            return Err(down("the page where people sign in is not https"));
        }
        let client = client(provider, callback, &published, None)?;
        let verifier = PkceCodeVerifier::new(sending.verifier.expose().to_owned());
        let (state, nonce) = (
            sending.state.expose().to_owned(),
            sending.nonce.expose().to_owned(),
        );
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        for scope in &provider.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, _, _) = request.url();
        Ok(url.into())
    }

    /// What the provider says of whoever brought this code of its.
    pub(super) async fn word(
        &self,
        provider: &IdentityProvider,
        callback: &str,
        code: &Hidden,
        (nonce, verifier): (&Hidden, &Hidden),
    ) -> Result<Word, ProviderError> {
        let (http, published) = self.published(provider, GOOD_FOR).await?;
        let secret = client_secret(provider).await?;
        let client = client(provider, callback, &published, secret.as_ref())?;
        let asked = client
            .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
            .map_err(|_| down(provider, "it publishes no token endpoint"))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()))
            .request_async(&*http)
            .await;
        let tokens = asked.map_err(|error| not_exchanged(provider, error))?;
        let question = Question::Nonce(nonce);
        self.judged(provider, &published, &tokens, question).await
    }

    /// What these tokens say, by the keys that the provider publishes now.
    pub(super) async fn judged(
        &self,
        provider: &IdentityProvider,
        published: &Published,
        tokens: &Tokens,
        question: Question<'_>,
    ) -> Result<Word, ProviderError> {
        match self.judge(provider, published, tokens, question) {
            Err(Unverified::UnknownKey(_)) => {
                let (_, published) = self.published(provider, NOT_AGAIN_WITHIN).await?;
                self.judge(provider, &published, tokens, question)
            }
            judged => judged,
        }
        .map_err(|unverified| unverified.error(provider))
    }

    /// Everything that makes an ID token good: who signed it and how, for whom and when, and as an answer to what.
    fn judge(
        &self,
        provider: &IdentityProvider,
        published: &Published,
        tokens: &Tokens,
        question: Question<'_>,
    ) -> Result<Word, Unverified> {
        let token = tokens
            .id_token()
            .ok_or(Unverified::No("there is none".to_owned()))?;
        let client: OidcClient = Client::from_provider_metadata(
            published.clone(),
            ClientId::new(provider.client_id.clone()),
            None,
        );
        let now = utc(self.clock.now());
        let ahead = chrono::TimeDelta::seconds(AHEAD);
        let Some((now, latest)) = now.map(|now| (now, now + ahead)) else {
            return Err(Unverified::No("the clock says no time".to_owned()));
        };
        let earliest = match question {
            Question::Nonce(_) => None,
            Question::DeviceCode { since } => utc(since).map(|since| since - ahead),
        };
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || now)
            .set_issue_time_verifier_fn(move |issued| {
                if issued > latest {
                    return Err("it is of a time to come".to_owned());
                }
                match earliest {
                    Some(earliest) if issued < earliest => {
                        Err("it is older than what was asked".to_owned())
                    }
                    _ => Ok(()),
                }
            });
        let claims = token.claims(&verifier, question).map_err(|error| {
            use openidconnect::ClaimsVerificationError::SignatureVerification;
            use openidconnect::SignatureVerificationError::{CryptoError, NoMatchingKey};
            let why = causes(&error);
            match error {
                // Of a key that was made since, with the name of an old one maybe.
                SignatureVerification(NoMatchingKey | CryptoError(_)) => {
                    Unverified::UnknownKey(why)
                }
                _ => Unverified::No(why),
            }
        })?;
        let claims = serde_json::to_value(claims)
            .map_err(|_| Unverified::No("it cannot be read".to_owned()))?;
        word(provider, &claims).map_err(Unverified::Claim)
    }

    /// What the provider publishes, not older than that.
    pub(super) async fn published(
        &self,
        provider: &IdentityProvider,
        good_for: Duration,
    ) -> Result<(Arc<Http>, Arc<Published>), ProviderError> {
        let slot = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(provider.name.clone()).or_default())
        };
        // One asks, the others wait for its answer.
        let mut slot = slot.lock().await;
        let now = clock::monotonic();
        if let Some(known) = &*slot
            && known.settings == *provider
        {
            let age = now.saturating_duration_since(known.looked);
            match &known.published {
                Ok(published) if age < good_for => {
                    return Ok((Arc::clone(&known.http), Arc::clone(published)));
                }
                Err(why) if age < LEFT_ALONE => return Err(down(provider, why)),
                _ => {}
            }
        }
        let http = Arc::new(Http::open(provider).await?);
        let published = look_up(provider, &http).await.map(Arc::new);
        let answer = match &published {
            Ok(published) => Ok((Arc::clone(&http), Arc::clone(published))),
            Err(why) => Err(down(provider, why)),
        };
        *slot = Some(Known {
            settings: provider.clone(),
            http,
            looked: now,
            published,
        });
        answer
    }
}

async fn look_up(provider: &IdentityProvider, http: &Http) -> Result<Published, String> {
    let issuer = IssuerUrl::new(provider.issuer.clone()).map_err(|error| error.to_string())?;
    let found = Published::discover_async(issuer, http).await;
    found.map_err(|error| match error {
        // Not its body, which is whatever a server likes.
        DiscoveryError::Response(_, _, why) => why,
        DiscoveryError::Request(error) => error.to_string(),
        DiscoveryError::Parse(_) => "what it publishes cannot be read".to_owned(),
        error => causes(&error),
    })
}

fn client(
    provider: &IdentityProvider,
    callback: &str,
    published: &Published,
    secret: Option<&Hidden>,
) -> Result<OidcClient, ProviderError> {
    let redirect = RedirectUrl::new(callback.to_owned())
        .map_err(|error| down(provider, &error.to_string()))?;
    let secret = secret.map(|secret| ClientSecret::new(secret.expose().to_owned()));
    let id = ClientId::new(provider.client_id.clone());
    let client = OidcClient::from_provider_metadata(published.clone(), id, secret);
    Ok(client.set_redirect_uri(redirect))
}

/// Read each time: whoever changes it replaces its file.
pub(super) async fn client_secret(
    provider: &IdentityProvider,
) -> Result<Option<Hidden>, ProviderError> {
    let Some(path) = provider.client_secret.clone() else {
        return Ok(None);
    };
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_secret(&path)).await;
    let read = read.map_err(|_| down(provider, "reading its clientSecretFile died"))?;
    let bytes = read?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(ProviderError::NotASecret(shown));
    }
    Ok(Some(Hidden::new(text)))
}

fn not_exchanged(
    provider: &IdentityProvider,
    error: RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>,
) -> ProviderError {
    match error {
        RequestTokenError::ServerResponse(said) => ProviderError::CodeRefused {
            provider: provider.name.clone(),
            error: super::pages::shown(said.error().as_ref()),
        },
        RequestTokenError::Request(error) => down(provider, &error.to_string()),
        // Not its body: there may be a token in it.
        RequestTokenError::Parse(_, _) => down(provider, "its answer cannot be read"),
        RequestTokenError::Other(_) => down(provider, "its answer is none"),
    }
}

/// Why an ID token is not accepted.
enum Unverified {
    /// It is signed by a key that was not published when it was looked at.
    UnknownKey(String),
    No(String),
    Claim(String),
}

impl Unverified {
    fn error(self, provider: &IdentityProvider) -> ProviderError {
        let provider = provider.name.clone();
        match self {
            Self::UnknownKey(why) | Self::No(why) => ProviderError::Token { provider, why },
            Self::Claim(why) => ProviderError::Claim { provider, why },
        }
    }
}

fn word(provider: &IdentityProvider, claims: &Value) -> Result<Word, String> {
    let text = |claim: &str| match claims.get(claim) {
        Some(Value::String(text)) if (1..=LONGEST_SUBJECT).contains(&text.len()) => {
            Ok(text.clone())
        }
        Some(_) => Err(format!("'{claim}' is no short text")),
        None => Err(format!("there is no '{claim}' in it")),
    };
    let username = text(&provider.username_claim)?;
    // Whoever may write what they like into it could be anybody.
    if provider.username_claim == "email"
        && claims.get("email_verified") != Some(&Value::Bool(true))
    {
        return Err("the provider has not verified the 'email'".to_owned());
    }
    let mut groups = BTreeSet::new();
    let listed = provider
        .groups_claim
        .as_ref()
        .and_then(|claim| claims.get(claim));
    match listed {
        None | Some(Value::Null) => {}
        Some(Value::String(one)) => groups.extend(group(provider, one)),
        Some(Value::Array(all)) => {
            for one in all {
                let one = one.as_str().ok_or("its groups are no texts")?;
                groups.extend(group(provider, one));
            }
        }
        Some(_) => return Err("its groups are no list".to_owned()),
    }
    if groups.len() > MAX_GROUPS {
        return Err(format!("there are more than {MAX_GROUPS} groups in it"));
    }
    Ok(Word {
        subject: text("sub")?,
        username,
        groups,
    })
}

/// A group that no binding could name gives nothing, so it is passed over.
fn group(provider: &IdentityProvider, name: &str) -> Option<Group> {
    Group::from_provider(&provider.name, name).ok()
}

pub(super) fn down(provider: &IdentityProvider, why: &str) -> ProviderError {
    ProviderError::Down {
        provider: provider.name.clone(),
        why: why.to_owned(),
    }
}

fn utc(time: jiff::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.as_second(), 0)
}
