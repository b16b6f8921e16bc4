//! The side that decides: one conversation with each connection, one task for each session.

mod device;
mod sign_on;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, Event};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::custody::Custody;
use crate::gateway::Gateway;
use crate::identity::{self, Identity, Proof, Refusal};
use crate::launch::{LaunchError, Launcher};
use crate::locks::Locking;
use crate::log::{EvidenceLog, Witnesses};
use crate::messages::{
    Answer, Ask, Command, Envelope, MonitorLink, Offer, Open, Order, Peer, SessionLink,
};
use crate::mint::Leases;
use crate::oidc::{Attempts, NotSignedOn, Providers, SignOnStore, Ticket};
use crate::policy;
use crate::recording::{Recorder, Recordings};
use crate::revoke;
use crate::server::Source;
use crate::session::{self, Caller, Live, Tunnels};
use crate::signing::Signing;
use crate::store::FsStore;
use crate::store::room::Room;
use crate::strangers::Strangers;
use crate::totp::{CodeRefused, Codes, Hidden};

/// Questions under way from one connection.
const ASKS: usize = 8;
/// Orders under way to one connection: the first one ends it.
const ORDERS: usize = 1;

/// Keys that are put on record where nobody was proven: more than any client offers before it is sent away.
const DECLINED: usize = 20;

/// Codes that are looked at on one connection.
const CODES: u32 = 3;

/// How often open sessions are held against the clock at least: it may be set.
const RECHECK: Duration = Duration::from_secs(30);

/// What decides, mints, records and launches.
#[derive(Debug)]
pub struct Monitor {
    /// The configuration in force; follows reloads.
    pub config: watch::Receiver<Arc<Config>>,
    /// Locks and unlocks; what is locked stands in the configuration.
    pub locking: Locking,
    /// Checks one-time codes; who is enrolled stands in the configuration.
    pub codes: Codes,
    /// Who is about to sign in in a browser.
    pub attempts: Attempts,
    /// Whom to ask about those who sign in without one.
    pub providers: Providers,
    /// Keeps what providers have said; what counts stands in the configuration.
    pub sign_ons: SignOnStore,
    /// Held by whoever takes back what is no longer allowed.
    pub taking_back: tokio::sync::Mutex<()>,
    /// What happened and why.
    pub audit: Audit,
    /// What strangers do, in numbers.
    pub strangers: Strangers,
    /// Signs checkpoints.
    pub signing: Signing,
    /// What was recorded, in an order that cannot be changed.
    pub log: EvidenceLog,
    /// How it goes to keep its checkpoints elsewhere.
    pub witnesses: Witnesses,
    /// Opens recordings.
    pub recorder: Recorder,
    /// Where they are written.
    pub store: FsStore,
    /// Reads them.
    pub recordings: Recordings,
    /// Whether there is room for more of them.
    pub room: Room,
    /// What becomes of them when they are closed.
    pub custody: Custody,
    /// The sessions' way to their clusters.
    pub gateway: Gateway,
    /// Credentials that are out.
    pub leases: Leases,
    /// Runs commands; or why this daemon runs none.
    pub launcher: Result<Arc<dyn Launcher>, LaunchError>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Open sessions.
    pub live: Live,
    /// Conversations and sessions, for whoever waits for their end.
    pub tasks: TaskTracker,
    /// Cancelled when no conversation may go on; their connections end with them.
    pub over: CancellationToken,
}

impl Monitor {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Begins a conversation with a new connection. It ends when the connection drops its end.
    pub fn converse(self: &Arc<Self>, peer: Peer) -> MonitorLink {
        let (asks, asks_rx) = mpsc::channel(ASKS);
        let (orders_tx, orders) = mpsc::channel(ORDERS);
        let conversation = Conversation {
            monitor: Arc::clone(self),
            peer,
            proven: None,
            awaiting: None,
            told: false,
            declined: Vec::new(),
            tunnels: Tunnels::default(),
            orders: orders_tx,
        };
        self.tasks.spawn(conversation.run(asks_rx));
        MonitorLink { asks, orders }
    }

    /// Ends every session that is no longer allowed, and takes back every credential that nobody may hold any more:
    /// at once when the configuration changes or by its own dates, and within half a minute when the clock was set.
    /// Runs until the configuration's publisher is gone.
    pub async fn enforce(self: Arc<Self>) {
        // Side by side: a cluster that does not take a credential back must not keep a session alive.
        tokio::join!(self.enforce_on_sessions(), self.enforce_on_credentials());
    }

    async fn enforce_on_sessions(&self) {
        let mut changes = self.config.clone();
        loop {
            let config = Arc::clone(&changes.borrow_and_update());
            self.leases.update(&config);
            self.gateway.update(&config);
            self.end_what_is_not_allowed(&config);
            if self.next_look(&mut changes).await.is_err() {
                return;
            }
        }
    }

    /// Ends the sessions that this configuration does not allow; how many there are.
    pub(crate) fn end_what_is_not_allowed(&self, config: &Config) -> usize {
        let now = self.clock.now();
        self.live.cut_where(|_, identity, grant| {
            match policy::still_allowed(config, grant, identity, now) {
                Ok(ends) if ends <= now => Some("its time is over".into()),
                Ok(_) => None,
                Err(denial) => Some(format!("it is no longer allowed. {denial}")),
            }
        })
    }

    async fn enforce_on_credentials(self: &Arc<Self>) {
        let mut changes = self.config.clone();
        loop {
            let config = Arc::clone(&changes.borrow_and_update());
            let taking_back = self.taking_back.lock().await;
            revoke::no_longer_allowed(self, &config).await;
            drop(taking_back);
            if self.next_look(&mut changes).await.is_err() {
                return;
            }
        }
    }

    /// Waits until something may not be allowed any more.
    async fn next_look(
        &self,
        changes: &mut watch::Receiver<Arc<Config>>,
    ) -> Result<(), watch::error::RecvError> {
        let now = self.clock.now();
        let wait = policy::next_end(&changes.borrow(), now)
            .map_or(RECHECK, |end| clock::remaining(end, now).min(RECHECK));
        match tokio::time::timeout(wait, changes.changed()).await {
            Ok(changed) => changed,
            Err(_) => Ok(()),
        }
    }
}

/// A key that has signed, and what it may be once a code was accepted.
struct Awaiting {
    offer: Offer,
    /// Whose it is; `None`: nobody's, unless a provider says so.
    identity: Option<Identity>,
    wanted: Wanted,
    /// Of a link that was given.
    ticket: Option<Ticket>,
    /// Of a code that was given instead of using it.
    device: Option<device::Waiting>,
    typed: u32,
}

/// What is to be typed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// A one-time code.
    Code,
    /// What a browser shows to whoever has signed in.
    SignOn,
}

struct Conversation {
    monitor: Arc<Monitor>,
    peer: Peer,
    proven: Option<(Offer, Identity)>,
    /// A key has signed, and a code is to come.
    awaiting: Option<Awaiting>,
    /// That the connection was opened is on record.
    told: bool,
    /// Keys that are nobody's: the login name that was asked for, and the fingerprint.
    declined: Vec<(String, String)>,
    tunnels: Tunnels,
    orders: mpsc::Sender<Order>,
}

impl Conversation {
    async fn run(mut self, mut asks: mpsc::Receiver<Envelope>) {
        let monitor = Arc::clone(&self.monitor);
        let mut config = monitor.config.clone();
        self.told = self.may_tell("connection.opened");
        if self.told {
            self.tell_opened().await;
        }
        loop {
            tokio::select! {
                envelope = asks.recv() => match envelope {
                    Some(Envelope { ask, link, reply }) => {
                        let answer = self.answer(*ask, link).await;
                        // The connection may have gone without waiting.
                        drop(reply.send(answer));
                    }
                    None => break,
                },
                // Nothing more is answered, whatever the other side makes of the order.
                Ok(()) = config.changed() => if !self.prove_again() { break },
                () = monitor.over.cancelled() => break,
            }
        }
        self.tell_declined().await;
        self.tell_no_code().await;
        if !self.told {
            return;
        }
        let identity = self.proven.as_ref().map(|(_, identity)| identity.name());
        monitor
            .audit
            .tell(Event::ConnectionClosed {
                peer: &self.peer,
                identity,
            })
            .await;
    }

    /// Whether an event may be told by itself: of who is proven always, of strangers only so many.
    fn may_tell(&self, name: &'static str) -> bool {
        if self.proven.is_some() {
            return true;
        }
        let config = self.monitor.config();
        let source = Source::of(self.peer.address.ip(), &config.bastion.admission);
        self.monitor.strangers.may_tell(name, source)
    }

    async fn tell_opened(&self) {
        let event = Event::ConnectionOpened { peer: &self.peer };
        self.monitor.audit.tell(event).await;
    }

    async fn answer(&mut self, ask: Ask, link: Option<SessionLink>) -> Answer {
        let yes = match ask {
            Ask::Client(version) => {
                self.peer.client = version;
                true
            }
            Ask::Probe(offer) => self.probe(&offer),
            Ask::Authenticate(offer) => return self.authenticate(offer).await,
            Ask::Code(code) => return self.typed(&code).await,
            Ask::Link => return self.link().await,
            Ask::Device => return self.device_code().await,
            Ask::Wait => return self.wait().await,
            Ask::Open(open) => self.open(open, link),
            Ask::Ending(ending) => {
                self.cut_own(&ending.to_string());
                true
            }
            Ask::Refused { .. } if !self.may_tell("request.refused") => true,
            Ask::Refused { what } => {
                let identity = self.proven.as_ref().map(|(_, identity)| identity.name());
                let event = Event::RequestRefused {
                    peer: &self.peer,
                    identity,
                    what: &what,
                };
                self.monitor.audit.tell(event).await;
                true
            }
        };
        if yes { Answer::Yes } else { Answer::No }
    }

    /// Whether a key is worth a signature.
    fn probe(&mut self, offer: &Offer) -> bool {
        let config = self.monitor.config();
        let known = identity::is_known(&config, offer);
        if !known && self.declined.len() < DECLINED {
            let declined = (
                session::shown_principal(&offer.principal),
                identity::fingerprint_of(offer),
            );
            if !self.declined.contains(&declined) {
                self.declined.push(declined);
            }
        }
        identity::is_worth_a_signature(&config, offer)
    }

    /// Puts the keys on record that proved nobody. Not before the end: who has several keys offers one after the other until
    /// one is taken, and that is no attempt at anything.
    async fn tell_declined(&self) {
        if self.proven.is_some() {
            return;
        }
        for (principal, fingerprint) in &self.declined {
            if !self.may_tell("authentication.refused") {
                continue;
            }
            let event = Event::AuthenticationRefused {
                peer: &self.peer,
                principal,
                fingerprint,
                certificate: None,
                reason: format!("{}; it was offered, not signed with", Refusal::UnknownKey),
            };
            self.monitor.audit.tell(event).await;
        }
    }

    /// Once somebody is proven, nobody else can be on this connection; nor once somebody's key has signed, or a link was given.
    async fn authenticate(&mut self, offer: Offer) -> Answer {
        let settled = |it: &Awaiting| it.identity.is_some() || it.ticket.is_some();
        if self.proven.is_some() || self.awaiting.as_ref().is_some_and(settled) {
            return Answer::No;
        }
        let monitor = Arc::clone(&self.monitor);
        let principal = session::shown_principal(&offer.principal);
        let fingerprint = identity::fingerprint_of(&offer);
        // It is signed with now, whatever becomes of it.
        self.declined
            .retain(|(_, declined)| *declined != fingerprint);
        let (config, now) = (monitor.config(), monitor.clock.now());
        match identity::identify(&config, &offer, &self.peer, now) {
            Ok(identity) => {
                if self.told {
                    monitor.strangers.was_none();
                } else {
                    // There were too many strangers to say so when it was.
                    self.told = true;
                    self.tell_opened().await;
                }
                let remembered = monitor.codes.recall(&identity, now);
                self.next(offer, identity.with_code(remembered)).await
            }
            Err(refusal) if policy::may_sign_on(&config, &refusal) => self.may_sign_on(offer),
            Err(_) if !self.may_tell("authentication.refused") => Answer::No,
            Err(refusal) => {
                let facts = identity::certificate_facts(&monitor.config(), &offer);
                let event = Event::AuthenticationRefused {
                    peer: &self.peer,
                    principal: &principal,
                    fingerprint: &fingerprint,
                    certificate: facts.as_ref(),
                    reason: refusal.to_string(),
                };
                monitor.audit.tell(event).await;
                Answer::No
            }
        }
    }

    /// What is still to be proven by whoever holds this key, if anything is.
    async fn next(&mut self, offer: Offer, identity: Identity) -> Answer {
        let (config, now) = (self.monitor.config(), self.monitor.clock.now());
        let from = self.peer.address.ip();
        let code = identity.passed().is_none()
            && policy::asks_for_code(&config, &identity, &offer.principal, from, now);
        let (wanted, answer) = if code {
            (Wanted::Code, Answer::Code)
        } else if self.must_sign_on(&offer, &identity) {
            (Wanted::SignOn, Answer::SignOn { settled: true })
        } else {
            self.awaiting = None;
            return self.prove(offer, identity).await;
        };
        self.awaiting = Some(Awaiting {
            offer,
            identity: Some(identity),
            wanted,
            ticket: None,
            device: None,
            typed: 0,
        });
        answer
    }

    /// All is proven that was asked for.
    async fn prove(&mut self, offer: Offer, identity: Identity) -> Answer {
        let event = Event::AuthenticationOk {
            peer: &self.peer,
            identity: identity.name(),
            groups: identity.groups(),
            fingerprint: identity.proof().fingerprint(),
            certificate: identity.proof().certificate_facts(),
            factors: &identity.factors(),
            device_flow: identity.device().map(|word| word.provider()),
            principal: &session::shown_principal(&offer.principal),
        };
        if let Err(error) = self.monitor.audit.emit(event).await {
            tracing::error!("{error}");
            return Answer::No;
        }
        self.proven = Some((offer, identity));
        Answer::Yes
    }

    /// What was typed by whoever holds the key that has signed here.
    async fn typed(&mut self, typed: &Hidden) -> Answer {
        let Some(mut awaiting) = self.awaiting.take() else {
            return Answer::No;
        };
        awaiting.typed += 1;
        match awaiting.wanted {
            Wanted::Code => self.code(awaiting, typed).await,
            Wanted::SignOn => self.signed_on(awaiting, typed).await,
        }
    }

    /// What was typed as a one-time code.
    async fn code(&mut self, awaiting: Awaiting, typed: &Hidden) -> Answer {
        let monitor = Arc::clone(&self.monitor);
        let (config, now) = (monitor.config(), monitor.clock.now());
        // Typing takes its time, and the configuration may have changed.
        let Some(identity) = self.as_it_is_now(&awaiting) else {
            self.tell_code_refused(&awaiting, "the key proves nobody any more")
                .await;
            return Answer::No;
        };
        let remember = config.bastion.second_factor.remember;
        match monitor.codes.accept(&identity, typed, now, remember).await {
            Ok(accepted) => {
                let passed = accepted.passed;
                let event = Event::CodeAccepted {
                    peer: &self.peer,
                    identity: identity.name(),
                    fingerprint: identity.proof().fingerprint(),
                    principal: &session::shown_principal(&awaiting.offer.principal),
                    recovery_left: accepted.recovery_left,
                    counts_until: passed.until(),
                };
                if let Err(error) = monitor.audit.emit(event).await {
                    tracing::error!("{error}");
                    return Answer::No;
                }
                let identity = identity.with_code(Some(passed));
                let next = self.next(awaiting.offer, identity.clone()).await;
                if next != Answer::No && !remember.is_zero() {
                    monitor.codes.remember(&identity, passed, now);
                }
                next
            }
            Err(refused) => {
                let reason = refused.to_string();
                self.tell_code_refused(&awaiting, &reason).await;
                match refused {
                    CodeRefused::Wrong | CodeRefused::Used if awaiting.typed < CODES => {
                        self.awaiting = Some(awaiting);
                        Answer::No
                    }
                    CodeRefused::Wrong | CodeRefused::Died => Answer::No,
                    CodeRefused::NotKept(error) => {
                        tracing::error!("a one-time code is not accepted: {error}");
                        Answer::NoBecause(
                            "your code is right, but cannot be noted as used, so it is not accepted; tell your administrator"
                                .to_owned(),
                        )
                    }
                    CodeRefused::Used | CodeRefused::TooMany { .. } | CodeRefused::NotEnrolled => {
                        Answer::NoBecause(reason)
                    }
                }
            }
        }
    }

    async fn tell_code_refused(&self, awaiting: &Awaiting, reason: &str) {
        let Some(identity) = &awaiting.identity else {
            return;
        };
        let event = Event::CodeRefused {
            peer: &self.peer,
            identity: identity.name(),
            fingerprint: identity.proof().fingerprint(),
            principal: &session::shown_principal(&awaiting.offer.principal),
            reason: reason.to_owned(),
        };
        self.monitor.audit.tell(event).await;
    }

    /// A key that has signed, and nobody who knew a code.
    async fn tell_no_code(&self) {
        let Some(awaiting) = self.awaiting.as_ref().filter(|it| it.typed == 0) else {
            return;
        };
        match awaiting.wanted {
            Wanted::Code => self.tell_code_refused(awaiting, "no code was typed").await,
            Wanted::SignOn => {
                let (asked, why) = (self.asked(awaiting), sign_on::unfinished(awaiting));
                self.tell_not_signed_on(&asked, NotSignedOn::Unfinished, why.to_owned())
                    .await;
            }
        }
    }

    fn open(&mut self, open: Open, link: Option<SessionLink>) -> bool {
        let (Some((offer, identity)), Some(link)) = (&self.proven, link) else {
            return false;
        };
        let caller = Caller {
            identity: identity.clone(),
            principal: offer.principal.clone(),
            peer: self.peer.clone(),
        };
        let monitor = Arc::clone(&self.monitor);
        if let Command::Tunnel(to) = open.command {
            return self.tunnels.connect(&monitor, &caller, to, link);
        }
        self.monitor
            .tasks
            .spawn(session::serve(monitor, caller, open, link));
        true
    }

    /// Ends the sessions of this connection.
    fn cut_own(&self, reason: &str) {
        let own = self.peer.address;
        self.monitor
            .live
            .cut_where(|told, _, _| (told.client.address == own).then(|| reason.to_owned()));
    }

    /// After a reload the same offer must still prove the same identity.
    fn prove_again(&mut self) -> bool {
        let Some((offer, identity)) = &mut self.proven else {
            return true;
        };
        let config = self.monitor.config();
        let now = self.monitor.clock.now();
        match identity::identify_again(&config, offer, &self.peer, now, identity) {
            Ok(again) if again.name() == identity.name() => {
                *identity = again.with_the_rest_of(identity);
                let locked_out = policy::locked_out(&config, identity, now).err();
                if let Some(denial) = &locked_out {
                    self.disconnect(denial.to_string());
                }
                locked_out.is_none()
            }
            _ => {
                let what = match identity.proof() {
                    Proof::Key { .. } => "key",
                    Proof::SignedOn { .. } => "sign-in",
                    Proof::Certificate(_) => "certificate",
                };
                let reason =
                    format!("your {what} no longer proves who you are; ask your administrator");
                self.disconnect(reason);
                false
            }
        }
    }

    fn disconnect(&self, reason: String) {
        // First, so that their records say more than that the client went away.
        self.cut_own(&reason);
        // One order under way is enough: it ends the connection.
        drop(self.orders.try_send(Order::Disconnect { reason }));
    }
}
