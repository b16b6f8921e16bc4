//! What the daemon has given out and is still good for something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::book::{Book, Entry};
use crate::config::Name;
use crate::mint::Credential;
use crate::session::SessionId;

/// The secrets that are out: the tokens of sessions and of clients, and the bearers of kubeconfigs. One for the daemon;
/// clones are the same. It holds them as long as they count, each once, and wipes what it forgets.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Of each session, the tokens that its lease has had.
    tokens: BTreeMap<SessionId, Vec<Token>>,
    /// Of each identity, the bearer of its present generation.
    bearers: BTreeMap<Name, Entry>,
    /// Made when it is first asked for: many changes between two pieces of output cost one.
    book: Option<Arc<Book>>,
}

struct Token {
    entry: Entry,
    expires: Timestamp,
}

impl Secrets {
    /// A token that is about to be used or handed out; not beyond `expires`. Those of the same session that have
    /// expired are forgotten.
    pub fn token(
        &self,
        session: SessionId,
        token: &Arc<Credential>,
        jti: &str,
        expires: Timestamp,
        now: Timestamp,
    ) {
        let Some(entry) = Entry::new(Arc::clone(token), Some(Arc::from(jti))) else {
            return;
        };
        let mut known = self.lock();
        let tokens = known.tokens.entry(session).or_default();
        tokens.retain(|token| token.expires > now);
        tokens.push(Token { entry, expires });
        known.book = None;
    }

    /// A session's tokens were taken back, or have expired.
    pub fn forget(&self, session: SessionId) {
        let mut known = self.lock();
        if known.tokens.remove(&session).is_some() {
            known.book = None;
        }
    }

    /// The bearer that counts for an identity from now on. A former one counts no more, and is forgotten.
    pub fn bearer(&self, identity: &Name, bearer: String) {
        let mut known = self.lock();
        let same = known
            .bearers
            .get(identity)
            .is_some_and(|entry| entry.secret.expose() == bearer);
        if same {
            return;
        }
        if let Some(entry) = Entry::new(Arc::new(Credential::new(bearer)), None) {
            known.bearers.insert(identity.clone(), entry);
            known.book = None;
        }
    }

    /// How many are out.
    pub fn count(&self) -> usize {
        let known = self.lock();
        let tokens: usize = known.tokens.values().map(Vec::len).sum();
        tokens.saturating_add(known.bearers.len())
    }

    /// All of them, to search by.
    pub(crate) fn book(&self) -> Arc<Book> {
        let mut known = self.lock();
        if let Some(book) = &known.book {
            return Arc::clone(book);
        }
        let tokens = known.tokens.values().flatten().map(|token| &token.entry);
        let book = Arc::new(Book::new(tokens.chain(known.bearers.values()).cloned()));
        known.book = Some(Arc::clone(&book));
        book
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
