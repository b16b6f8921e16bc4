//! GETs, one after the other on each connection.

use std::time::{Duration, Instant};

use anyhow::Context;
use http_body_util::BodyExt as _;

use super::Gets;
use super::server::Server;
use crate::stats::percentile;

/// Before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[arg(long)]
    path: String,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    milliseconds: u64,
}

#[derive(Default)]
struct Count {
    times: Vec<f64>,
    bytes: u64,
    /// When the last counted one had ended.
    last: Option<Instant>,
}

impl Options {
    pub(super) async fn run(&self, server: &Server) -> anyhow::Result<Gets> {
        let began = Instant::now() + WARM_UP;
        let until = began + Duration::from_millis(self.milliseconds);
        let all = (0..self.connections).map(|_| self.one(server, began, until));
        let counts = futures_util::future::try_join_all(all).await?;
        let times: Vec<f64> = counts
            .iter()
            .flat_map(|count| count.times.clone())
            .collect();
        let last = counts.iter().filter_map(|count| count.last).max();
        let last = last.context("no request ended in time")?;
        Ok(Gets {
            requests: times.len() as u64,
            bytes: counts.iter().map(|count| count.bytes).sum(),
            seconds: last.duration_since(began).as_secs_f64(),
            p50: percentile(&times, 0.5),
            p99: percentile(&times, 0.99),
        })
    }

    async fn one(&self, server: &Server, began: Instant, until: Instant) -> anyhow::Result<Count> {
        let mut connection = server.connect().await?;
        let mut count = Count::default();
        while Instant::now() < until {
            let asked = Instant::now();
            let mut body = connection
                .get(server.request(&self.path))
                .await?
                .into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
            }
            let now = Instant::now();
            if asked >= began {
                count.times.push((now - asked).as_secs_f64() * 1000.0);
                count.bytes += bytes;
                count.last = Some(now);
            }
        }
        Ok(count)
    }
}
