//! Which key a client proves to hold. Whose it is, and whether that counts, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::Certificate;
use russh::keys::ssh_key::{Algorithm, PublicKey};
use tokio::sync::oneshot;

use super::monitor::Monitor;
use super::wire::Wire;
use crate::messages::{Answer, Ask, Offer};
use crate::server::admission::Place;
use crate::server::algorithms;

/// How long the deciding side may take to answer about a key.
const KEY_ANSWER: Duration = Duration::from_secs(10);

/// Keys asked about on one connection. russh does not count an offer that is accepted.
const OFFERS: u32 = 20;

/// One connection's way to a proven identity.
#[derive(Debug)]
pub(super) struct Authentication {
    monitor: Monitor,
    wire: Arc<Wire>,
    place: Arc<Place>,
    /// Present until an identity is proven: there is no second one.
    proven: Option<oneshot::Sender<()>>,
    introduced: bool,
    offers: u32,
}

impl Authentication {
    /// `proven` hears of the first identity.
    pub(super) fn new(
        monitor: Monitor,
        wire: Arc<Wire>,
        place: Arc<Place>,
        proven: oneshot::Sender<()>,
    ) -> Self {
        Self {
            monitor,
            wire,
            place,
            proven: Some(proven),
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
        if self.proven.is_none() || self.offers > OFFERS {
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
    ) -> bool {
        match offer(user, key, algorithm) {
            Some(offer) => self.proves(offer).await,
            None => false,
        }
    }

    /// The same for a certificate, whose key's signature russh has verified.
    pub(super) async fn certified(&mut self, user: &str, certificate: &Certificate) -> bool {
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
            _ => false,
        }
    }

    async fn proves(&mut self, offer: Offer) -> bool {
        self.tried();
        if self.proven.is_none() {
            return false;
        }
        if !self.yes(Ask::Authenticate(offer)).await {
            return false;
        }
        self.place.proven();
        self.proven
            .take()
            .is_some_and(|proven| proven.send(()).is_ok())
    }

    async fn yes(&mut self, ask: Ask) -> bool {
        if !self.introduced {
            self.introduced = true;
            let client = self.wire.client().unwrap_or_default().to_owned();
            self.monitor.tell(Ask::Client(client)).await;
        }
        self.monitor.ask(ask, None, KEY_ANSWER).await == Answer::Yes
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
        oneshot::Receiver<()>,
    ) {
        let (asks, mut asked) = mpsc::channel::<Envelope>(1);
        let (heard, hears) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(envelope) = asked.recv().await {
                heard.send(envelope.ask).unwrap();
                drop(envelope.reply.send(Answer::Yes));
            }
        });
        let (proven, was_proven) = oneshot::channel();
        let monitor = Monitor::new(asks, CancellationToken::new());
        (
            Authentication::new(monitor, Wire::new(), Place::uncounted(), proven),
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
        assert!(
            authentication
                .verified("operator-a", &key(ONE), &ed25519)
                .await
        );
        was_proven.await.unwrap();
        assert!(
            !authentication
                .verified("admin", &key(OTHER), &ed25519)
                .await
        );
        assert!(
            !authentication
                .verified("operator-a", &key(ONE), &ed25519)
                .await
        );
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
        let (mut authentication, _asked, mut was_proven) = agreeable();
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
        was_proven.try_recv().unwrap_err();
        assert!(
            authentication
                .verified("x", &key(ONE), &Algorithm::Ed25519)
                .await,
            "a proof is no offer"
        );
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
            assert!(!authentication.verified("x", &key(ONE), &algorithm).await);
        }
    }
}
