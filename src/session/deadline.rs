//! The end that every session has.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::clock::{self, Clock};
use crate::messages::SessionEvent;
use crate::recording::{OpenRecording, Stream};

/// When an operator is told how much time is left, in minutes before the end.
const WARNINGS: [u64; 2] = [5, 1];

/// Warns, in minutes before the end, then says that the time is over. A later end that is set meanwhile counts.
pub(super) async fn time_over<W: Future<Output = ()>>(
    mut ends: watch::Receiver<Timestamp>,
    clock: &dyn Clock,
    warn: impl Fn(u64) -> W,
) -> String {
    loop {
        let end = *ends.borrow_and_update();
        let left = clock::remaining(end, clock.now());
        tokio::select! {
            () = count_down(left, &warn) => return "its time is over".to_owned(),
            Ok(()) = ends.changed() => {}
        }
    }
}

async fn count_down<W: Future<Output = ()>>(total: Duration, warn: &impl Fn(u64) -> W) {
    let mut left = total;
    for minutes in WARNINGS {
        let warn_at = Duration::from_secs(minutes * 60);
        if let Some(wait) = left.checked_sub(warn_at) {
            sleep(wait).await;
            left = warn_at;
            warn(minutes).await;
        }
    }
    sleep(left).await;
}

/// Tells an operator at a terminal how many minutes are left, and what can be done about it.
pub(super) async fn tell(
    minutes: u64,
    instead: &str,
    recording: &OpenRecording,
    to: &mpsc::Sender<SessionEvent>,
) {
    let plural = if minutes == 1 { "" } else { "s" };
    let text =
        format!("\r\nbastion-audit: this session ends in {minutes} minute{plural}{instead}\r\n");
    if recording.notice(text.trim()).await.is_ok()
        && recording
            .output(Stream::Stdout, text.as_bytes())
            .await
            .is_ok()
    {
        // A client that does not read needs no warning.
        drop(to.try_send(SessionEvent::Stdout(text.into())));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{Instant, timeout};

    use super::*;

    const BEGIN: &str = "2027-01-01T00:00:00Z";

    /// Moves with the runtime's own clock.
    #[derive(Debug)]
    struct Along(Instant);

    impl Clock for Along {
        fn now(&self) -> Timestamp {
            at(self.0.elapsed().as_secs())
        }
    }

    fn at(seconds: u64) -> Timestamp {
        let begin: Timestamp = BEGIN.parse().unwrap();
        begin + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_end_that_is_set_meanwhile_counts_and_is_warned_of_anew() {
        let (set, ends) = watch::channel(at(600));
        let clock = Along(clock::monotonic());
        let began = clock::monotonic();
        let warned = Mutex::new(Vec::new());
        let over = time_over(ends, &clock, |minutes| {
            let at = began.elapsed().as_secs();
            warned.lock().unwrap().push((at, minutes));
            std::future::ready(())
        });
        let mut over = std::pin::pin!(over);
        // Past both warnings, and seconds before the end.
        assert!(timeout(Duration::from_secs(595), &mut over).await.is_err());
        set.send_replace(at(1200));
        assert!(timeout(Duration::from_secs(600), &mut over).await.is_err());
        assert_eq!(over.await, "its time is over");
        assert_eq!(began.elapsed().as_secs(), 1200);
        let warned = warned.lock().unwrap();
        assert_eq!(*warned, [(300, 5), (540, 1), (900, 5), (1140, 1)]);
    }
}
