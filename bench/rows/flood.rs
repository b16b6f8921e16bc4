//! What an operator feels of those who flood and guess.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::daemon::{Admission, Daemon, Kept};
use crate::lean::{self, AnyHost, LeanClient};
use crate::stage::Stage;
use crate::stats::percentile;
use crate::table::{Measured, Reach, Unit};

/// New half-open connections in a second.
const PACE: u32 = 1_000;
/// From so many sources.
const CROWD: u32 = 100;
/// Guesses under way at once: each waits 300 ms for its answer.
const AT_ONCE: usize = 64;
/// A source guesses so often; a fourth time would get it refused.
const GUESSES: u32 = 3;
const WORD: &str = "bastion whoami";

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let daemon = Daemon::start(stage, Kept::InClear, Admission::Default)?;
    let port = daemon.target.port;
    let connections = stage.of(10_000, 2_000);
    let guesses = stage.of(100_000, 4_000);
    let alone = meanwhile(&daemon, || {
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    let half_open = meanwhile(&daemon, || runtime()?.block_on(hold(port, connections)))?;
    let guessing = meanwhile(&daemon, || runtime()?.block_on(guess(port, guesses)))?;
    let memory: f64 = daemon
        .processes()?
        .into_iter()
        .map(peak)
        .sum::<anyhow::Result<f64>>()?;
    let row = |work: String, times: &[f64]| Measured {
        work,
        unit: Unit::Milliseconds,
        ours: percentile(times, 0.99),
        peer: Some(percentile(&alone, 0.99)),
        reach: Reach::Under(100.0),
    };
    Ok(vec![
        row(
            format!("login beside {connections} half-open connections, p99 (peer: alone)"),
            &half_open,
        ),
        row(
            format!("login beside {guesses} wrong keys, p99 (peer: alone)"),
            &guessing,
        ),
        Measured {
            work: "the daemon's memory at most".to_owned(),
            unit: Unit::Kibibytes,
            ours: memory,
            peer: None,
            reach: Reach::Under(200.0 * 1024.0),
        },
    ])
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Milliseconds of honest logins while something goes on. One that fails is an error: nobody is kept out.
fn meanwhile(
    daemon: &Daemon,
    what: impl FnOnce() -> anyhow::Result<()> + Send,
) -> anyhow::Result<Vec<f64>> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let client = LeanClient::new()?;
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                times.push(client.time(&daemon.target, WORD)?);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(times)
        });
        let done = what();
        over.store(true, Ordering::Relaxed);
        let times = honest
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))?;
        done.and(times)
    })
}

async fn from(source: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let daemon = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect(daemon).await
}

/// So many connections from a crowd, that say nothing, half a line or half a packet, and are held until the last is there.
async fn hold(port: u16, connections: u32) -> anyhow::Result<()> {
    let mut held = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PACE);
    for number in 0..connections {
        tick.tick().await;
        let host = u8::try_from(number % CROWD)? + 10;
        let mut stream = from(Ipv4Addr::new(127, 7, 7, host), port).await?;
        let words: &[u8] = match number % 3 {
            0 => b"",
            1 => b"SSH-2.0-slow",
            _ => b"SSH-2.0-x\r\n\0\0\x01\x0c",
        };
        // It may be closed already.
        drop(stream.write_all(words).await);
        held.push(stream);
    }
    Ok(())
}

/// So many keys that are nobody's, from as many sources as it takes not to be refused.
async fn guess(port: u16, guesses: u32) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU32::new(0));
    let mut guessing = JoinSet::new();
    for _ in 0..AT_ONCE {
        let next = Arc::clone(&next);
        guessing.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= guesses {
                    return;
                }
                let source = Ipv4Addr::from_bits(0x7f10_0001 + number / GUESSES);
                // What is turned away was a guess too.
                drop(one_guess(source, port, number).await);
            }
        });
    }
    while let Some(done) = guessing.join_next().await {
        done.context("a guess panicked")?;
    }
    Ok(())
}

async fn one_guess(source: Ipv4Addr, port: u16, number: u32) -> anyhow::Result<()> {
    let stream = from(source, port).await?;
    let mut client = russh::client::connect_stream(lean::config(), stream, AnyHost).await?;
    let mut seed = [7; 32];
    for (byte, own) in seed.iter_mut().zip(number.to_be_bytes()) {
        *byte = own;
    }
    let key: PrivateKey = Ed25519Keypair::from_seed(&seed).into();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    client.authenticate_publickey("operator", key).await?;
    Ok(())
}

/// KiB that the daemon held at most.
fn peak(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("no VmHWM")?.parse()?)
}
