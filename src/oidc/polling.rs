//! Asking a provider for the outcome of a device code, again and again and not without end (RFC 8628, 3.4 and 3.5).
//!
//! `openidconnect` asks and waits: for the interval that it was told, 5 s more after each `slow_down`, twice as long where there was no answer. Here it is held
//! within bounds that no provider can move.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::{
    AsyncHttpClient, DeviceAccessTokenRequest, DeviceCodeErrorResponse,
    EmptyExtraDeviceAuthorizationFields, HttpRequest, HttpResponse, RequestTokenError,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::Tokens;
use super::http::HttpError;
use crate::clock;

/// Between two questions at least, whatever a provider says: what it is to be where it says nothing (RFC 8628, 3.2).
const SHORTEST: Duration = Duration::from_secs(5);
/// Questions about one code: more than there are in an attempt's life.
const MOST: u32 = 64;
/// Of these, one after the other without an answer.
const MOST_UNANSWERED: u32 = 2;

type Request<'a> =
    DeviceAccessTokenRequest<'a, 'static, Tokens, EmptyExtraDeviceAuthorizationFields>;
/// What a provider said instead of giving a token.
pub(super) type Polled = RequestTokenError<HttpError, DeviceCodeErrorResponse>;
/// Asks once.
pub(super) type Ask = Box<dyn Fn(HttpRequest) -> Answering + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

/// Why there is no token.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nobody has signed in in time.
    Late,
    /// There were no answers, or too many that say nothing.
    Unanswered(String),
    Said(Polled),
}

/// The provider's tokens for a code, by then or not at all.
pub(super) async fn poll(request: Request<'_>, ends: Instant, ask: Ask) -> Result<Tokens, Ended> {
    let began = clock::monotonic();
    let left = ends.saturating_duration_since(began);
    let asking = Asking {
        ask,
        asked: AtomicU32::new(0),
        unanswered: AtomicU32::new(0),
        why: Mutex::default(),
        given_up: Notify::new(),
    };
    let asked = request
        // By a clock that nobody sets.
        .set_time_fn(move || {
            let since = clock::monotonic().saturating_duration_since(began);
            let since = TimeDelta::from_std(since).ok();
            let now = since.and_then(|since| DateTime::UNIX_EPOCH.checked_add_signed(since));
            now.unwrap_or(DateTime::<Utc>::MAX_UTC)
        })
        // Never less than it was told.
        .set_max_backoff_interval(left.max(SHORTEST))
        .request_async(
            &asking,
            |interval| tokio::time::sleep(interval.max(SHORTEST)),
            Some(left),
        );
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(ends) => Err(Ended::Late),
        () = asking.given_up.notified() => Err(Ended::Unanswered(asking.why())),
        said = asked => said.map_err(Ended::Said),
    }
}

/// The way to a provider, which counts.
struct Asking {
    ask: Ask,
    asked: AtomicU32,
    unanswered: AtomicU32,
    why: Mutex<String>,
    given_up: Notify,
}

impl Asking {
    fn give_up(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.given_up.notify_one();
    }

    fn why(&self) -> String {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone()
    }

    fn heard(&self, answer: &Result<HttpResponse, HttpError>) {
        match answer {
            Ok(_) => self.unanswered.store(0, Ordering::Relaxed),
            Err(error) => {
                if self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_UNANSWERED {
                    self.give_up(error.to_string());
                }
            }
        }
    }
}

impl<'c> AsyncHttpClient<'c> for Asking {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            if self.asked.fetch_add(1, Ordering::Relaxed) >= MOST {
                self.give_up("it was asked too often".to_owned());
                return std::future::pending().await;
            }
            let answer = (self.ask)(request).await;
            self.heard(&answer);
            answer
        })
    }
}
