//! What the network process does: speaks SSH, and asks the daemon everything else.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::connection;
use super::frames::{self, Incoming, Outgoing, invalid};
use super::protocol::{MESSAGE, ToDaemon, ToNetwork};
use super::tally::Tally;
use crate::messages::{MonitorLink, Peer};
use crate::server::{Front, HostKeys, Rules, Server, Turnstile};

/// Connections that the daemon was not told of yet. One too many is closed.
const UNTOLD: usize = 1024;

/// Something for the daemon, and what goes with it.
type Told = (ToDaemon, Option<OwnedFd>);

/// Serves what the daemon at the other end of `control` says, until it says no more or has all connections ended.
///
/// # Errors
///
/// A daemon that is gone, or says what none would.
pub async fn serve(control: std::os::unix::net::UnixStream) -> io::Result<()> {
    control.set_nonblocking(true)?;
    let (mut incoming, outgoing) = frames::on(UnixStream::from_std(control)?);
    let (server, host_keys, rules) = match start(&mut incoming).await {
        Ok(started) => started,
        Err(error) => {
            let cannot = ToDaemon::Cannot(error.to_string());
            outgoing.say(MESSAGE, &cannot, None).await?;
            return Err(error);
        }
    };
    let (rules_tx, rules) = watch::channel(rules);
    let tally = Arc::new(Tally::default());
    let front = Front {
        host_keys,
        rules,
        strangers: Arc::clone(&tally) as Arc<dyn Turnstile>,
    };
    outgoing.say(MESSAGE, &ToDaemon::Serving, None).await?;
    let (tell, told) = mpsc::channel(UNTOLD);
    let shutdown = CancellationToken::new();
    let to_daemon = tell.clone();
    let serving = server.serve(
        front,
        move |peer| connect(peer, &to_daemon),
        shutdown.clone(),
    );
    let work = async {
        tokio::select! {
            () = serving => {}
            () = count(&tally, &tell) => {}
        }
        // Nobody counts any more: what is left is told, and then all is said.
        drop(tell.send((ToDaemon::Counted(tally.take()), None)).await);
        drop(tell);
    };
    tokio::select! {
        (reported, ()) = async { tokio::join!(report(&outgoing, told), work) } => reported,
        followed = follow(incoming, rules_tx, shutdown) => followed,
    }
}

async fn start(incoming: &mut Incoming) -> io::Result<(Server, HostKeys, Rules)> {
    let frame = incoming.next().await?.ok_or_else(gone)?;
    let ToNetwork::Start { host_keys, rules } = frame.message()? else {
        return Err(invalid("something before the start"));
    };
    let listener = frame
        .descriptor
        .ok_or_else(|| invalid("a start without a listener"))?;
    let named = PathBuf::from("a host key");
    let files = host_keys
        .iter()
        .map(|key| (named.as_path(), Zeroizing::new(key.as_bytes().to_vec())));
    let host_keys = HostKeys::parse(files).map_err(io::Error::other)?;
    let server = Server::on(listener.into()).map_err(io::Error::other)?;
    Ok((server, host_keys, rules))
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon is gone")
}

/// Begins the conversation of a connection with the daemon.
fn connect(peer: Peer, tell: &mpsc::Sender<Told>) -> Option<MonitorLink> {
    let (here, there) = frames::pair()
        .inspect_err(|error| tracing::warn!("no socket for a connection: {error}"))
        .ok()?;
    tell.try_send((ToDaemon::Connected(peer), Some(there)))
        .ok()?;
    let (asks, asks_rx) = mpsc::channel(connection::ASKS);
    let (orders_tx, orders) = mpsc::channel(1);
    tokio::spawn(connection::outside(frames::on(here), asks_rx, orders_tx));
    Some(MonitorLink { asks, orders })
}

/// Does what the daemon says.
async fn follow(
    mut incoming: Incoming,
    rules: watch::Sender<Rules>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    loop {
        match incoming.next().await?.ok_or_else(gone)?.message()? {
            ToNetwork::Rules(new) => drop(rules.send_replace(new)),
            ToNetwork::Stop => shutdown.cancel(),
            ToNetwork::Start { .. } => return Err(invalid("a second start")),
        }
    }
}

/// Says who was not let in, now and then.
async fn count(tally: &Tally, tell: &mpsc::Sender<Told>) {
    loop {
        tally.changed().await;
        let counted = (ToDaemon::Counted(tally.take()), None);
        if tell.send(counted).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Tells the daemon all that there is to tell.
async fn report(outgoing: &Outgoing, mut told: mpsc::Receiver<Told>) -> io::Result<()> {
    while let Some((message, descriptor)) = told.recv().await {
        let descriptor = descriptor.as_ref().map(OwnedFd::as_fd);
        outgoing.say(MESSAGE, &message, descriptor).await?;
    }
    Ok(())
}
