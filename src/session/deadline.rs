//! The end that every session has.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::messages::SessionEvent;
use crate::recording::{OpenRecording, Stream};

/// When an operator at a terminal is told how much time is left, in minutes before the end.
const WARNINGS: [u64; 2] = [5, 1];

/// Warns an operator at a terminal, then says that the time is over.
pub(super) async fn time_over(
    total: Duration,
    terminal: bool,
    recording: &OpenRecording,
    to: &mpsc::Sender<SessionEvent>,
) -> String {
    let mut left = total;
    for minutes in WARNINGS.into_iter().filter(|_| terminal) {
        let warn_at = Duration::from_secs(minutes * 60);
        if let Some(wait) = left.checked_sub(warn_at) {
            sleep(wait).await;
            left = warn_at;
            let plural = if minutes == 1 { "" } else { "s" };
            let text =
                format!("\r\nbastion-audit: this session ends in {minutes} minute{plural}\r\n");
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
    }
    sleep(left).await;
    "its time is over".to_owned()
}
