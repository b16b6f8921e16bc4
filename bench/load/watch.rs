//! Watches that wait. A line of standard input opens them; once each has seen what it waits for, the next line ends
//! them, and the end of standard input ends the client.

use std::io::BufRead as _;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};

use super::server::{Connection, Server};
use super::{Watches, say};

/// For an event to reach the last watch.
const EVENT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// With `watch=true`
    #[arg(long)]
    path: String,
    #[arg(long)]
    count: usize,
    /// What is in the event that is waited for
    #[arg(long)]
    until: String,
}

impl Options {
    pub(super) async fn run(&self, server: &Server) -> anyhow::Result<()> {
        let mut lines = lines();
        say(&Watches { watches: 0 })?;
        lines.recv().await.context("never told to open")?;
        let (end, ended) = watch::channel(());
        let (seen, mut sightings) = mpsc::channel(self.count.max(1));
        for _ in 0..self.count {
            let (connection, body) = self.open(server).await?;
            let (seen, until, ended) = (seen.clone(), self.until.clone(), ended.clone());
            tokio::spawn(wait(connection, body, until, seen, ended));
        }
        say(&Watches {
            watches: self.count as u64,
        })?;
        let mut watches = 0;
        let all = async {
            while watches < self.count as u64 && sightings.recv().await.is_some() {
                watches += 1;
            }
        };
        // How many did not is seen in the number.
        drop(tokio::time::timeout(EVENT, all).await);
        say(&Watches { watches })?;
        lines.recv().await;
        drop(end);
        while lines.recv().await.is_some() {}
        Ok(())
    }

    /// On a connection of its own: as many `kubectl get -w` have it.
    async fn open(&self, server: &Server) -> anyhow::Result<(Connection, Incoming)> {
        let mut connection = server.connect().await?;
        let response = connection.ask(server.request(&self.path)).await?;
        ensure!(response.status() == 200, "answered {}", response.status());
        Ok((connection, response.into_body()))
    }
}

/// Reports what it waits for when it comes, and ends with `ended`.
async fn wait(
    connection: Connection,
    mut body: Incoming,
    until: String,
    seen: mpsc::Sender<()>,
    mut ended: watch::Receiver<()>,
) {
    let watching = async {
        let (mut text, mut seen) = (Vec::new(), Some(seen));
        while let Some(Ok(frame)) = body.frame().await {
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if String::from_utf8_lossy(&text).contains(&until)
                && let Some(seen) = seen.take()
            {
                seen.try_send(()).unwrap_or(());
            }
        }
        // A watch that ended too early is one that is missing, not one that is over.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = watching => {}
        _ = ended.changed() => {}
    }
    drop(connection);
}

fn lines() -> mpsc::Receiver<String> {
    let (lines, read) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    read
}
