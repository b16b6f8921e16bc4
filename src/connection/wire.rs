//! What the rest of a connection knows of, and does to, its socket.
//!
//! russh reads and refills channel windows as fast as packets arrive and offers no way to hold a window
//! back, and its loop does nothing else while a callback waits. So the one place where input can be pushed
//! back without stopping output, timers and kills is under russh: the socket stops reading while too much
//! input of its channels is undelivered. That blocks further input of this connection only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// Undelivered input of a connection at which reading pauses.
const PAUSE_AT: usize = 512 * 1024;

/// The same while output waits for the client's window. The adjustment that it waits for comes behind the
/// unread input, so a command that writes before it reads would hang at `PAUSE_AT`. This is also the
/// most that a connection's undelivered input takes in memory.
const PAUSE_AT_WHILE_STARVING: usize = 8 * 1024 * 1024;

/// One connection's socket as its tasks see it.
#[derive(Debug)]
pub(super) struct Wire {
    opened: Instant,
    /// Milliseconds after `opened` when bytes last came in.
    heard: AtomicU64,
    /// Milliseconds after `opened` when channel data last went either way.
    used: AtomicU64,
    client: OnceLock<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cut: bool,
    undelivered: usize,
    starving: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn paused(&self) -> bool {
        let limit = if self.starving > 0 {
            PAUSE_AT_WHILE_STARVING
        } else {
            PAUSE_AT
        };
        self.undelivered > limit
    }

    fn wake_reader_unless_paused(&mut self) -> Option<Waker> {
        if self.paused() {
            None
        } else {
            self.reader.take()
        }
    }
}

/// The connection was cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut;

impl Wire {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: clock::monotonic(),
            heard: AtomicU64::new(0),
            used: AtomicU64::new(0),
            client: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    /// Fails all reading and writing from now on.
    pub(super) fn cut(&self) {
        let (reader, writer) = {
            let mut state = self.state();
            state.cut = true;
            (state.reader.take(), state.writer.take())
        };
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Ready when the socket may be read. Otherwise the reader is woken when it may, or when the wire is cut.
    pub(super) fn poll_may_read(&self, cx: &Context<'_>) -> Poll<Result<(), Cut>> {
        let mut state = self.state();
        if state.cut {
            return Poll::Ready(Err(Cut));
        }
        remember(&mut state.reader, cx);
        if state.paused() {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// Wakes the writer when the wire is cut.
    pub(super) fn poll_may_write(&self, cx: &Context<'_>) -> Result<(), Cut> {
        let mut state = self.state();
        if state.cut {
            return Err(Cut);
        }
        remember(&mut state.writer, cx);
        Ok(())
    }

    /// Whether reading pauses for input that nobody takes: silence is then ours, not the client's.
    pub(super) fn is_paused(&self) -> bool {
        self.state().paused()
    }

    /// Counts input as undelivered until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        let mut state = self.state();
        state.undelivered = state.undelivered.saturating_add(bytes);
        Held {
            wire: Arc::clone(self),
            bytes,
        }
    }

    /// Says that output waits for the client's window until the guard is dropped.
    pub(super) fn starve(self: &Arc<Self>) -> Starving {
        let waker = {
            let mut state = self.state();
            state.starving = state.starving.saturating_add(1);
            state.wake_reader_unless_paused()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Starving(Arc::clone(self))
    }

    /// Bytes came in.
    pub(super) fn heard_now(&self) {
        self.heard.store(self.age(), Ordering::Relaxed);
    }

    /// Channel data went in or out.
    pub(super) fn used_now(&self) {
        self.used.store(self.age(), Ordering::Relaxed);
    }

    /// When bytes last came in.
    pub(super) fn last_heard(&self) -> Instant {
        self.opened + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// When channel data last went either way.
    pub(super) fn last_used(&self) -> Instant {
        self.opened + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// The client's version line, once it has been read.
    pub(super) fn client(&self) -> Option<&str> {
        self.client.get().map(String::as_str)
    }

    /// Keeps the client's version line, cleaned. The first one stays.
    pub(super) fn client_is(&self, line: &[u8]) {
        self.client.get_or_init(|| printable(line));
    }

    fn age(&self) -> u64 {
        let age = clock::monotonic().saturating_duration_since(self.opened);
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Input that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Held {
    wire: Arc<Wire>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.wire.state();
            let was_paused = state.paused();
            state.undelivered = state.undelivered.saturating_sub(self.bytes);
            if was_paused {
                state.wake_reader_unless_paused()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Output that waits for the client's window.
#[derive(Debug)]
pub(super) struct Starving(Arc<Wire>);

impl Drop for Starving {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.starving = state.starving.saturating_sub(1);
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        slot => *slot = Some(cx.waker().clone()),
    }
}

/// Whatever a client claims to be goes to logs and terminals: printable ASCII only.
fn printable(line: &[u8]) -> String {
    line.iter()
        .take(255)
        .map(|&b| match b {
            b' '..=b'~' => char::from(b),
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        (counter.clone(), Waker::from(counter))
    }

    #[test]
    fn reading_pauses_at_the_bound_and_wakes_when_input_is_taken() {
        let wire = Wire::new();
        let (woken, waker) = waker();
        let cx = Context::from_waker(&waker);
        let held = wire.hold(PAUSE_AT);
        assert_eq!(wire.poll_may_read(&cx), Poll::Ready(Ok(())));
        let one_more = wire.hold(1);
        assert!(wire.is_paused());
        assert_eq!(wire.poll_may_read(&cx), Poll::Pending);
        drop(one_more);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(wire.poll_may_read(&cx), Poll::Ready(Ok(())));
        drop(held);
    }

    #[test]
    fn starving_output_lets_more_input_in_but_not_without_bound() {
        let wire = Wire::new();
        let (woken, waker) = waker();
        let cx = Context::from_waker(&waker);
        let _held = wire.hold(PAUSE_AT + 1);
        assert_eq!(wire.poll_may_read(&cx), Poll::Pending);
        let starving = wire.starve();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(wire.poll_may_read(&cx), Poll::Ready(Ok(())));
        let _more = wire.hold(PAUSE_AT_WHILE_STARVING);
        assert_eq!(wire.poll_may_read(&cx), Poll::Pending);
        drop(starving);
        assert!(wire.is_paused());
    }

    #[test]
    fn a_cut_wakes_both_halves_and_stays() {
        let wire = Wire::new();
        let (woken, waker) = waker();
        let cx = Context::from_waker(&waker);
        let _held = wire.hold(PAUSE_AT + 1);
        assert_eq!(wire.poll_may_read(&cx), Poll::Pending);
        assert_eq!(wire.poll_may_write(&cx), Ok(()));
        wire.cut();
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        assert_eq!(wire.poll_may_read(&cx), Poll::Ready(Err(Cut)));
        assert_eq!(wire.poll_may_write(&cx), Err(Cut));
    }

    #[test]
    fn a_version_line_is_printable_and_bounded() {
        let wire = Wire::new();
        wire.client_is(b"SSH-2.0-\x1b[31mevil\xff");
        wire.client_is(b"SSH-2.0-second");
        assert_eq!(wire.client(), Some("SSH-2.0-?[31mevil?"));
        assert_eq!(printable(&[b'a'; 1000]).len(), 255);
    }
}
