//! Signing on in a browser, as far as a connection knows of it: a link for whoever has signed, and the code that comes of it.

use jiff::{SignedDuration, Timestamp};

use super::{Awaiting, Conversation, Wanted};
use crate::audit::{Event, SignOnEvent, SignOnFlow};
use crate::config::{Config, Name};
use crate::identity::{self, Identity};
use crate::messages::{Answer, Offer};
use crate::oidc::{Asked, Begun, NotSignedOn, Said, SignOn, Typed, meant};
use crate::policy;
use crate::server::Source;
use crate::session;
use crate::totp::Hidden;

impl Conversation {
    /// A key that proves nobody has signed: a provider may say who holds it. Another key may prove somebody meanwhile.
    pub(super) fn may_sign_on(&mut self, offer: Offer) -> Answer {
        // The first: what is asked about later is what the client has last.
        self.awaiting.get_or_insert(Awaiting {
            offer,
            identity: None,
            wanted: Wanted::SignOn,
            ticket: None,
            device: None,
            typed: 0,
        });
        Answer::SignOn { settled: false }
    }

    /// The link to sign in by. Asks no provider: whoever opens it does.
    pub(super) async fn link(&mut self) -> Answer {
        let may = |it: &mut Awaiting| it.wanted == Wanted::SignOn && it.device.is_none();
        let Some(mut awaiting) = self.awaiting.take_if(may) else {
            return Answer::No;
        };
        let config = self.monitor.config();
        let Some(login) = config.bastion.login.as_ref() else {
            return Answer::No;
        };
        let asked = self.asked(&awaiting);
        let source = Source::of(self.peer.address.ip(), &config.bastion.admission);
        let begun = self.monitor.attempts.begin(asked.clone(), source);
        let Begun { ticket, link } = match begun {
            Ok(begun) => begun,
            Err(full) => {
                self.tell_not_signed_on(&asked, full.into(), full.to_string())
                    .await;
                return Answer::NoBecause(full.to_string());
            }
        };
        self.monitor.attempts.counts().begun(SignOnFlow::Code);
        if asked.identity.is_some() || self.may_tell("sign-on.begun") {
            let event = Event::SignOn(SignOnEvent::Begun {
                peer: &self.peer,
                identity: asked.identity.as_ref(),
                fingerprint: &asked.fingerprint,
                principal: &asked.principal,
                flow: SignOnFlow::Code,
            });
            self.monitor.audit.tell(event).await;
        }
        let to = format!("{}/login/{}", login.public_url, link.expose());
        let or_device = self.may_use_device_flow(&awaiting).is_some();
        awaiting.ticket = Some(ticket);
        self.awaiting = Some(awaiting);
        Answer::Link { to, or_device }
    }

    /// What was typed as the code that a browser shows.
    pub(super) async fn signed_on(&mut self, awaiting: Awaiting, typed: &Hidden) -> Answer {
        let asked = self.asked(&awaiting);
        let Some(ticket) = &awaiting.ticket else {
            return Answer::No;
        };
        let why = match ticket.typed(typed) {
            Typed::Right(said) => return self.bind(awaiting, &asked, *said).await,
            Typed::TooEarly => "a code was typed before there was one",
            Typed::Wrong => "the code is wrong",
            Typed::Over => {
                let why = "the code is wrong, or its time is over; log in again for a new link";
                self.tell_not_signed_on(&asked, NotSignedOn::Code, why.to_owned())
                    .await;
                return Answer::NoBecause(why.to_owned());
            }
        };
        self.tell_not_signed_on(&asked, NotSignedOn::Code, why.to_owned())
            .await;
        self.awaiting = Some(awaiting);
        Answer::No
    }

    /// Has a provider's word count for the key that has signed here: on record, on disk, in force. What it makes of the client is judged by that alone.
    async fn bind(&mut self, awaiting: Awaiting, asked: &Asked, said: Said) -> Answer {
        let (config, now) = (self.monitor.config(), self.monitor.clock.now());
        let sign_on = match sign_on(&config, asked, said.clone(), now) {
            Ok(sign_on) => sign_on,
            Err(why) => {
                self.tell_not_signed_on(asked, NotSignedOn::Identity, why.clone())
                    .await;
                return Answer::NoBecause(why);
            }
        };
        let event = Event::SignOn(SignOnEvent::Accepted {
            peer: &self.peer,
            identity: &sign_on.identity,
            fingerprint: &sign_on.fingerprint,
            principal: &asked.principal,
            flow: SignOnFlow::Code,
            provider: &sign_on.provider,
            subject: &sign_on.subject,
            username: &sign_on.username,
            groups: &sign_on.groups,
            browser: said.browser,
            counts_until: sign_on.until,
        });
        let counts = self.monitor.attempts.counts();
        if let Err(error) = self.monitor.audit.emit(event).await {
            counts.refused(NotSignedOn::NotKept);
            tracing::error!("{error}");
            return Answer::No;
        }
        if let Err(error) = self.monitor.sign_ons.bind(sign_on, now).await {
            counts.refused(NotSignedOn::NotKept);
            tracing::error!("a provider's word does not count: {error}");
            return Answer::NoBecause(
                "you have signed in, but that cannot be written down, so it does not count; tell your administrator"
                    .to_owned(),
            );
        }
        let Some(identity) = self.as_it_is_now(&awaiting) else {
            let why = "the key proves nobody all the same";
            self.tell_not_signed_on(asked, NotSignedOn::NotAllowed, why.to_owned())
                .await;
            return Answer::No;
        };
        counts.accepted(SignOnFlow::Code);
        if !self.told {
            self.told = true;
            self.tell_opened().await;
        }
        if awaiting.identity.is_none() {
            self.monitor.strangers.was_none();
        }
        self.next(awaiting.offer, identity).await
    }

    /// Whom the key proves now, as far as it was somebody's before: the same.
    pub(super) fn as_it_is_now(&self, awaiting: &Awaiting) -> Option<Identity> {
        let (config, now) = (self.monitor.config(), self.monitor.clock.now());
        let identity = identity::identify(&config, &awaiting.offer, &self.peer, now).ok()?;
        match &awaiting.identity {
            Some(before) if before.name() != identity.name() => None,
            Some(before) => Some(identity.with_the_rest_of(before)),
            None => Some(identity),
        }
    }

    /// Whether a key that proves somebody must be vouched for by a provider, for what it asks for.
    pub(super) fn must_sign_on(&self, offer: &Offer, identity: &Identity) -> bool {
        let (config, now) = (self.monitor.config(), self.monitor.clock.now());
        let from = self.peer.address.ip();
        policy::asks_to_sign_on(&config, identity, &offer.principal, from, now)
    }

    pub(super) fn asked(&self, awaiting: &Awaiting) -> Asked {
        Asked {
            peer: self.peer.clone(),
            fingerprint: identity::fingerprint_of(&awaiting.offer),
            principal: session::shown_principal(&awaiting.offer.principal),
            identity: awaiting.identity.as_ref().map(|it| it.name().clone()),
            began: self.monitor.clock.now(),
        }
    }

    pub(super) async fn tell_not_signed_on(&self, asked: &Asked, why: NotSignedOn, reason: String) {
        self.tell_refused(asked, None, (why, reason)).await;
    }

    pub(super) async fn tell_refused(
        &self,
        asked: &Asked,
        provider: Option<&Name>,
        (why, reason): (NotSignedOn, String),
    ) {
        self.monitor.attempts.counts().refused(why);
        if asked.identity.is_none() && !self.may_tell("sign-on.refused") {
            return;
        }
        let event = Event::SignOn(SignOnEvent::Refused {
            peer: &self.peer,
            identity: asked.identity.as_ref(),
            fingerprint: &asked.fingerprint,
            principal: &asked.principal,
            provider,
            reason,
        });
        self.monitor.audit.tell(event).await;
    }
}

/// Why nothing has come of an attempt whose connection is over.
pub(super) fn unfinished(awaiting: &Awaiting) -> &'static str {
    match (&awaiting.device, &awaiting.ticket) {
        (Some(_), _) => "nobody has signed in by the code while it was waited for",
        (None, Some(_)) => "no code was typed",
        (None, None) => "nobody has asked for a link",
    }
}

fn sign_on(config: &Config, asked: &Asked, said: Said, now: Timestamp) -> Result<SignOn, String> {
    let identity = meant(config, asked, &said).map_err(|error| error.to_string())?;
    let remember = config.providers.get(&said.provider).map(|it| it.remember);
    let remember = remember.and_then(|it| SignedDuration::try_from(it).ok());
    let until = remember.and_then(|it| now.saturating_add(it).ok());
    Ok(SignOn {
        fingerprint: asked.fingerprint.clone(),
        identity,
        provider: said.provider,
        terms: said.terms,
        subject: said.subject,
        username: said.username,
        groups: said.groups,
        since: now,
        until: until.unwrap_or(now),
    })
}
