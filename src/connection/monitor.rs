//! The connection's way to the deciding side: ask and wait, or tell.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::messages::{Answer, Ask, Envelope, SessionLink};

/// Refusals told to the audit log for one connection. A client can provoke them without end.
const TOLD_REFUSALS: u32 = 32;

/// Asks the deciding side. Silence, for whatever reason, is a no.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    asks: mpsc::Sender<Envelope>,
    cut: CancellationToken,
}

impl Monitor {
    pub(super) fn new(asks: mpsc::Sender<Envelope>, cut: CancellationToken) -> Self {
        Self { asks, cut }
    }

    /// Waits for the answer, at most `within`.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        link: Option<SessionLink>,
        within: Duration,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let conversation = async {
            let ask = Box::new(ask);
            self.asks.send(Envelope { ask, link, reply }).await.ok()?;
            answer.await.ok()
        };
        tokio::select! {
            answer = tokio::time::timeout(within, conversation) => {
                answer.ok().flatten().unwrap_or(Answer::No)
            }
            () = self.cut.cancelled() => Answer::No,
        }
    }

    /// Says something that needs no answer, after everything said before.
    pub(super) async fn tell(&self, ask: Ask) {
        let (reply, _nobody) = oneshot::channel();
        let envelope = Envelope {
            ask: Box::new(ask),
            link: None,
            reply,
        };
        tokio::select! {
            // A deciding side that is gone ends the connection through its orders.
            _gone = self.asks.send(envelope) => {}
            () = self.cut.cancelled() => {}
        }
    }
}

/// Tells what was refused here, for the audit log, a bounded number of times.
#[derive(Debug)]
pub(super) struct Refusals {
    monitor: Monitor,
    tasks: TaskTracker,
    told: u32,
}

impl Refusals {
    pub(super) fn new(monitor: Monitor, tasks: TaskTracker) -> Self {
        Self {
            monitor,
            tasks,
            told: 0,
        }
    }

    /// Never waits: callbacks run in russh's loop.
    pub(super) fn tell(&mut self, what: &str) {
        if self.told > TOLD_REFUSALS {
            return;
        }
        let what = if self.told == TOLD_REFUSALS {
            format!("more than {TOLD_REFUSALS} requests; the rest is not listed")
        } else {
            what.to_owned()
        };
        self.told += 1;
        let monitor = self.monitor.clone();
        self.tasks
            .spawn(async move { monitor.tell(Ask::Refused { what }).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn ask() -> Ask {
        Ask::Client(String::new())
    }

    #[tokio::test]
    async fn silence_is_a_no() {
        let (asks, mut asked) = mpsc::channel(1);
        let cut = CancellationToken::new();
        let monitor = Monitor::new(asks, cut.clone());
        assert_eq!(
            monitor.ask(ask(), None, SOON).await,
            Answer::No,
            "no answer in time"
        );

        let dropped = asked.recv().await.unwrap();
        drop(dropped);
        let (answer, ()) = tokio::join!(monitor.ask(ask(), None, Duration::MAX), async {
            drop(asked.recv().await.unwrap());
        });
        assert_eq!(answer, Answer::No, "the question was dropped");

        let (answer, ()) = tokio::join!(monitor.ask(ask(), None, Duration::MAX), async {
            let envelope = asked.recv().await.unwrap();
            envelope.reply.send(Answer::Yes).unwrap();
        });
        assert_eq!(answer, Answer::Yes);

        cut.cancel();
        drop(asked);
        assert_eq!(monitor.ask(ask(), None, Duration::MAX).await, Answer::No);
    }

    #[tokio::test]
    async fn refusals_are_told_a_bounded_number_of_times() {
        let (asks, mut asked) = mpsc::channel(1);
        let tasks = TaskTracker::new();
        let mut refusals =
            Refusals::new(Monitor::new(asks, CancellationToken::new()), tasks.clone());
        for _ in 0..1000 {
            refusals.tell("x11");
        }
        drop(refusals);
        let mut told = Vec::new();
        while let Some(envelope) = asked.recv().await {
            told.push(envelope.ask);
        }
        assert_eq!(told.len(), 33);
    }
}
