//! The client of a session, as far as a session sees it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::messages::{ClientEvent, SessionEvent, SessionLink};

/// How long last words may wait for a client that does not read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The session's side of a channel.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) from: mpsc::Receiver<ClientEvent>,
    pub(super) to: mpsc::Sender<SessionEvent>,
    /// At a terminal lines end in CR LF and there is one stream only.
    pub(super) terminal: bool,
}

/// The client went away.
#[derive(Debug)]
pub(super) struct Gone;

impl Client {
    pub(super) fn new(link: SessionLink, terminal: bool) -> Self {
        Self {
            from: link.from_client,
            to: link.to_client,
            terminal,
        }
    }

    /// Sends text to standard output.
    pub(super) async fn print(&self, text: &str) -> Result<(), Gone> {
        for chunk in self.lines(text).chunks(32 * 1024) {
            self.send(SessionEvent::Stdout(Bytes::copy_from_slice(chunk)))
                .await?;
        }
        Ok(())
    }

    pub(super) async fn send(&self, event: SessionEvent) -> Result<(), Gone> {
        self.to.send(event).await.map_err(|_| Gone)
    }

    /// One or more sentences to standard error, then the end. A client that does not read gets no more
    /// than a second of our time.
    pub(super) async fn last_words(&self, words: &str, status: u32) {
        let said = async {
            let text = Bytes::from(self.lines(&format!("{words}\n")));
            let event = if self.terminal {
                SessionEvent::Stdout(text)
            } else {
                SessionEvent::Stderr(text)
            };
            self.send(event).await?;
            self.send(SessionEvent::Exit(status)).await
        };
        if !matches!(tokio::time::timeout(LAST_WORDS, said).await, Ok(Ok(()))) {
            tracing::debug!("a client did not take its last words");
        }
    }

    fn lines(&self, text: &str) -> Vec<u8> {
        if self.terminal {
            text.replace('\n', "\r\n").into_bytes()
        } else {
            text.as_bytes().to_vec()
        }
    }
}
