//! A thousand operators who type: how soon each key comes back, and how often the disk is made to sync for all of them.
//!
//! One client for all, on one thread, so that what it takes itself is little: a connection for each session, a key every
//! 200 ms. Keys come at moments of their own in each session, as they do from people.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelMsg};
use tokio::task::JoinSet;

use crate::lean::{self, HostKey, Login};
use crate::ssh::Target;
use crate::stage::Stage;
use crate::stats::{median, percentile};
use crate::table::{Measured, Reach, Unit};

/// As in the row of one session that types.
const ECHO: &str = "stty raw -echo; echo ready; exec cat";

/// 5 keys a second.
const PAUSE: Duration = Duration::from_millis(200);
/// Sessions that are being opened at once.
const AT_ONCE: u32 = 4;
/// Nobody waits longer for a session, or an echo.
const LIMIT: Duration = Duration::from_secs(30);
/// For what opening all of them left to do.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let daemon = stage.daemon()?;
    let sessions: u32 = stage.of(1000, 200);
    let keys = stage.of(100, 50);
    let typing = |target: &Target, syncs: &dyn Fn() -> anyhow::Result<u64>| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let login = Login::of(target)?;
        runtime.block_on(async {
            let open = open(&login, sessions).await?;
            tokio::time::sleep(SETTLE).await;
            let (before, began) = (syncs()?, Instant::now());
            let times = type_all(open, keys).await?;
            let seconds = began.elapsed().as_secs_f64();
            anyhow::Ok((times, syncs()?.saturating_sub(before) as f64 / seconds))
        })
    };
    let (ours, syncs) = typing(&daemon.target, &|| daemon.metric("recordings_syncs_total"))?;
    let peer = match stage.peer() {
        Some(peer) => Some(typing(&peer.target, &|| Ok(0))?.0),
        None => None,
    };
    let row = |work: &str, unit, of: &dyn Fn(&[f64]) -> f64, reach| Measured {
        work: format!("{sessions} sessions typing at 5 keys/s, {work}"),
        unit,
        ours: of(&ours),
        peer: peer.as_deref().map(of),
        reach,
    };
    let ms = Unit::Milliseconds;
    Ok(vec![
        row("echo p50", ms, &median, Reach::Nothing),
        row(
            "echo p99",
            ms,
            &|times| percentile(times, 0.99),
            Reach::Under(5.0),
        ),
        Measured {
            peer: None,
            ..row("syncs", Unit::PerSecond, &|_| syncs, Reach::Under(10.0))
        },
    ])
}

/// A session with its connection, which ends with it.
struct Open {
    channel: Channel<Msg>,
    _connection: Handle<HostKey>,
}

async fn open(login: &Login, sessions: u32) -> anyhow::Result<Vec<Open>> {
    let config = lean::config();
    let mut opening = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..sessions {
        if opening.len() >= AT_ONCE as usize
            && let Some(opened) = opening.join_next().await
        {
            open.push(opened??);
        }
        let (login, config) = (login.clone(), Arc::clone(&config));
        opening.spawn(async move {
            let opening = one(&login, config);
            tokio::time::timeout(LIMIT, opening)
                .await
                .context("a session took too long to open")?
        });
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    Ok(open)
}

async fn one(login: &Login, config: Arc<russh::client::Config>) -> anyhow::Result<Open> {
    let connection = login.connect(config).await?;
    let mut channel = connection.channel_open_session().await?;
    channel
        .request_pty(false, "xterm", 80, 24, 0, 0, &[])
        .await?;
    channel.exec(true, ECHO).await?;
    let mut said = Vec::new();
    while !said.windows(5).any(|word| word == b"ready") {
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) => said.extend_from_slice(&data),
            Some(ChannelMsg::Failure | ChannelMsg::Close) | None => {
                bail!("no echo, but {:?}", String::from_utf8_lossy(&said))
            }
            Some(_) => {}
        }
    }
    Ok(Open {
        channel,
        _connection: connection,
    })
}

/// Milliseconds from each key to its echo, in all sessions.
async fn type_all(open: Vec<Open>, keys: u32) -> anyhow::Result<Vec<f64>> {
    let all = u32::try_from(open.len()).unwrap_or(u32::MAX);
    let mut typing = JoinSet::new();
    for (number, session) in (0..).zip(open) {
        // Spread over the pause, and not one after the other: neighbours were opened together.
        let first = PAUSE * (number * 7919 % all) / all;
        typing.spawn(type_keys(session, first, keys));
    }
    let (mut times, mut open) = (Vec::new(), Vec::new());
    while let Some(typed) = typing.join_next().await {
        let (of_one, session) = typed??;
        times.extend(of_one);
        // None ends while others type: that is another work.
        open.push(session);
    }
    drop(open);
    Ok(times)
}

async fn type_keys(
    mut session: Open,
    first: Duration,
    keys: u32,
) -> anyhow::Result<(Vec<f64>, Open)> {
    tokio::time::sleep(first).await;
    let mut rhythm = tokio::time::interval(PAUSE);
    let mut times = Vec::new();
    for key in (b'a'..=b'z').cycle().take(keys as usize) {
        rhythm.tick().await;
        let began = Instant::now();
        session.channel.data(&[key][..]).await?;
        let back = tokio::time::timeout(LIMIT, echo(&mut session.channel)).await;
        ensure!(back.context("no echo")?? == [key], "another key came back");
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok((times, session))
}

async fn echo(channel: &mut Channel<Msg>) -> anyhow::Result<Vec<u8>> {
    loop {
        match channel.wait().await {
            // What follows "ready".
            Some(ChannelMsg::Data { data }) if data.iter().all(|byte| b"\r\n".contains(byte)) => {}
            Some(ChannelMsg::Data { data }) => return Ok(data.to_vec()),
            Some(ChannelMsg::Close) | None => bail!("a session ended"),
            Some(_) => {}
        }
    }
}
