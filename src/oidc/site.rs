//! The daemon's own pages: what a link is for, the way to a provider, and back.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use openidconnect::url::form_urlencoded;

use super::attempts::{Closed, Returned};
use super::{Asked, Attempts, NotSignedOn, Providers, Said, meant, pages};
use crate::audit::{Audit, Event, SignOnEvent};
use crate::config::watch::InForce;
use crate::config::{Config, LoginSettings, Name};
use crate::https::{HttpsServer, Site};
use crate::server::Source;
use crate::strangers::Strangers;
use crate::totp::Hidden;

/// Serves them.
pub type LoginServer = HttpsServer<LoginPages>;

/// Goes with a browser to a provider and back. By its prefix browsers take it from nobody but this host.
const COOKIE: &str = "__Host-login";

/// The pages. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LoginPages {
    /// Who is about to sign in.
    pub attempts: Attempts,
    /// Whom to ask.
    pub providers: Providers,
    /// Which providers there are.
    pub in_force: InForce,
    /// What happened.
    pub audit: Audit,
    /// How much of what strangers do is told one by one.
    pub strangers: Strangers,
}

impl Site for LoginPages {
    const WHAT: &'static str = "the pages to sign in by";
    // A provider is asked twice at most, for 10 s each, and what it publishes.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn answer(&self, from: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return Answer::page(
                StatusCode::METHOD_NOT_ALLOWED,
                pages::sorry("This page is only read"),
            )
            .response();
        }
        let config = self.in_force.config();
        let Some(login) = &config.bastion.login else {
            return Answer::no_such_page().response();
        };
        let path = request.uri().path();
        let parts: Vec<&str> = path.split('/').skip(1).take(4).collect();
        let answer = match parts.as_slice() {
            ["login", link] => self.begin(&config, link, from),
            ["login", link, provider] => self.send(&config, login, link, provider).await,
            ["callback", provider] => {
                let back = Back::read(&request, provider);
                self.back(&config, login, back, from).await
            }
            _ => Answer::no_such_page(),
        };
        answer.response()
    }
}

/// What a browser brings back.
#[derive(Default)]
struct Back {
    state: String,
    code: Option<Hidden>,
    error: Option<String>,
    issuer: Option<String>,
    browser: Hidden,
    /// Whose page it has come to.
    provider: String,
}

impl Back {
    fn read(request: &Request<Incoming>, provider: &str) -> Self {
        let mut back = Self {
            provider: provider.to_owned(),
            ..Self::default()
        };
        let query = request.uri().query().unwrap_or_default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "state" => back.state = value.into_owned(),
                "code" => back.code = Some(Hidden::new(value)),
                "error" => back.error = Some(pages::shown(&value)),
                "iss" => back.issuer = Some(value.into_owned()),
                _ => {}
            }
        }
        let cookies = request.headers().get_all(header::COOKIE);
        let browser = cookies
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        back.browser = Hidden::new(browser.unwrap_or_default());
        back
    }
}

impl LoginPages {
    /// Tells what a link is for, and nobody of it.
    fn begin(&self, config: &Config, link: &str, from: IpAddr) -> Answer {
        match self.attempts.of_link(link) {
            Ok(asked) => {
                let ways: Vec<Name> = config
                    .providers
                    .values()
                    .filter(|provider| asked.identity.is_some() || provider.any_key)
                    .map(|provider| provider.name.clone())
                    .collect();
                let host = config.bastion.advertise.to_string();
                let page = pages::begin(&host, link, &asked, from, &ways);
                Answer::page(StatusCode::OK, page)
            }
            Err(closed) => Answer::closed(closed),
        }
    }

    async fn send(
        &self,
        config: &Config,
        login: &LoginSettings,
        link: &str,
        provider: &str,
    ) -> Answer {
        let provider = Name::new(provider).ok();
        let Some(provider) = provider.and_then(|name| config.providers.get(&name)) else {
            return Answer::no_such_page();
        };
        // First: of who has no link nobody is told.
        let (asked, sending) = match self.attempts.send(link, &provider.name) {
            Ok(sent) => sent,
            Err(closed) => return Answer::closed(closed),
        };
        let callback = login.callback(&provider.name);
        let to = self
            .providers
            .authorization_url(provider, &callback, &sending)
            .await;
        match to {
            Ok(to) => Answer::to(&to, &sending.browser),
            Err(error) => {
                let why = (NotSignedOn::from(&error), error.to_string());
                let page = pages::sorry(&why.1);
                self.refused(&asked, Some(&provider.name), why).await;
                Answer::page(StatusCode::BAD_GATEWAY, page)
            }
        }
    }

    async fn back(
        &self,
        config: &Config,
        login: &LoginSettings,
        back: Back,
        from: IpAddr,
    ) -> Answer {
        let (state, browser) = (&back.state, back.browser.expose());
        let returned = match self.attempts.returned(state, browser, &back.provider) {
            Ok(returned) => returned,
            Err(closed) => return Answer::closed(closed),
        };
        // A browser that leaves while the provider is asked ends this here: its link may be tried again.
        let asking = self.attempts.asking(returned.id);
        match self.said(config, login, &returned, &back, from).await {
            Ok((who, said)) => match self.attempts.said(returned.id, said) {
                Some(code) => {
                    let page = pages::code(&returned.asked, from, &who, &code);
                    Answer::page(StatusCode::OK, page)
                }
                None => Answer::closed(Closed::NoLink),
            },
            Err(why) => {
                drop(asking);
                let page = pages::sorry(&why.1);
                self.refused(&returned.asked, Some(&returned.provider), why)
                    .await;
                Answer::page(StatusCode::FORBIDDEN, page)
            }
        }
    }

    /// Who it is by the provider's word, or why it is nobody.
    async fn said(
        &self,
        config: &Config,
        login: &LoginSettings,
        returned: &Returned,
        back: &Back,
        from: IpAddr,
    ) -> Result<(Name, Said), (NotSignedOn, String)> {
        let name = &returned.provider;
        let provider = config.providers.get(name);
        let removed = || format!("the provider {name} was removed");
        let provider = provider.ok_or_else(|| (NotSignedOn::NotAllowed, removed()))?;
        // RFC 9207: another provider may have answered than was asked.
        if let Some(issuer) = &back.issuer
            && *issuer != provider.issuer
        {
            let why = format!("this is not an answer of {name}");
            return Err((NotSignedOn::Token, why));
        }
        if let Some(error) = &back.error {
            let why = format!("{name} has not signed you in: {error}");
            return Err((NotSignedOn::Declined, why));
        }
        let nothing = || format!("{name} has answered nothing");
        let code = back.code.as_ref();
        let code = code.ok_or_else(|| (NotSignedOn::Token, nothing()))?;
        let bound_to = (&returned.nonce, &returned.verifier);
        let word = self
            .providers
            .word(provider, &login.callback(name), code, bound_to)
            .await
            .map_err(|error| (NotSignedOn::from(&error), error.to_string()))?;
        let said = Said {
            provider: name.clone(),
            terms: provider.terms(),
            subject: word.subject,
            username: word.username,
            groups: word.groups,
            browser: Some(from),
        };
        // By what is in force now: a provider takes its time.
        let who = meant(&self.in_force.config(), &returned.asked, &said);
        let who = who.map_err(|error| (NotSignedOn::Identity, error.to_string()))?;
        Ok((who, said))
    }

    async fn refused(
        &self,
        asked: &Asked,
        provider: Option<&Name>,
        (why, reason): (NotSignedOn, String),
    ) {
        self.attempts.counts().refused(why);
        let config = self.in_force.config();
        let source = Source::of(asked.peer.address.ip(), &config.bastion.admission);
        if asked.identity.is_none() && !self.strangers.may_tell("sign-on.refused", source) {
            return;
        }
        let event = Event::SignOn(SignOnEvent::Refused {
            peer: &asked.peer,
            identity: asked.identity.as_ref(),
            fingerprint: &asked.fingerprint,
            principal: &asked.principal,
            provider,
            reason,
        });
        self.audit.tell(event).await;
    }
}

/// What a browser is answered.
struct Answer {
    status: StatusCode,
    page: String,
    location: Option<HeaderValue>,
    cookie: Option<HeaderValue>,
}

impl Answer {
    fn page(status: StatusCode, page: String) -> Self {
        Self {
            status,
            page,
            location: None,
            cookie: None,
        }
    }

    fn no_such_page() -> Self {
        Self::page(StatusCode::NOT_FOUND, pages::sorry("There is no such page"))
    }

    fn closed(closed: Closed) -> Self {
        let why = closed.to_string();
        let mut capital = why.chars();
        let first = capital.next().map(|c| c.to_ascii_uppercase());
        let why: String = first.into_iter().chain(capital).collect();
        Self::page(StatusCode::GONE, pages::sorry(&why))
    }

    /// To a provider, with what shows on the way back that it is the same browser.
    fn to(location: &str, browser: &Hidden) -> Self {
        let cookie = format!(
            "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
            browser.expose(),
            super::attempts::LIFE.as_secs()
        );
        let header = |text: &str| {
            let mut header = HeaderValue::from_str(text).ok()?;
            header.set_sensitive(true);
            Some(header)
        };
        match (header(location), header(&cookie)) {
            (Some(location), Some(cookie)) => Self {
                status: StatusCode::SEE_OTHER,
                page: String::new(),
                location: Some(location),
                cookie: Some(cookie),
            },
            _ => Self::page(
                StatusCode::BAD_GATEWAY,
                pages::sorry("The provider's address cannot be sent to a browser"),
            ),
        }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.page)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(location) = self.location {
            headers.insert(header::LOCATION, location);
        }
        if let Some(cookie) = self.cookie {
            headers.insert(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// A page shows a code: nobody keeps it, frames it, runs anything in it or hears of its address.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];
