//! One connection across the two processes: its questions and their answers, in order, and orders at any time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frames::{self, Frame, Incoming, Outgoing, invalid};
use super::protocol::{Asked, MESSAGE, ToConnection};
use super::{border, channel};
use crate::messages::{self, Answer, Ask, Envelope, MonitorLink, Order, SessionLink};

/// Questions under way from one connection.
pub(super) const ASKS: usize = 8;

/// How long what is left of a session's end may be on its way when its connection is over.
const PARTING: Duration = Duration::from_secs(10);

/// In the network process: carries questions to the daemon until the connection has none any more, or the daemon ends it.
pub(super) async fn outside(
    (mut incoming, outgoing): (Incoming, Outgoing),
    mut asks: mpsc::Receiver<Envelope>,
    orders: mpsc::Sender<Order>,
) {
    let mut waiting: VecDeque<oneshot::Sender<Answer>> = VecDeque::new();
    let conversation = async {
        loop {
            tokio::select! {
                envelope = asks.recv(), if waiting.len() < ASKS => {
                    let Some(Envelope { ask, link, reply }) = envelope else {
                        return Ok(());
                    };
                    ask_daemon(&outgoing, *ask, link).await?;
                    waiting.push_back(reply);
                }
                frame = incoming.next() => match said(frame?)? {
                    None => return Ok(()),
                    Some(ToConnection::Answer(answer)) => {
                        let reply = waiting.pop_front().ok_or_else(|| invalid("an answer to nothing"))?;
                        // Whoever asked may have gone without waiting.
                        drop(reply.send(answer));
                    }
                    // One under way is enough: it ends the connection.
                    Some(ToConnection::Order(order)) => drop(orders.try_send(order)),
                },
            }
        }
    };
    if let Err(error) = conversation.await {
        let error: io::Error = error;
        tracing::debug!(%error, "a connection's way to the daemon ended");
    }
}

async fn ask_daemon(outgoing: &Outgoing, ask: Ask, link: Option<SessionLink>) -> io::Result<()> {
    let Some(link) = link else {
        return outgoing.say(MESSAGE, &Asked(ask), None).await;
    };
    let (here, there) = frames::pair()?;
    outgoing
        .say(MESSAGE, &Asked(ask), Some(there.as_fd()))
        .await?;
    tokio::spawn(channel::outside(frames::on(here), link));
    Ok(())
}

fn said(frame: Option<Frame>) -> io::Result<Option<ToConnection>> {
    frame.map(|frame| frame.message()).transpose()
}

/// In the daemon: has the questions of a connection answered until it has none any more, its conversation ends it, or all is
/// `over`. `most` channels at once, which end soon after it.
pub(super) async fn inside(
    socket: (Incoming, Outgoing),
    conversation: MonitorLink,
    most: usize,
    over: CancellationToken,
) {
    let channels = Channels {
        tasks: TaskTracker::new(),
        most,
        over,
    };
    tokio::select! {
        () = carry(socket, conversation, &channels) => channels.end().await,
        // Whoever holds the other ends now: nothing goes on.
        () = channels.over.cancelled() => {}
    }
}

/// The channels of one connection, in the daemon.
struct Channels {
    tasks: TaskTracker,
    most: usize,
    over: CancellationToken,
}

impl Channels {
    /// They end with their sessions or their client, as a rule. Who has sent both ends of one socket waits for nobody.
    async fn end(&self) {
        self.tasks.close();
        drop(tokio::time::timeout(PARTING, self.tasks.wait()).await);
        self.over.cancel();
    }
}

async fn carry(
    (mut incoming, outgoing): (Incoming, Outgoing),
    conversation: MonitorLink,
    channels: &Channels,
) {
    let MonitorLink { asks, mut orders } = conversation;
    let mut waiting: VecDeque<oneshot::Receiver<Answer>> = VecDeque::new();
    let carried = async {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None => return Ok(()),
                    Some(order) => outgoing.say(MESSAGE, &ToConnection::Order(order), None).await?,
                },
                answer = oldest(&mut waiting) => {
                    waiting.pop_front();
                    outgoing.say(MESSAGE, &ToConnection::Answer(answer), None).await?;
                }
                frame = incoming.next(), if waiting.len() < ASKS => {
                    let Some(frame) = frame? else {
                        return Ok(());
                    };
                    let (ask, link) = asked(frame, channels)?;
                    let (reply, answer) = oneshot::channel();
                    // There is room: no more are under way than it holds.
                    let envelope = Envelope {
                        ask: Box::new(ask),
                        link,
                        reply,
                    };
                    asks.try_send(envelope).map_err(|_| invalid("too many questions"))?;
                    waiting.push_back(answer);
                }
            }
        }
    };
    if let Err(error) = carried.await {
        let error: io::Error = error;
        tracing::debug!(%error, "a connection's way from the network process ended");
    }
}

/// The answer to the oldest question that has none. One that is dropped is a no.
async fn oldest(waiting: &mut VecDeque<oneshot::Receiver<Answer>>) -> Answer {
    match waiting.front_mut() {
        Some(answer) => answer.await.unwrap_or(Answer::No),
        None => std::future::pending().await,
    }
}

/// What is asked, and the session's end of the channel that came with it.
fn asked(mut frame: Frame, channels: &Channels) -> io::Result<(Ask, Option<SessionLink>)> {
    let Asked(ask) = frame.message()?;
    let ask = border::ask(ask)?;
    match (&ask, frame.descriptor.take()) {
        (Ask::Open(_), Some(descriptor)) => {
            if channels.tasks.len() >= channels.most {
                return Err(invalid("too many channels"));
            }
            let socket = frames::on_sent(descriptor)?;
            let (client, session) = messages::link();
            let over = channels.over.child_token();
            channels.tasks.spawn(async move {
                tokio::select! {
                    () = channel::inside(socket, client) => {}
                    () = over.cancelled() => {}
                }
            });
            Ok((ask, Some(session)))
        }
        (Ask::Open(_), None) => Err(invalid("a channel without its socket")),
        (_, None) => Ok((ask, None)),
        (_, Some(_)) => Err(invalid("a descriptor with a question")),
    }
}
