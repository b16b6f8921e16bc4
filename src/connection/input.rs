//! Input of one session channel on its way from russh's loop to the session.
//!
//! A callback must not wait, so the queue takes everything; [`Wire`] sees to it that not too much comes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::BytesMut;
use tokio::sync::{Notify, mpsc};

use super::wire::Wire;
use crate::messages::ClientEvent;

/// What an event costs beside its bytes: a flood of signals counts too.
const EVENT: usize = 128;

/// Small packets that wait together are delivered together, up to this many bytes.
const TOGETHER: usize = 32 * 1024;

/// The callbacks' end. Dropping it ends the input.
#[derive(Debug)]
pub(super) struct Input(Arc<Queue>);

/// The session's end.
#[derive(Debug)]
pub(super) struct Undelivered(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    wire: Arc<Wire>,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes anything any more.
    unwanted: bool,
}

#[derive(Debug)]
enum Event {
    Data(BytesMut),
    Other(ClientEvent),
}

impl Event {
    fn cost(&self) -> usize {
        match self {
            Self::Data(data) => data.len().saturating_add(EVENT),
            Self::Other(_) => EVENT,
        }
    }
}

pub(super) fn input(wire: Arc<Wire>) -> (Input, Undelivered) {
    let queue = Arc::new(Queue {
        wire,
        waiting: Mutex::default(),
        changed: Notify::new(),
    });
    (Input(Arc::clone(&queue)), Undelivered(queue))
}

impl Input {
    /// Queues input bytes.
    pub(super) fn push_data(&self, bytes: &[u8]) {
        let mut waiting = self.0.waiting();
        if let Some(Event::Data(last)) = waiting.events.back_mut()
            && last.len().saturating_add(bytes.len()) <= TOGETHER
        {
            last.extend_from_slice(bytes);
            self.0.wire.hold(bytes.len());
            return;
        }
        self.0.add(&mut waiting, Event::Data(BytesMut::from(bytes)));
    }

    /// Queues what is not bytes. A resize takes the place of one that still waits.
    pub(super) fn push(&self, event: ClientEvent) {
        let mut waiting = self.0.waiting();
        if let (ClientEvent::Resize(_), Some(Event::Other(last @ ClientEvent::Resize(_)))) =
            (&event, waiting.events.back_mut())
        {
            *last = event;
            return;
        }
        self.0.add(&mut waiting, Event::Other(event));
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.0.waiting().ended = true;
        self.0.changed.notify_one();
    }
}

/// Input that is under way. Whether it arrives or not, it is no longer held then.
struct Held<'a> {
    wire: &'a Wire,
    cost: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.wire.release(self.cost);
    }
}

impl Undelivered {
    /// Delivers until the callbacks' end is dropped or the session takes no more. The rest is discarded, as a
    /// pipe would do: nobody else shall wait for it.
    pub(super) async fn deliver(self, session: &mpsc::Sender<ClientEvent>) {
        while let Some(event) = self.next().await {
            let _held = Held {
                wire: &self.0.wire,
                cost: event.cost(),
            };
            if session.send(event.into()).await.is_err() {
                return;
            }
        }
    }

    async fn next(&self) -> Option<Event> {
        loop {
            {
                let mut waiting = self.0.waiting();
                if let Some(event) = waiting.events.pop_front() {
                    return Some(event);
                }
                if waiting.ended {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.unwanted = true;
        let cost = waiting.events.drain(..).map(|event| event.cost()).sum();
        self.0.wire.release(cost);
    }
}

impl Queue {
    fn add(&self, waiting: &mut Waiting, event: Event) {
        if waiting.unwanted {
            return;
        }
        self.wire.hold(event.cost());
        waiting.events.push_back(event);
        self.changed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl From<Event> for ClientEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Data(data) => Self::Data(data.freeze()),
            Event::Other(event) => event,
        }
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
    async fn order_is_kept_and_what_waits_together_becomes_one() {
        let (input, undelivered) = input(Wire::new());
        input.push(resize(1));
        input.push(resize(2));
        input.push_data(b"a");
        input.push_data(b"b");
        input.push(resize(3));
        input.push_data(b"c");
        input.push(ClientEvent::Eof);
        input.push(resize(4));
        input.push(resize(5));
        drop(input);
        let (sender, mut receiver) = mpsc::channel(64);
        undelivered.deliver(&sender).await;
        drop(sender);
        let mut got = Vec::new();
        while let Some(event) = receiver.recv().await {
            got.push(event);
        }
        let expected = [
            resize(2),
            data("ab"),
            resize(3),
            data("c"),
            ClientEvent::Eof,
            resize(5),
        ];
        assert_eq!(got, expected);
    }

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_none_stays_held() {
        let wire = Wire::new();
        let full = wire.refill();
        let (input, undelivered) = input(wire.clone());
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        for piece in sent.chunks(777) {
            input.push_data(piece);
        }
        assert!(wire.refill() < full - 200_000);
        drop(input);
        let (sender, mut receiver) = mpsc::channel(64);
        undelivered.deliver(&sender).await;
        drop(sender);
        let mut got = Vec::new();
        while let Some(ClientEvent::Data(data)) = receiver.recv().await {
            assert!(data.len() <= TOGETHER);
            got.extend_from_slice(&data);
        }
        assert!(got == sent);
        assert_eq!(wire.refill(), full);
    }

    #[tokio::test]
    async fn a_session_that_takes_no_input_does_not_hold_the_wire() {
        let wire = Wire::new();
        let full = wire.refill();
        let (input, undelivered) = input(wire.clone());
        for _ in 0..8 {
            input.push_data(&vec![0; 100 * 1024]);
        }
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        undelivered.deliver(&sender).await;
        assert_eq!(wire.refill(), full);
        input.push_data(b"more");
        input.push(ClientEvent::Eof);
        assert_eq!(wire.refill(), full, "nobody is there to take it");
    }

    #[tokio::test]
    async fn what_was_under_way_when_the_session_ended_does_not_hold_the_wire() {
        let wire = Wire::new();
        let full = wire.refill();
        let (input, undelivered) = input(wire.clone());
        let (sender, _receiver) = mpsc::channel(1);
        sender.send(ClientEvent::Eof).await.unwrap();
        input.push_data(&[0; 1000]);
        let delivering = undelivered.deliver(&sender);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), delivering).await;
        assert!(waited.is_err(), "there was room");
        assert_eq!(wire.refill(), full);
    }

    #[tokio::test]
    async fn a_flood_of_signals_pauses_the_wire() {
        let wire = Wire::new();
        let (input, _undelivered) = input(wire.clone());
        for _ in 0..200_000 {
            input.push(ClientEvent::Signal("INT".to_owned()));
        }
        assert!(wire.is_paused());
    }
}
