//! Input of one session channel on its way from russh's loop to the session.
//!
//! A callback must not wait, so the queue takes everything; [`Wire`] stops the socket when too much of it is
//! undelivered.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::wire::{Held, Wire};
use crate::messages::ClientEvent;

/// What an event costs beside its bytes: a flood of signals or empty packets counts too.
const EVENT: usize = 128;

/// The callbacks' end.
#[derive(Debug)]
pub(super) struct Input {
    queue: mpsc::UnboundedSender<(ClientEvent, Held)>,
    wire: Arc<Wire>,
}

/// The session's end.
#[derive(Debug)]
pub(super) struct Undelivered {
    queue: mpsc::UnboundedReceiver<(ClientEvent, Held)>,
    /// Taken from the queue to look at it, not delivered yet.
    next: Option<(ClientEvent, Held)>,
}

pub(super) fn input(wire: Arc<Wire>) -> (Input, Undelivered) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        Input {
            queue: sender,
            wire,
        },
        Undelivered {
            queue: receiver,
            next: None,
        },
    )
}

impl Input {
    /// Queues an event. For a session that is over it is dropped.
    pub(super) fn push(&self, event: ClientEvent) {
        let bytes = match &event {
            ClientEvent::Data(data) => data.len(),
            ClientEvent::Eof | ClientEvent::Resize(_) | ClientEvent::Signal(_) => 0,
        };
        let held = self.wire.hold(bytes.saturating_add(EVENT));
        // Refused when the session's task has ended; then the event goes nowhere by design.
        drop(self.queue.send((event, held)));
    }
}

impl Undelivered {
    /// Delivers until the callbacks' end is dropped. When the session takes no more, the rest is discarded,
    /// as a pipe would do, so that it does not stop the client's other channels.
    pub(super) async fn deliver(mut self, session: &mpsc::Sender<ClientEvent>) {
        let mut wanted = true;
        while let Some((event, held)) = self.recv().await {
            if wanted {
                wanted = session.send(event).await.is_ok();
            }
            drop(held);
        }
    }

    /// The next event; of resizes in a row only the last.
    async fn recv(&mut self) -> Option<(ClientEvent, Held)> {
        let mut event = match self.next.take() {
            Some(event) => event,
            None => self.queue.recv().await?,
        };
        while matches!(event.0, ClientEvent::Resize(_)) {
            match self.queue.try_recv() {
                Ok(newer) if matches!(newer.0, ClientEvent::Resize(_)) => event = newer,
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::messages::WindowSize;

    fn resize(cols: u16) -> ClientEvent {
        ClientEvent::Resize(WindowSize { cols, rows: 24 })
    }

    fn data(text: &'static str) -> ClientEvent {
        ClientEvent::Data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn order_is_kept_and_resizes_in_a_row_become_one() {
        let wire = Wire::new();
        let (input, undelivered) = input(wire);
        for event in [
            resize(1),
            resize(2),
            data("a"),
            resize(3),
            data("b"),
            ClientEvent::Eof,
            resize(4),
            resize(5),
        ] {
            input.push(event);
        }
        drop(input);
        let (sender, mut receiver) = mpsc::channel(64);
        undelivered.deliver(&sender).await;
        drop(sender);
        let mut got = Vec::new();
        while let Some(event) = receiver.recv().await {
            got.push(event);
        }
        assert_eq!(
            got,
            [
                resize(2),
                data("a"),
                resize(3),
                data("b"),
                ClientEvent::Eof,
                resize(5)
            ]
        );
    }

    #[tokio::test]
    async fn a_session_that_takes_no_input_does_not_hold_the_wire() {
        let wire = Wire::new();
        let (input, undelivered) = input(wire.clone());
        for _ in 0..8 {
            input.push(ClientEvent::Data(Bytes::from(vec![0; 100 * 1024])));
        }
        assert!(wire.is_paused());
        drop(input);
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        undelivered.deliver(&sender).await;
        assert!(!wire.is_paused());
    }

    #[tokio::test]
    async fn a_flood_of_signals_pauses_the_wire() {
        let wire = Wire::new();
        let (input, _undelivered) = input(wire.clone());
        for _ in 0..10_000 {
            input.push(ClientEvent::Signal("INT".to_owned()));
        }
        assert!(wire.is_paused());
    }
}
