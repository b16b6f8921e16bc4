//! Signing on by the device flow, as far as a connection knows of it: a code for whoever has signed with a key of their own and may do so, and what comes of it
//! for this connection and one role.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Awaiting, Conversation, Wanted};
use crate::audit::{Event, SignOnEvent, SignOnFlow};
use crate::config::{IdentityProvider, Name};
use crate::identity::Identity;
use crate::messages::Answer;
use crate::oidc::{
    Asked, DeviceCode, DeviceWord, NotSignedOn, Outcome, ProviderError, Said, Word, meant,
};
use crate::policy;

/// For so long a client hears nothing while it waits.
const ROUND: Duration = Duration::from_secs(5);

/// Somebody types a code at a provider.
pub(super) struct Waiting {
    role: Name,
    provider: Name,
    terms: String,
    /// Asks only while somebody waits for it. Locked by nobody: a conversation is looked at by several threads, one at a time.
    outcome: Mutex<Outcome>,
}

impl Conversation {
    /// A code of a provider's, for whoever cannot open the link, where the role lets them.
    pub(super) async fn device_code(&mut self) -> Answer {
        let may = |it: &mut Awaiting| it.wanted == Wanted::SignOn && it.device.is_none();
        let Some(mut awaiting) = self.awaiting.take_if(may) else {
            return Answer::No;
        };
        let asked = self.asked(&awaiting);
        let opted_in = self.may_use_device_flow(&awaiting);
        let (Some((role, provider)), Some(ticket)) = (opted_in, &awaiting.ticket) else {
            let why = "this login may not sign in by a code of the provider's";
            self.tell_not_signed_on(&asked, NotSignedOn::NotAllowed, why.to_owned())
                .await;
            return Answer::NoBecause(why.to_owned());
        };
        let ends = match ticket.by_device() {
            Ok(ends) => ends,
            Err(full) => {
                self.tell_not_signed_on(&asked, full.into(), full.to_string())
                    .await;
                return Answer::NoBecause(full.to_string());
            }
        };
        let code = match self.monitor.providers.device_code(&provider, ends).await {
            Ok(code) => code,
            Err(error) => return self.not_by_device(&asked, &provider.name, error).await,
        };
        self.monitor.attempts.counts().begun(SignOnFlow::Device);
        self.tell_device_begun(&asked).await;
        let (at, shown) = (code.address(), code.user_code());
        awaiting.device = Some(Waiting::of(code, role, &provider));
        self.awaiting = Some(awaiting);
        Answer::Device { at, code: shown }
    }

    /// Waits for a while until somebody has typed the code.
    pub(super) async fn wait(&mut self) -> Answer {
        let Some(mut awaiting) = self.awaiting.take() else {
            return Answer::No;
        };
        let Some(waiting) = &mut awaiting.device else {
            self.awaiting = Some(awaiting);
            return Answer::No;
        };
        let outcome = waiting.outcome.get_mut();
        let outcome = outcome.unwrap_or_else(PoisonError::into_inner);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(ROUND, outcome) => outcome,
            () = self.monitor.over.cancelled() => return Answer::No,
        };
        let asked = self.asked(&awaiting);
        match (outcome, awaiting.device.take()) {
            (Ok(Ok(word)), Some(waiting)) => {
                self.signed_on_by_device(awaiting, &asked, waiting, word)
                    .await
            }
            (Ok(Err(error)), Some(waiting)) => {
                self.not_by_device(&asked, &waiting.provider, error).await
            }
            (_, device) => {
                self.awaiting = Some(Awaiting { device, ..awaiting });
                Answer::NotYet
            }
        }
    }

    /// For which role and by which provider a connection may sign in so. Never where the key is nobody's: then a provider's word would be all that there is.
    pub(super) fn may_use_device_flow(
        &self,
        awaiting: &Awaiting,
    ) -> Option<(Name, IdentityProvider)> {
        let identity = awaiting.identity.as_ref()?;
        self.device_flow_of(awaiting, identity)
    }

    fn device_flow_of(
        &self,
        awaiting: &Awaiting,
        identity: &Identity,
    ) -> Option<(Name, IdentityProvider)> {
        let (config, now) = (self.monitor.config(), self.monitor.clock.now());
        let (login, from) = (&awaiting.offer.principal, self.peer.address.ip());
        policy::device_flow(&config, identity, login, from, now)
    }

    /// Has a provider's word count here: on record, and then for this connection. Nothing of it is kept.
    async fn signed_on_by_device(
        &mut self,
        awaiting: Awaiting,
        asked: &Asked,
        waiting: Waiting,
        word: Word,
    ) -> Answer {
        let said = waiting.said(word);
        let judged = self.by_what_is_in_force(&awaiting, asked, &waiting.role, &said);
        let (identity, word) = match judged {
            Ok(judged) => judged,
            Err(why) => {
                let told = why.1.clone();
                self.tell_refused(asked, Some(&said.provider), why).await;
                return Answer::NoBecause(told);
            }
        };
        let event = Event::SignOn(SignOnEvent::Accepted {
            peer: &self.peer,
            identity: identity.name(),
            fingerprint: &asked.fingerprint,
            principal: &asked.principal,
            flow: SignOnFlow::Device,
            provider: &said.provider,
            subject: &said.subject,
            username: &said.username,
            groups: &said.groups,
            browser: said.browser,
            counts_until: word.until(),
        });
        let counts = self.monitor.attempts.counts();
        if let Err(error) = self.monitor.audit.emit(event).await {
            counts.refused(NotSignedOn::NotKept);
            tracing::error!("{error}");
            return Answer::NoBecause(
                "you have signed in, but that cannot be written down, so it does not count; tell your administrator"
                    .to_owned(),
            );
        }
        counts.accepted(SignOnFlow::Device);
        self.next(awaiting.offer, identity.with_device(word)).await
    }

    /// Typing takes its time: the key, the role and the provider must be what they were.
    fn by_what_is_in_force(
        &self,
        awaiting: &Awaiting,
        asked: &Asked,
        role: &Name,
        said: &Said,
    ) -> Result<(Identity, DeviceWord), (NotSignedOn, String)> {
        let (config, now) = (self.monitor.config(), self.monitor.clock.now());
        meant(&config, asked, said).map_err(|error| (NotSignedOn::Identity, error.to_string()))?;
        let not_now = |why: &str| (NotSignedOn::NotAllowed, why.to_owned());
        let identity = self.as_it_is_now(awaiting);
        let identity = identity.ok_or_else(|| not_now("the key proves nobody any more"))?;
        let (_, provider) = self
            .device_flow_of(awaiting, &identity)
            .filter(|(for_now, provider)| for_now == role && provider.name == said.provider)
            .ok_or_else(|| {
                not_now("this login may not sign in by a code of the provider's any more")
            })?;
        let word = DeviceWord::new(role.clone(), &provider, &said.username, now);
        Ok((identity, word))
    }

    async fn not_by_device(&self, asked: &Asked, provider: &Name, error: ProviderError) -> Answer {
        let why = (NotSignedOn::from(&error), error.to_string());
        self.tell_refused(asked, Some(provider), why).await;
        Answer::NoBecause(error.to_string())
    }

    async fn tell_device_begun(&self, asked: &Asked) {
        let event = Event::SignOn(SignOnEvent::Begun {
            peer: &self.peer,
            identity: asked.identity.as_ref(),
            fingerprint: &asked.fingerprint,
            principal: &asked.principal,
            flow: SignOnFlow::Device,
        });
        self.monitor.audit.tell(event).await;
    }
}

impl Waiting {
    fn of(code: DeviceCode, role: Name, provider: &IdentityProvider) -> Self {
        Self {
            role,
            provider: provider.name.clone(),
            terms: provider.terms(),
            outcome: Mutex::new(code.outcome()),
        }
    }

    /// Without groups: what is of one role puts nobody into anything that others go by.
    fn said(&self, word: Word) -> Said {
        Said {
            provider: self.provider.clone(),
            terms: self.terms.clone(),
            subject: word.subject,
            username: word.username,
            groups: BTreeSet::new(),
            browser: None,
        }
    }
}
