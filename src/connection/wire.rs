//! What the rest of a connection knows of, and does to, its socket: flow control, the clock of its silence,
//! and the cut.
//!
//! russh gives a client its window back when a packet arrives, not when somebody has read it, and offers no
//! way to hold that back but one: after each refill it asks how far to refill next time. So the answer is
//! what is left of the window beside the input that nobody has taken ([`Wire::refill`]). When nothing is left, the
//! client may still send [`TRICKLE`] bytes at a time, since russh asks again only when something arrives; the
//! socket then rests a little after each of them. What matters more than input, such as the window adjustments
//! that output waits for, closes and keepalives, therefore always comes through: a command that writes
//! before it reads does not hang, and other channels go on. A client that keeps to its windows meets no other limit;
//! for one that does not, the socket stops being read at [`PAUSE_AT`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// The window of each channel, and what a connection's undelivered input should stay under. As OpenSSH's:
/// 160 Mbit/s at 100 ms.
pub(crate) const WINDOW: u32 = 2 * 1024 * 1024;

/// The least that russh can refill a window to.
const TRICKLE: u32 = 2;

/// The pause after each trickle.
const REST: Duration = Duration::from_millis(5);

/// Undelivered input of a connection at which it is not read at all.
const PAUSE_AT: usize = 8 * WINDOW as usize;

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
    rests_until: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn is_full(&self) -> bool {
        self.undelivered >= WINDOW as usize
    }

    fn may_read(&mut self) -> MayRead {
        if self.cut {
            return MayRead::Cut;
        }
        if self.undelivered > PAUSE_AT {
            return MayRead::Later(None);
        }
        match self.rests_until {
            Some(until) if self.is_full() && clock::monotonic() < until => {
                MayRead::Later(Some(until))
            }
            _ => {
                self.rests_until = None;
                MayRead::Now
            }
        }
    }
}

/// Whether the socket may be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MayRead {
    Now,
    /// Not before this, or before input was taken: the reader is woken then.
    Later(Option<Instant>),
    Cut,
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

    /// Whether the socket may be read. If not, the reader is woken when input was taken or the wire is cut.
    pub(super) fn may_read(&self, cx: &Context<'_>) -> MayRead {
        let mut state = self.state();
        remember(&mut state.reader, cx);
        state.may_read()
    }

    /// Whether the socket may be written. The writer is woken when the wire is cut.
    pub(super) fn may_write(&self, cx: &Context<'_>) -> Result<(), Cut> {
        let mut state = self.state();
        if state.cut {
            return Err(Cut);
        }
        remember(&mut state.writer, cx);
        Ok(())
    }

    /// Whether the socket is not read at all: silence is then ours, not the client's.
    pub(super) fn is_paused(&self) -> bool {
        self.state().undelivered > PAUSE_AT
    }

    /// How far a window is to be refilled next.
    pub(super) fn refill(&self) -> u32 {
        let undelivered = u32::try_from(self.state().undelivered).unwrap_or(u32::MAX);
        WINDOW.saturating_sub(undelivered).max(TRICKLE)
    }

    /// A packet with so many bytes of input came. After a trickle the socket rests.
    pub(super) fn took(&self, bytes: usize) {
        self.used_now();
        if bytes <= TRICKLE as usize {
            let mut state = self.state();
            if state.is_full() {
                state.rests_until = Some(clock::monotonic() + REST);
            }
        }
    }

    /// Counts input as undelivered.
    pub(super) fn hold(&self, bytes: usize) {
        let mut state = self.state();
        state.undelivered = state.undelivered.saturating_add(bytes);
    }

    /// Input was taken, or is of no use any more.
    pub(super) fn release(&self, bytes: usize) {
        let waker = {
            let mut state = self.state();
            let waited = state.may_read() != MayRead::Now;
            state.undelivered = state.undelivered.saturating_sub(bytes);
            if waited && state.may_read() == MayRead::Now {
                state.reader.take()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        slot => *slot = Some(cx.waker().clone()),
    }
}

/// Whatever a client claims to be goes to logs and terminals: printable ASCII only.
pub(crate) fn printable(line: &[u8]) -> String {
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
    fn what_nobody_took_is_no_window() {
        let wire = Wire::new();
        assert_eq!(wire.refill(), WINDOW);
        wire.hold(1000);
        assert_eq!(wire.refill(), WINDOW - 1000);
        wire.hold(3 * WINDOW as usize);
        assert_eq!(
            wire.refill(),
            TRICKLE,
            "russh never asks again after a zero"
        );
        wire.release(3 * WINDOW as usize + 1000);
        assert_eq!(wire.refill(), WINDOW);
    }

    #[test]
    fn the_socket_rests_after_a_trickle_until_input_is_taken() {
        let wire = Wire::new();
        let (woken, waker) = waker();
        let cx = Context::from_waker(&waker);
        wire.took(1);
        assert_eq!(
            wire.may_read(&cx),
            MayRead::Now,
            "a keystroke is no trickle"
        );
        wire.hold(WINDOW as usize);
        wire.took(32 * 1024);
        assert_eq!(wire.may_read(&cx), MayRead::Now, "what was granted is read");
        wire.took(2);
        assert!(matches!(wire.may_read(&cx), MayRead::Later(Some(_))));
        assert!(!wire.is_paused());
        wire.release(1);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(wire.may_read(&cx), MayRead::Now);
    }

    #[test]
    fn a_client_that_ignores_its_windows_is_not_read() {
        let wire = Wire::new();
        let (woken, waker) = waker();
        let cx = Context::from_waker(&waker);
        wire.hold(PAUSE_AT + 1);
        assert_eq!(wire.may_read(&cx), MayRead::Later(None));
        assert!(wire.is_paused());
        wire.release(1);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(wire.may_read(&cx), MayRead::Now);
    }

    #[test]
    fn a_cut_wakes_both_halves_and_stays() {
        let wire = Wire::new();
        let (woken, waker) = waker();
        let cx = Context::from_waker(&waker);
        wire.hold(PAUSE_AT + 1);
        assert_eq!(wire.may_read(&cx), MayRead::Later(None));
        assert_eq!(wire.may_write(&cx), Ok(()));
        wire.cut();
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        assert_eq!(wire.may_read(&cx), MayRead::Cut);
        assert_eq!(wire.may_write(&cx), Err(Cut));
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
