//! The device flow (RFC 8628): a code that is typed at the provider instead of a link of the daemon's, where a role's administrator has opted in.
//!
//! Nothing on the provider's page tells whose ssh it is for, so whoever can talk somebody into typing a code is let in as them, if they have a key of theirs as
//! well. Therefore what comes of it is no [`SignOn`](super::SignOn): it is not kept, is of one connection and one role, and puts nobody into a group.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use openidconnect::core::CoreErrorResponseType;
use openidconnect::{
    Client, ClientId, ClientSecret, DeviceAuthorizationUrl, DeviceCodeErrorResponse,
    DeviceCodeErrorResponseType, EmptyExtraDeviceAuthorizationFields, RequestTokenError, Scope,
    StandardErrorResponse,
};
use tokio::time::Instant;

use super::ProviderError;
use super::client::{GOOD_FOR, OidcClient, Providers, Published, Question, Tokens, Word};
use super::client::{client_secret, down};
use super::http::{Http, HttpError};
use super::polling::{self, Ask, Ended, Polled};
use crate::clock;
use crate::config::{Config, IdentityProvider, Name, Role};
use crate::totp::Hidden;

/// A code is had within this, discovery and all, or not.
const PATIENCE: Duration = Duration::from_secs(12);
/// What a provider may ask to be left alone for between two questions. With more, an attempt would be over before it is answered.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// The longest address and the longest code that people are shown, in bytes.
const LONGEST_ADDRESS: usize = 512;
const LONGEST_CODE: usize = 64;

type Answer = openidconnect::DeviceAuthorizationResponse<EmptyExtraDeviceAuthorizationFields>;

/// What a provider said of whoever is at one connection, for one role. It has no form in which it could be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceWord {
    role: Name,
    provider: Name,
    terms: String,
    username: String,
    until: Timestamp,
}

impl DeviceWord {
    /// For that role, from now on for as long as the provider's word counts at most.
    pub(crate) fn new(
        role: Name,
        provider: &IdentityProvider,
        username: &str,
        now: Timestamp,
    ) -> Self {
        let remember = SignedDuration::try_from(provider.remember).ok();
        let until = remember.and_then(|it| now.saturating_add(it).ok());
        Self {
            role,
            provider: provider.name.clone(),
            terms: provider.terms(),
            username: username.to_owned(),
            until: until.unwrap_or(now),
        }
    }

    /// Whose word.
    pub fn provider(&self) -> &Name {
        &self.provider
    }

    /// For which role.
    pub fn role(&self) -> &Name {
        &self.role
    }

    /// When it ends, if its connection does not before.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether it counts for a role now: it was said for that one, whose administrator opts in still, and means the same identity under the same terms.
    pub(crate) fn counts(
        &self,
        config: &Config,
        role: &Role,
        identity: &Name,
        now: Timestamp,
    ) -> bool {
        let opted_in = role.name == self.role && role.device_flow.as_ref() == Some(&self.provider);
        let provider = config.providers.get(&self.provider);
        let meant = provider
            .filter(|provider| provider.terms() == self.terms)
            .and_then(|provider| config.meant_by_provider(provider, &self.username));
        opted_in && now < self.until && meant.is_some_and(|meant| meant.name() == identity)
    }
}

/// A code that somebody is to type at a provider.
pub(crate) struct DeviceCode {
    providers: Providers,
    provider: IdentityProvider,
    http: Arc<Http>,
    published: Arc<Published>,
    answer: Answer,
    since: Timestamp,
    ends: Instant,
}

/// What becomes of one. Nothing is asked while nobody waits, and nothing any more when it is dropped.
pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<Word, ProviderError>> + Send>>;

impl Providers {
    /// A code for the device flow, good until then at most.
    pub(crate) async fn device_code(
        &self,
        provider: &IdentityProvider,
        ends: Instant,
    ) -> Result<DeviceCode, ProviderError> {
        match tokio::time::timeout(PATIENCE, self.ask_for_code(provider, ends)).await {
            Ok(answered) => answered,
            Err(_) => Err(down(
                provider,
                &format!("no answer within {} s", PATIENCE.as_secs()),
            )),
        }
    }

    async fn ask_for_code(
        &self,
        provider: &IdentityProvider,
        ends: Instant,
    ) -> Result<DeviceCode, ProviderError> {
        let (http, published) = self.published(provider, GOOD_FOR).await?;
        let endpoint = endpoint(provider, &published)?;
        let secret = client_secret(provider).await?;
        let client = client(provider, &published, secret.as_ref());
        let client = client.set_device_authorization_url(endpoint);
        let mut request = client.exchange_device_code();
        for scope in &provider.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let since = self.now();
        let answer: Answer = request
            .request_async(&*http)
            .await
            .map_err(|error| no_code(provider, error))?;
        is_fit_to_show(&answer).map_err(|why| none(provider, why))?;
        let lasts = answer.expires_in();
        Ok(DeviceCode {
            providers: self.clone(),
            provider: provider.clone(),
            http,
            published,
            ends: clock::monotonic()
                .checked_add(lasts)
                .map_or(ends, |own| own.min(ends)),
            answer,
            since,
        })
    }

    /// Where a provider gives codes for the device flow, if it does. For whoever looks before anybody logs in.
    ///
    /// # Errors
    ///
    /// If it cannot be asked, or gives none.
    pub async fn device_endpoint(
        &self,
        provider: &IdentityProvider,
    ) -> Result<String, ProviderError> {
        let (_, published) = self.published(provider, GOOD_FOR).await?;
        endpoint(provider, &published).map(|endpoint| endpoint.to_string())
    }
}

impl DeviceCode {
    /// Where it is typed.
    pub(crate) fn address(&self) -> String {
        self.answer.verification_uri().url().to_string()
    }

    /// What is typed.
    pub(crate) fn user_code(&self) -> Hidden {
        Hidden::new(self.answer.user_code().secret())
    }

    /// Asks the provider again and again who has typed it.
    pub(crate) fn outcome(self) -> Outcome {
        Box::pin(async move {
            let provider = &self.provider;
            let tokens = self.tokens().await?;
            let question = Question::DeviceCode { since: self.since };
            self.providers
                .judged(provider, &self.published, &tokens, question)
                .await
        })
    }

    async fn tokens(&self) -> Result<Tokens, ProviderError> {
        let provider = &self.provider;
        let secret = client_secret(provider).await?;
        let client = client(provider, &self.published, secret.as_ref());
        let request = client
            .exchange_device_access_token(&self.answer)
            .map_err(|_| down(provider, "it publishes no token endpoint"))?;
        let http = Arc::clone(&self.http);
        let ask: Ask = Box::new(move |request| {
            let http = Arc::clone(&http);
            Box::pin(async move { http.send(request).await })
        });
        let asked = polling::poll(request, self.ends, ask).await;
        asked.map_err(|ended| not_answered(provider, ended))
    }
}

fn client(
    provider: &IdentityProvider,
    published: &Published,
    secret: Option<&Hidden>,
) -> OidcClient {
    let secret = secret.map(|secret| ClientSecret::new(secret.expose().to_owned()));
    let id = ClientId::new(provider.client_id.clone());
    Client::from_provider_metadata(published.clone(), id, secret)
}

fn endpoint(
    provider: &IdentityProvider,
    published: &Published,
) -> Result<DeviceAuthorizationUrl, ProviderError> {
    let endpoint = published
        .additional_metadata()
        .device_authorization_endpoint
        .as_ref();
    let endpoint =
        endpoint.ok_or_else(|| none(provider, "it publishes no device_authorization_endpoint"))?;
    let url = endpoint
        .as_str()
        .and_then(|url| DeviceAuthorizationUrl::new(url.to_owned()).ok());
    url.filter(|url| url.url().scheme() == "https")
        .ok_or_else(|| none(provider, "its device_authorization_endpoint is not https"))
}

/// Both go to somebody's terminal as they are, and one of them to their browser.
fn is_fit_to_show(answer: &Answer) -> Result<(), &'static str> {
    let address = answer.verification_uri().url();
    let shown = address.as_str();
    if address.scheme() != "https" {
        return Err("the page for its code is not https");
    }
    if shown.len() > LONGEST_ADDRESS || !shown.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the address of the page for its code cannot be shown");
    }
    let code = answer.user_code().secret().as_bytes();
    let plain = |b: &u8| matches!(b, b' '..=b'~');
    if !(1..=LONGEST_CODE).contains(&code.len()) || !code.iter().all(plain) {
        return Err("its code cannot be shown");
    }
    if answer.interval() > LONGEST_INTERVAL {
        return Err("it wants to be left alone for longer than anybody waits");
    }
    Ok(())
}

fn none(provider: &IdentityProvider, why: &str) -> ProviderError {
    ProviderError::NoDeviceFlow {
        provider: provider.name.clone(),
        why: why.to_owned(),
    }
}

fn no_code(
    provider: &IdentityProvider,
    error: RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>,
) -> ProviderError {
    match error {
        RequestTokenError::ServerResponse(said) => {
            none(provider, &super::pages::shown(said.error().as_ref()))
        }
        RequestTokenError::Request(error) => down(provider, &error.to_string()),
        // Not its body: there is a code in it.
        RequestTokenError::Parse(_, _) => down(provider, "its answer cannot be read"),
        RequestTokenError::Other(_) => down(provider, "its answer is none"),
    }
}

fn not_answered(provider: &IdentityProvider, ended: Ended) -> ProviderError {
    let name = || provider.name.clone();
    match ended {
        Ended::Late => ProviderError::DeviceLate { provider: name() },
        Ended::Unanswered(why) => down(provider, &why),
        Ended::Said(Polled::ServerResponse(said)) => said_no(name(), &said),
        // Not its body: there may be a token in it.
        Ended::Said(Polled::Parse(_, _)) => down(provider, "its answer cannot be read"),
        Ended::Said(Polled::Request(_) | Polled::Other(_)) => down(provider, "its answer is none"),
    }
}

fn said_no(provider: Name, said: &DeviceCodeErrorResponse) -> ProviderError {
    match said.error() {
        DeviceCodeErrorResponseType::AccessDenied => ProviderError::DeviceDenied { provider },
        DeviceCodeErrorResponseType::ExpiredToken => ProviderError::DeviceLate { provider },
        other => ProviderError::CodeRefused {
            provider,
            error: super::pages::shown(other.as_ref()),
        },
    }
}
