//! From many tasks to one thread that touches the disk, and that also has something to do when nobody asks.
//!
//! Tokio's channels cannot be waited on for a time outside of a runtime, the standard library's bounded ones block a
//! task: so the bound is a semaphore.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A lane on which at most `places` wait; who comes after them waits for a place.
pub(crate) fn lane<T>(places: usize) -> (Sender<T>, Receiver<T>) {
    let (to, from) = mpsc::channel();
    let places = Arc::new(Semaphore::new(places));
    (Sender { places, to }, Receiver { from })
}

/// The tasks' end. The thread's end sees when the last one is gone.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    places: Arc<Semaphore>,
    to: mpsc::Sender<(T, OwnedSemaphorePermit)>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            places: Arc::clone(&self.places),
            to: self.to.clone(),
        }
    }
}

/// The thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl<T> Sender<T> {
    /// Returns when the thread has it before it, perhaps after others.
    pub(crate) async fn send(&self, item: T) -> Result<(), Gone> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| Gone)?;
        self.to.send((item, place)).map_err(|_| Gone)
    }
}

/// The thread's end.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    from: mpsc::Receiver<(T, OwnedSemaphorePermit)>,
}

/// What a wait came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// Somebody asks.
    Item(T),
    /// Nobody did, for as long as was waited.
    Nothing,
    /// Nobody ever will.
    Closed,
}

impl<T> Receiver<T> {
    /// Waits for the next one, at most for this long.
    pub(crate) fn next(&self, at_most: Option<Duration>) -> Next<T> {
        let received = match at_most {
            Some(wait) => self.from.recv_timeout(wait),
            None => self
                .from
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        match received {
            Ok((item, _place)) => Next::Item(item),
            Err(mpsc::RecvTimeoutError::Timeout) => Next::Nothing,
            Err(mpsc::RecvTimeoutError::Disconnected) => Next::Closed,
        }
    }

    /// The next one, if it waits already.
    pub(crate) fn waiting(&self) -> Option<T> {
        self.from.try_recv().ok().map(|(item, _place)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_holds_as_many_as_it_has_places_and_tells_of_either_end() {
        let (sender, receiver) = lane(2);
        sender.send(1).await.unwrap();
        sender.send(2).await.unwrap();
        let third = tokio::time::timeout(Duration::from_millis(20), sender.send(3)).await;
        assert!(third.is_err(), "there is no place for a third");
        assert_eq!(receiver.next(None), Next::Item(1));
        sender.send(3).await.unwrap();
        assert_eq!(receiver.waiting(), Some(2));
        assert_eq!(receiver.next(None), Next::Item(3));
        assert_eq!(receiver.next(Some(Duration::from_millis(1))), Next::Nothing);
        let other = sender.clone();
        drop(sender);
        assert_eq!(receiver.next(Some(Duration::from_millis(1))), Next::Nothing);
        drop(other);
        assert_eq!(receiver.next(None), Next::Closed);
    }

    #[tokio::test]
    async fn who_waits_for_a_place_when_the_thread_dies_is_told() {
        let (sender, receiver) = lane(1);
        sender.send(1).await.unwrap();
        let waiting = tokio::spawn(async move { sender.send(2).await });
        tokio::task::yield_now().await;
        drop(receiver);
        assert_eq!(waiting.await.unwrap(), Err(Gone));
    }
}
