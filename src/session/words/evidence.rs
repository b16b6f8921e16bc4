//! Words for auditors. Each reading is judged anew, within the reader's scope, and is itself on record
//! before a byte is shown.

use std::collections::HashSet;
use std::time::Duration;

use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::mpsc;

use crate::audit::Event;
use crate::config::Name;
use crate::export::{Export, Format, export};
use crate::messages::{ClientEvent, Open, SessionEvent};
use crate::mint::LiveLease;
use crate::monitor::Monitor;
use crate::policy::{self, AuditScope};
use crate::recording::{Metadata, ReadError};
use crate::replay::{
    self, Filters, KeyParser, Marks, Play, PlayError, Query, ReadingWord, ReplayArgs, Summary,
};
use crate::session::client::Client;
use crate::session::{Caller, SessionId, steps};

/// Bytes of a replay on their way to a client.
const BUFFER: usize = 32 * 1024;
/// Keys on their way to a replay; one too many is dropped.
const KEYS: usize = 16;
/// Longest id that an audit event repeats, in characters.
const ASKED_SHOWN: usize = 64;
/// How wide a table is where there is no terminal to ask.
const WIDTH: usize = 120;

const NO_SCOPE: &str =
    "none of your roles reads recordings; ask your administrator for an audit role";

/// Answers one reading word and ends the channel.
pub(super) async fn answer(
    monitor: &Monitor,
    caller: &Caller,
    open: &Open,
    word: ReadingWord,
    client: Client,
) {
    let reader = Reader {
        monitor,
        caller,
        scope: scope(monitor, caller),
    };
    let told = match word {
        ReadingWord::Sessions(filters) => reader.sessions(&filters, open).await,
        ReadingWord::Show { id } => reader.show(&id).await,
        ReadingWord::Fetch { id } => return reader.fetch(&id, client).await,
        ReadingWord::Replay(how) => return reader.replay(&how, open, client).await,
    };
    match told {
        Ok(text) => super::finish(&client, &text).await,
        Err(sentence) => fail(&client, &sentence).await,
    }
}

struct Reader<'a> {
    monitor: &'a Monitor,
    caller: &'a Caller,
    scope: Option<AuditScope>,
}

impl Reader<'_> {
    async fn sessions(&self, filters: &Filters, open: &Open) -> Result<String, String> {
        self.on_record("sessions", None, self.scope.is_some())
            .await?;
        let query = filters
            .query(self.monitor.clock.now())
            .map_err(|error| error.to_string())?;
        let live = live(self.monitor);
        let mut found = replay::find(&self.monitor.recordings, &query, &live, |session| {
            self.sees(session)
        })
        .await
        .map_err(|error| error.to_string())?;
        self.marks().await?.put_on(&mut found.sessions);
        let leases = self.handed_out(&query);
        if filters.json {
            return replay::json_lines(&found.sessions)
                .and_then(|sessions| Ok(sessions + &replay::lease_lines(&leases)?))
                .map(|lines| lines + &replay::unsearched_lines(&found.unsearched))
                .map_err(|error| error.to_string());
        }
        let width = open
            .terminal
            .as_ref()
            .map_or(WIDTH, |terminal| terminal.size.cols.into());
        let mut text = replay::table(&found.sessions, width);
        if found.more {
            text.push_str("there are more: narrow the search, or give --limit\n");
        }
        text.push_str(&replay::unsearched(&found.unsearched));
        Ok(text + &replay::lease_table(&leases))
    }

    async fn show(&self, id: &str) -> Result<String, String> {
        let summary = self.find("show", id).await?;
        let live = live(self.monitor);
        let whole = summary.id().to_string();
        let marks = self.marks().await?;
        let page = replay::show_kept(&self.monitor.recordings, &whole, &live, &marks, |session| {
            self.sees(session)
        })
        .await;
        page.map(|(_, page)| page)
            .map_err(|error| error.to_string())
    }

    async fn fetch(&self, id: &str, client: Client) {
        let what = Export {
            format: Format::AsciicastV3,
            stream: None,
            timestamps: false,
            requests: false,
            from: Duration::ZERO,
        };
        match self.find("fetch", id).await {
            Ok(summary) => self.export(summary.id(), what, client).await,
            Err(sentence) => fail(&client, &sentence).await,
        }
    }

    /// At a terminal a replay with keys; without one the text of it.
    async fn replay(&self, how: &ReplayArgs, open: &Open, client: Client) {
        let summary = match self.find("replay", &how.id).await {
            Ok(summary) => summary,
            Err(sentence) => return fail(&client, &sentence).await,
        };
        let at = match how.begin(summary.session.opened, self.monitor.clock.now()) {
            Ok(at) => at,
            Err(error) => return fail(&client, &error.to_string()).await,
        };
        let Some(terminal) = &open.terminal else {
            let what = Export {
                format: Format::Text,
                stream: None,
                timestamps: false,
                requests: how.requests,
                from: at,
            };
            return self.export(summary.id(), what, client).await;
        };
        let play = Play {
            speed: how.speed,
            idle_limit: how.idle_limit,
            at,
            requests: how.requests,
            terminal: terminal.size,
        };
        self.play(summary.id(), play, client).await;
    }

    async fn play(&self, id: SessionId, play: Play, client: Client) {
        let Client {
            mut from,
            to,
            terminal,
        } = client;
        let (mut out, shown) = tokio::io::duplex(BUFFER);
        let (keys_tx, mut keys) = mpsc::channel(KEYS);
        let playing = async {
            let played =
                replay::play(&self.monitor.recordings, id, &mut out, &mut keys, play).await;
            drop(out);
            played
        };
        let typing = async {
            let mut parser = KeyParser::default();
            while let Some(event) = from.recv().await {
                let ClientEvent::Data(bytes) = event else {
                    continue;
                };
                for key in bytes.iter().filter_map(|byte| parser.feed(*byte)) {
                    if keys_tx.try_send(key).is_err() {
                        tracing::debug!("a key was dropped: too many under way");
                    }
                }
            }
        };
        let shown_all = show_to(shown, &to);
        let both = async { tokio::join!(playing, shown_all).0 };
        let played = tokio::select! {
            played = both => played.map_err(|error| told(&error)),
            // The client is gone.
            () = typing => return,
        };
        let (_, nobody) = mpsc::channel(1);
        end(
            &Client {
                from: nobody,
                to,
                terminal,
            },
            played,
        )
        .await;
    }

    async fn export(&self, id: SessionId, what: Export, client: Client) {
        let (mut out, shown) = tokio::io::duplex(BUFFER);
        let exporting = async {
            let exported = export(&self.monitor.recordings, id, what, &mut out).await;
            drop(out);
            exported
        };
        let (exported, ()) = tokio::join!(exporting, show_to(shown, &client.to));
        end(&client, exported.map_err(|error| told(&error))).await;
    }

    /// The one that is meant, if the reader may see it; that it was asked for is on record either way.
    async fn find(&self, word: &str, id: &str) -> Result<Summary, String> {
        if self.scope.is_none() {
            // Nothing is looked for that could not be shown.
            self.on_record(word, Some((id, None)), false).await?;
        }
        let live = live(self.monitor);
        let found = replay::resolve(&self.monitor.recordings, id, &live, |session| {
            self.sees(session)
        })
        .await;
        let session = found.as_ref().ok().map(Summary::id);
        let allowed = self.scope.is_some() && session.is_some();
        self.on_record(word, Some((id, session)), allowed).await?;
        found.map_err(|error| error.to_string())
    }

    async fn on_record(
        &self,
        word: &str,
        one: Option<(&str, Option<SessionId>)>,
        allowed: bool,
    ) -> Result<(), String> {
        let (identity, peer) = (self.caller.identity.name(), &self.caller.peer);
        let asked = one.map(|(asked, _)| steps::shown(asked, ASKED_SHOWN));
        let event = Event::RecordingRead {
            identity,
            peer,
            word,
            asked: asked.as_deref(),
            session: one.and_then(|(_, session)| session),
            allowed,
        };
        steps::on_record(self.monitor, event).await?;
        if self.scope.is_some() {
            Ok(())
        } else {
            Err(no_scope(self.monitor, self.caller))
        }
    }

    async fn marks(&self) -> Result<Marks, String> {
        let marks = self.monitor.custody.marks().await;
        marks.map_err(|error| error.to_string())
    }

    fn sees(&self, session: &Metadata) -> bool {
        self.sees_session(&session.cluster, &session.identity)
    }

    fn sees_session(&self, cluster: &Name, identity: &Name) -> bool {
        self.scope
            .as_ref()
            .is_some_and(|scope| scope.allows(cluster, identity))
    }

    /// Credentials that are out: sessions that have ended and live on in them.
    fn handed_out(&self, query: &Query) -> Vec<LiveLease> {
        let mut leases = self.monitor.leases.live();
        leases.retain(|lease| {
            lease.state.is_with_a_client()
                && self.sees_session(&lease.cluster, &lease.identity)
                && query.means_lease(lease)
        });
        leases
    }
}

/// Whoever reads over ssh has no key here, and may have one at home.
fn told(error: &PlayError) -> String {
    match error {
        PlayError::Read(ReadError::Encrypted) => "this recording is encrypted, and this bastion has no key to it. Where you have one: \
             ssh HOST bastion fetch ID | age -d -i KEY | zstd -dc | asciinema play - \
             (of one that is still as it was written: `bastion-audit export ID --identity KEY` on the bastion)"
            .to_owned(),
        error => error.to_string(),
    }
}

/// Why somebody reads nothing.
fn no_scope(monitor: &Monitor, caller: &Caller) -> String {
    let (from, now) = (caller.peer.address.ip(), monitor.clock.now());
    let unproven = policy::audit_denial(&monitor.config(), &caller.identity, from, now);
    unproven.map_or_else(|| NO_SCOPE.to_owned(), |denial| denial.to_string())
}

fn scope(monitor: &Monitor, caller: &Caller) -> Option<AuditScope> {
    let from = caller.peer.address.ip();
    policy::audit_scope(
        &monitor.config(),
        &caller.identity,
        from,
        monitor.clock.now(),
    )
}

fn live(monitor: &Monitor) -> HashSet<SessionId> {
    monitor
        .live
        .list()
        .into_iter()
        .map(|session| session.session)
        .collect()
}

/// Carries what was written to the client, until there is no more or nobody to see it.
async fn show_to(mut shown: DuplexStream, to: &mpsc::Sender<SessionEvent>) {
    loop {
        let mut chunk = bytes::BytesMut::with_capacity(BUFFER);
        match shown.read_buf(&mut chunk).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if to.send(SessionEvent::Stdout(chunk.freeze())).await.is_err() {
            return;
        }
    }
}

async fn end(client: &Client, result: Result<(), String>) {
    match result {
        Ok(()) if client.send(SessionEvent::Exit(0)).await.is_err() => {
            tracing::debug!("a reader left before the end");
        }
        Ok(()) => {}
        Err(sentence) => fail(client, &sentence).await,
    }
}

async fn fail(client: &Client, sentence: &str) {
    client
        .last_words(&format!("bastion-audit: {sentence}"), 1)
        .await;
}
