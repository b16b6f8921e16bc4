//! Which key a client proves to hold. Whose it is, and whether that counts, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::keys::Certificate;
use russh::keys::ssh_key::{Algorithm, PublicKey};
use russh::server::Auth;
use tokio::sync::watch;

use super::Progress;
use super::interactive::{Interactive, Typed, ask_for_code, or_sign_on, over};
use super::monitor::Monitor;
use super::wire::Wire;
use crate::messages::{Answer, Ask, Offer};
use crate::server::admission::Place;
use crate::server::algorithms;

/// How long the deciding side may take to answer about a key.
const KEY_ANSWER: Duration = Duration::from_secs(10);
/// And with a code of a provider's, which it asks for meanwhile.
const DEVICE_ANSWER: Duration = Duration::from_secs(15);

/// Keys asked about on one connection. russh does not count an offer that is accepted.
const OFFERS: u32 = 20;

/// One connection's way to a proven identity.
#[derive(Debug)]
pub(super) struct Authentication {
    monitor: Monitor,
    wire: Arc<Wire>,
    place: Arc<Place>,
    /// Once an identity is proven there is no second one.
    progress: watch::Sender<Progress>,
    /// A key has signed, and a code is to come.
    interactive: Option<Interactive>,
    introduced: bool,
    offers: u32,
}

impl Authentication {
    /// `progress` hears of the first identity.
    pub(super) fn new(
        monitor: Monitor,
        wire: Arc<Wire>,
        place: Arc<Place>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self {
            monitor,
            wire,
            place,
            progress,
            interactive: None,
            introduced: false,
            offers: 0,
        }
    }

    /// Something was tried that proves nobody.
    pub(super) fn tried(&self) {
        self.place.tried();
    }

    /// Whether a key is worth a signature. Proves nothing and changes nothing.
    pub(super) async fn offered(
        &mut self,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> bool {
        self.tried();
        self.offers = self.offers.saturating_add(1);
        if self.is_settled() || self.offers > OFFERS {
            return false;
        }
        match offer(user, key, algorithm) {
            Some(offer) => self.yes(Ask::Probe(offer)).await,
            None => false,
        }
    }

    /// Whether the key whose signature russh has verified proves an identity. Once one is proven it stays.
    pub(super) async fn verified(
        &mut self,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Auth {
        match offer(user, key, algorithm) {
            Some(offer) => self.proves(offer).await,
            None => Auth::reject(),
        }
    }

    /// The same for a certificate, whose key's signature russh has verified.
    pub(super) async fn certified(&mut self, user: &str, certificate: &Certificate) -> Auth {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        // These kinds of key sign under their own name and no other, as russh has made sure.
        let offer = offer(user, &key, &key.algorithm());
        match (offer, certificate.to_openssh()) {
            (Some(offer), Ok(text)) => {
                self.proves(Offer {
                    certificate: Some(text),
                    ..offer
                })
                .await
            }
            _ => Auth::reject(),
        }
    }

    /// Keyboard-interactive: begun, or answered. `None` where it is not its time, which is all of the time but after a key has signed.
    pub(super) async fn interactive(
        &mut self,
        user: &str,
        answers: Option<impl Iterator<Item = Bytes>>,
    ) -> Option<Auth> {
        let mut interactive = self.interactive.take()?;
        let auth = match answers {
            None if interactive.needs_link(user) => self.link(&mut interactive, user).await,
            None => interactive.begin(user),
            Some(answers) => match interactive.typed(user, answers) {
                Err(auth) => auth,
                Ok(typed) => match self.heard(typed).await {
                    Answer::Yes => return Some(self.proven()),
                    Answer::Code => return Some(self.more(Interactive::of(user))),
                    Answer::SignOn { .. } => {
                        return Some(self.more(Interactive::to_sign_on(user)));
                    }
                    Answer::Device { at, code } => {
                        interactive.shows_code(at, code);
                        interactive.begin(user)
                    }
                    answer => interactive.judged(answer),
                },
            },
        };
        self.interactive = Some(interactive);
        Some(auth)
    }

    /// What the deciding side makes of an answer.
    async fn heard(&self, typed: Typed) -> Answer {
        let (ask, within) = match typed {
            Typed::Code(code) => {
                self.tried();
                (Ask::Code(code), KEY_ANSWER)
            }
            Typed::Device => (Ask::Device, DEVICE_ANSWER),
            Typed::Waits => (Ask::Wait, KEY_ANSWER),
        };
        self.monitor.ask(ask, None, within).await
    }

    async fn proves(&mut self, offer: Offer) -> Auth {
        self.tried();
        if self.is_settled() {
            return Auth::reject();
        }
        let user = offer.principal.clone();
        match self.ask(Ask::Authenticate(offer)).await {
            Answer::Yes => self.proven(),
            Answer::Code => self.more(Interactive::of(&user)),
            Answer::SignOn { settled: true } => self.more(Interactive::to_sign_on(&user)),
            Answer::SignOn { settled: false } => {
                self.interactive
                    .get_or_insert_with(|| Interactive::to_sign_on(&user));
                or_sign_on()
            }
            Answer::No
            | Answer::NoBecause(_)
            | Answer::Link { .. }
            | Answer::Device { .. }
            | Answer::NotYet => Auth::reject(),
        }
    }

    /// A key proves somebody, and something else is to come.
    fn more(&mut self, interactive: Interactive) -> Auth {
        self.interactive = Some(interactive);
        self.place.signed();
        self.progress.send_replace(Progress::Signed);
        ask_for_code()
    }

    /// Asks for a link to sign in by. Whose key is nobody's stays among those on whom nobody is proven, and has its link for itself.
    async fn link(&mut self, interactive: &mut Interactive, user: &str) -> Auth {
        match self.monitor.ask(Ask::Link, None, KEY_ANSWER).await {
            Answer::Link { to, or_device } => {
                interactive.shows(to, or_device);
                self.progress.send_replace(Progress::SigningOn);
                interactive.begin(user)
            }
            answer @ Answer::NoBecause(_) => interactive.judged(answer),
            _ => over(),
        }
    }

    fn proven(&mut self) -> Auth {
        self.place.proven();
        self.progress.send_replace(Progress::Proven);
        Auth::Accept
    }

    /// Somebody is proven, or has only a code to type or to sign in.
    fn is_settled(&self) -> bool {
        *self.progress.borrow() != Progress::Nobody
    }

    async fn yes(&mut self, ask: Ask) -> bool {
        self.ask(ask).await == Answer::Yes
    }

    async fn ask(&mut self, ask: Ask) -> Answer {
        if !self.introduced {
            self.introduced = true;
            let client = self.wire.client().unwrap_or_default().to_owned();
            self.monitor.tell(Ask::Client(client)).await;
        }
        self.monitor.ask(ask, None, KEY_ANSWER).await
    }
}

/// The offer, if the key is of a kind that is served here.
fn offer(user: &str, key: &PublicKey, algorithm: &Algorithm) -> Option<Offer> {
    if !algorithms::accepts_client_key(key, algorithm) {
        return None;
    }
    Some(Offer {
        principal: user.to_owned(),
        public_key: key.to_openssh().ok()?,
        certificate: None,
        algorithm: algorithm.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::messages::Envelope;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnAB1lXhmRLAAL2WuyW6oQ2RZ8Ok7hXW1VpJcMlvqF/";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMJ7t1R0OYNBeTjVtN3SV6+WbQWOL8ZlVd0qTVvJmPZ8";

    /// A deciding side that says yes to all and writes it down.
    fn agreeable() -> (
        Authentication,
        mpsc::UnboundedReceiver<Ask>,
        watch::Receiver<Progress>,
    ) {
        let (asks, mut asked) = mpsc::channel::<Envelope>(1);
        let (heard, hears) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(envelope) = asked.recv().await {
                heard.send(*envelope.ask).unwrap();
                drop(envelope.reply.send(Answer::Yes));
            }
        });
        let (progress, was_proven) = watch::channel(Progress::Nobody);
        let monitor = Monitor::new(asks, CancellationToken::new());
        (
            Authentication::new(monitor, Wire::new(), Place::uncounted(), progress),
            hears,
            was_proven,
        )
    }

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[tokio::test]
    async fn an_identity_once_proven_cannot_be_changed() {
        let (mut authentication, mut asked, was_proven) = agreeable();
        let ed25519 = Algorithm::Ed25519;
        let one = key(ONE);
        let auth = authentication.verified("operator-a", &one, &ed25519);
        assert_eq!(auth.await, Auth::Accept);
        assert_eq!(*was_proven.borrow(), Progress::Proven);
        for (login, key) in [("admin", key(OTHER)), ("operator-a", key(ONE))] {
            let auth = authentication.verified(login, &key, &ed25519).await;
            assert_eq!(auth, Auth::reject());
        }
        assert!(!authentication.offered("admin", &key(OTHER), &ed25519).await);
        drop(authentication);
        let mut asks = Vec::new();
        while let Some(ask) = asked.recv().await {
            asks.push(ask);
        }
        assert!(
            matches!(&asks[..], [Ask::Client(_), Ask::Authenticate(offer)] if offer.principal == "operator-a"),
            "{asks:?}"
        );
    }

    #[tokio::test]
    async fn an_offer_proves_nothing_and_offers_are_bounded() {
        let (mut authentication, _asked, was_proven) = agreeable();
        let mut accepted = 0;
        for _ in 0..100 {
            if authentication
                .offered("x", &key(ONE), &Algorithm::Ed25519)
                .await
            {
                accepted += 1;
            }
        }
        assert_eq!(accepted, OFFERS);
        assert_eq!(*was_proven.borrow(), Progress::Nobody);
        let one = key(ONE);
        let auth = authentication.verified("x", &one, &Algorithm::Ed25519);
        assert_eq!(auth.await, Auth::Accept, "a proof is no offer");
    }

    #[tokio::test]
    async fn a_key_signs_as_what_it_is() {
        let (mut authentication, _asked, _was_proven) = agreeable();
        for algorithm in [
            Algorithm::SkEd25519,
            Algorithm::Rsa { hash: None },
            Algorithm::Ecdsa {
                curve: russh::keys::EcdsaCurve::NistP256,
            },
        ] {
            assert!(!authentication.offered("x", &key(ONE), &algorithm).await);
            let auth = authentication.verified("x", &key(ONE), &algorithm).await;
            assert_eq!(auth, Auth::reject());
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_enough_is_the_last_that_is_looked_at() {
        let (asks, mut asked) = mpsc::channel::<Envelope>(1);
        let (heard, mut hears) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(envelope) = asked.recv().await {
                let answer = match &*envelope.ask {
                    Ask::Authenticate(_) => Answer::Code,
                    Ask::Code(code) if code.expose() == "123456" => Answer::Yes,
                    _ => Answer::No,
                };
                heard.send(*envelope.ask).unwrap();
                drop(envelope.reply.send(answer));
            }
        });
        let (progress, seen) = watch::channel(Progress::Nobody);
        let monitor = Monitor::new(asks, CancellationToken::new());
        let mut authentication =
            Authentication::new(monitor, Wire::new(), Place::uncounted(), progress);
        let none = None::<std::iter::Empty<Bytes>>;
        assert_eq!(
            authentication.interactive("editor", none.clone()).await,
            None
        );
        let (one, other, ed25519) = (key(ONE), key(OTHER), Algorithm::Ed25519);
        let auth = authentication.verified("editor", &one, &ed25519).await;
        assert_eq!(auth, ask_for_code());
        assert_eq!(*seen.borrow(), Progress::Signed);
        for key in [&one, &other] {
            let auth = authentication.verified("editor", key, &ed25519).await;
            assert_eq!(auth, Auth::reject());
            assert!(!authentication.offered("editor", key, &ed25519).await);
        }
        let typed = |code: &'static str| Some(std::iter::once(Bytes::from(code)));
        for (code, proven) in [("654321", false), ("123456", true)] {
            let prompt = authentication.interactive("editor", none.clone()).await;
            assert!(matches!(prompt, Some(Auth::Partial { .. })));
            let auth = authentication.interactive("editor", typed(code)).await;
            assert_eq!(auth == Some(Auth::Accept), proven, "{code}");
            assert_eq!(*seen.borrow() == Progress::Proven, proven);
        }
        assert_eq!(authentication.interactive("editor", none).await, None);
        let mut asks = 0;
        while hears.try_recv().is_ok() {
            asks += 1;
        }
        assert_eq!(asks, 4, "the client, its key, two codes");
    }
}
