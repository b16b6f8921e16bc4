use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frames::{self, Incoming, Outgoing};
use super::protocol::{Asked, MESSAGE, ToConnection};
use super::{border, channel, connection};
use crate::messages::{
    self, Answer, Ask, ClientEvent, ClientLink, Command, Destination, Envelope, MonitorLink, Offer,
    Open, Order, Peer, SessionEvent, SessionLink, Terminal, WindowSize,
};

const SOON: Duration = Duration::from_secs(10);

type Socket = (Incoming, Outgoing);

fn sockets() -> (Socket, Socket) {
    let (here, there) = frames::pair().unwrap();
    (frames::on(here), frames::on_sent(there).unwrap())
}

/// The bytes of one frame, as anybody could write them.
fn raw(length: u32, kind: u8, with: u8, body: &[u8]) -> Vec<u8> {
    let mut raw = length.to_le_bytes().to_vec();
    raw.extend([kind, with]);
    raw.extend(body);
    raw
}

/// What comes out where somebody writes these bytes and ends.
async fn read(bytes: &[u8]) -> Vec<std::io::Result<(u8, Vec<u8>)>> {
    let (mut writer, socket) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut incoming, _) = frames::on_sent(socket.into()).unwrap();
    writer.write_all(bytes).unwrap();
    drop(writer);
    let mut all = Vec::new();
    loop {
        match incoming.next().await {
            Ok(Some(frame)) => all.push(Ok((frame.kind, frame.body.to_vec()))),
            Ok(None) => return all,
            Err(error) => {
                all.push(Err(error));
                return all;
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_come_out_as_they_went_in(bodies in prop::collection::vec((any::<u8>(), 0..200_000_usize), 0..6)) {
        runtime().block_on(async {
            let ((_, outgoing), (mut incoming, _)) = sockets();
            let sent: Vec<(u8, Vec<u8>)> =
                bodies.iter().map(|(kind, length)| (*kind, vec![*kind; *length])).collect();
            let expected = sent.clone();
            let sending = tokio::spawn(async move {
                for (kind, body) in sent {
                    outgoing.send(kind, &body, None).await.unwrap();
                }
            });
            let mut got = Vec::new();
            while let Some(frame) = incoming.next().await.unwrap() {
                got.push((frame.kind, frame.body.to_vec()));
            }
            sending.await.unwrap();
            assert!(got == expected);
        });
    }

    #[test]
    fn whatever_somebody_writes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        runtime().block_on(async {
            let read = tokio::time::timeout(SOON, read(&bytes)).await.unwrap();
            let taken: usize = read.iter().flatten().map(|(_, body)| body.len()).sum();
            assert!(taken <= bytes.len());
        });
    }
}

#[tokio::test]
async fn what_is_no_frame_is_refused() {
    let good = raw(2, 7, 0, b"ab");
    assert!(matches!(read(&good).await.as_slice(), [Ok((7, body))] if body == b"ab"));
    let too_long = raw((512 << 10) + 1, 7, 0, b"");
    assert!(matches!(read(&too_long).await.as_slice(), [Err(_)]));
    let claims_a_descriptor = raw(1, 7, 1, b"a");
    assert!(matches!(
        read(&claims_a_descriptor).await.as_slice(),
        [Err(_)]
    ));
    let claims_two = raw(1, 7, 2, b"a");
    assert!(matches!(read(&claims_two).await.as_slice(), [Err(_)]));
    let mut half = good.clone();
    half.extend(&good[..7]);
    assert!(matches!(read(&half).await.as_slice(), [Ok(_), Err(_)]));
}

#[tokio::test]
async fn a_descriptor_comes_with_its_own_frame() {
    let ((_, outgoing), (mut incoming, _)) = sockets();
    let files: Vec<_> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
    for (number, file) in (0_u8..).zip(&files) {
        outgoing.send(number, b"without", None).await.unwrap();
        let with = Some(file.as_fd());
        outgoing.send(number, b"with", with).await.unwrap();
    }
    for file in &files {
        assert!(incoming.next().await.unwrap().unwrap().descriptor.is_none());
        let sent = incoming.next().await.unwrap().unwrap().descriptor.unwrap();
        let inode = |file: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(file).unwrap().st_ino;
        assert_eq!(inode(sent.as_fd()), inode(file.as_fd()));
    }
}

/// Runs alone in a process of its own: the limit is the whole process's.
#[test]
#[ignore = "runs in a process of its own, started by the test below"]
fn child_without_room_for_descriptors() {
    runtime().block_on(async {
        let ((_, outgoing), (mut incoming, _)) = sockets();
        let file = tempfile::tempfile().unwrap();
        for number in 0..2 {
            outgoing
                .send(number, b"with", Some(file.as_fd()))
                .await
                .unwrap();
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let none = rustix::process::Rlimit {
            current: Some(0),
            maximum: limit.maximum,
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, none).unwrap();
        let lost = incoming.next().await.unwrap().unwrap();
        assert!(lost.kind == 0 && lost.descriptor.is_none());
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let next = incoming.next().await.unwrap().unwrap();
        assert!(next.kind == 1 && next.descriptor.is_some());
    });
}

#[test]
fn a_descriptor_that_there_is_no_room_for_is_missed_and_nothing_else() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact"])
        .arg("network::tests::child_without_room_for_descriptors")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}

#[tokio::test]
async fn nothing_but_a_socket_serves_as_one() {
    let file = tempfile::tempfile().unwrap();
    assert!(frames::on_sent(file.into()).is_err());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(frames::on_sent(listener.into()).is_err());
}

/// A channel that leads through two processes: both ends as the two sides see them.
fn channel() -> (ClientLink, SessionLink) {
    let (outside, inside) = sockets();
    let (client, session_outside) = messages::link();
    let (client_inside, session) = messages::link();
    tokio::spawn(channel::outside(outside, session_outside));
    tokio::spawn(channel::inside(inside, client_inside));
    (client, session)
}

fn data(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn a_channel_carries_all_both_ways_and_its_end() {
    let (mut client, mut session) = channel();
    let input = [
        ClientEvent::Data(data(100_000)),
        ClientEvent::Resize(WindowSize { cols: 80, rows: 24 }),
        ClientEvent::Signal("INT".to_owned()),
        ClientEvent::Eof,
    ];
    for event in input.clone() {
        client.to_session.send(event).await.unwrap();
    }
    for expected in input {
        assert!(session.from_client.recv().await == Some(expected));
    }
    let output = [
        SessionEvent::Stdout(data(32_768)),
        SessionEvent::Stderr(data(10)),
        SessionEvent::Exit(7),
    ];
    for event in output.clone() {
        session.to_client.send(event).await.unwrap();
    }
    drop(session);
    for expected in output {
        assert!(client.from_session.recv().await == Some(expected));
    }
    assert_eq!(client.from_session.recv().await, None);
}

#[tokio::test]
async fn last_words_reach_a_client_that_reads_late() {
    let (mut client, session) = channel();
    for _ in 0..12 {
        let output = SessionEvent::Stdout(data(32_768));
        session.to_client.send(output).await.unwrap();
    }
    session.to_client.send(SessionEvent::Exit(0)).await.unwrap();
    drop(session);
    tokio::time::sleep(Duration::from_millis(800)).await;
    for _ in 0..12 {
        assert!(matches!(
            client.from_session.recv().await,
            Some(SessionEvent::Stdout(_))
        ));
    }
    assert_eq!(
        client.from_session.recv().await,
        Some(SessionEvent::Exit(0))
    );
}

/// Says so much that nobody takes it any more, and then drops its end.
async fn fill(to: mpsc::Sender<SessionEvent>) {
    while let Ok(Ok(())) = tokio::time::timeout(
        Duration::from_millis(500),
        to.send(SessionEvent::Stdout(data(32_768))),
    )
    .await
    {}
}

#[tokio::test]
async fn a_session_that_is_dropped_is_over_though_its_client_reads_nothing() {
    let (client, session) = channel();
    fill(session.to_client).await;
    let over = async {
        while !client.from_session.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, over).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_is_noticed_by_a_session_that_reads_nothing() {
    let (client, session) = channel();
    let filling = async {
        while let Ok(Ok(())) = tokio::time::timeout(
            Duration::from_millis(500),
            client.to_session.send(ClientEvent::Data(data(32_768))),
        )
        .await
        {}
    };
    filling.await;
    drop(client);
    tokio::time::timeout(SOON, session.to_client.closed())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_session_that_takes_no_more_input_goes_on_and_holds_nobody_up() {
    let (mut client, session) = channel();
    let SessionLink {
        from_client,
        to_client,
    } = session;
    drop(from_client);
    for _ in 0..100 {
        let sent = client.to_session.send(ClientEvent::Data(data(32_768)));
        tokio::time::timeout(SOON, sent).await.unwrap().unwrap();
    }
    to_client.send(SessionEvent::Exit(3)).await.unwrap();
    assert_eq!(
        client.from_session.recv().await,
        Some(SessionEvent::Exit(3))
    );
}

#[tokio::test]
async fn what_is_no_event_ends_its_channel() {
    let exit = rmp_serde::to_vec_named(&SessionEvent::Exit(0)).unwrap();
    let bytes = rmp_serde::to_vec_named(&ClientEvent::Data(data(3))).unwrap();
    let signal = rmp_serde::to_vec_named(&ClientEvent::Signal("go\nEVIL".to_owned())).unwrap();
    for (kind, body) in [
        (0, b"x".as_slice()),
        (2, b"standard error of a client"),
        (3, b"\xff\xff"),
        (3, &exit),
        (3, &bytes),
        (3, &signal),
    ] {
        let ((_incoming, outgoing), inside) = sockets();
        let (client, mut session) = messages::link();
        tokio::spawn(channel::inside(inside, client));
        outgoing.send(1, b"good", None).await.unwrap();
        outgoing.send(kind, body, None).await.unwrap();
        let good = ClientEvent::Data(Bytes::from_static(b"good"));
        assert_eq!(session.from_client.recv().await, Some(good));
        let ended = tokio::time::timeout(SOON, session.from_client.recv()).await;
        assert_eq!(ended.unwrap(), None, "{kind} {body:?}");
    }
}

/// The daemon's end of a connection, the deciding side behind it, and the socket that leads there.
fn connection(most: usize) -> (Socket, mpsc::Receiver<Envelope>, mpsc::Sender<Order>) {
    let (outside, inside) = sockets();
    let (asks, asked) = mpsc::channel(connection::ASKS);
    let (orders, ordered) = mpsc::channel(1);
    let link = MonitorLink {
        asks,
        orders: ordered,
    };
    tokio::spawn(connection::inside(
        inside,
        link,
        most,
        CancellationToken::new(),
    ));
    (outside, asked, orders)
}

fn open() -> Ask {
    Ask::Open(Open {
        command: Command::Shell,
        terminal: None,
    })
}

fn refused(what: &str) -> Ask {
    Ask::Refused {
        what: what.to_owned(),
    }
}

#[tokio::test]
async fn questions_are_answered_in_their_order_and_orders_come_at_any_time() {
    let (outside, mut asked, orders) = connection(1);
    let (asks, asks_rx) = mpsc::channel(1);
    let (orders_tx, mut ordered) = mpsc::channel(1);
    tokio::spawn(connection::outside(outside, asks_rx, orders_tx));
    let mut answers = Vec::new();
    for number in 0..20 {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let ask = refused(&number.to_string());
        let link = None;
        let ask = Box::new(ask);
        let envelope = Envelope { ask, link, reply };
        if number < 8 {
            asks.send(envelope).await.unwrap();
            answers.push(answer);
        } else if asks.try_send(envelope).is_ok() {
            answers.push(answer);
        }
    }
    // While nobody answers no more than so many are under way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(asked.len() <= connection::ASKS);
    let order = Order::Disconnect {
        reason: "now".to_owned(),
    };
    orders.send(order.clone()).await.unwrap();
    assert_eq!(ordered.recv().await, Some(order));
    for (number, answer) in answers.into_iter().enumerate() {
        let Envelope { ask, reply, .. } = asked.recv().await.unwrap();
        assert!(matches!(*ask, Ask::Refused { what } if what == number.to_string()));
        match number % 3 {
            0 => reply.send(Answer::Yes).unwrap(),
            1 => reply.send(Answer::No).unwrap(),
            // A question that is dropped is answered with no.
            _ => drop(reply),
        }
        let expected = if number % 3 == 0 {
            Answer::Yes
        } else {
            Answer::No
        };
        assert_eq!(answer.await.unwrap(), expected, "{number}");
    }
    drop(orders);
    drop(asked);
    assert_eq!(ordered.recv().await, None, "the deciding side is gone");
}

#[tokio::test]
async fn a_question_that_is_none_ends_its_connection() {
    let file = tempfile::tempfile().unwrap();
    let told = rmp_serde::to_vec_named(&Asked(refused("x11"))).unwrap();
    let opened = rmp_serde::to_vec_named(&Asked(open())).unwrap();
    let bad = Ask::Open(Open {
        command: Command::Tunnel(Destination::Named {
            role: "viewer".to_owned(),
            cluster: "../prod".to_owned(),
        }),
        terminal: None,
    });
    let bad = rmp_serde::to_vec_named(&Asked(bad)).unwrap();
    let answer = rmp_serde::to_vec_named(&ToConnection::Answer(Answer::Yes)).unwrap();
    let (_socket, other) = std::os::unix::net::UnixStream::pair().unwrap();
    for (what, body, descriptor) in [
        ("garbage", b"\xc1\x00".as_slice(), None),
        ("an answer", &answer, None),
        ("a descriptor too many", &told, Some(file.as_fd())),
        ("a channel without its socket", &opened, None),
        ("a channel with a file", &opened, Some(file.as_fd())),
        ("a destination that is none", &bad, Some(other.as_fd())),
    ] {
        let ((mut incoming, outgoing), mut asked, _orders) = connection(4);
        outgoing.send(MESSAGE, &told, None).await.unwrap();
        assert!(asked.recv().await.is_some());
        let _answered = incoming.next().await.unwrap().unwrap();
        outgoing.send(MESSAGE, body, descriptor).await.unwrap();
        let over = tokio::time::timeout(SOON, asked.recv()).await.unwrap();
        assert!(over.is_none(), "{what}");
    }
}

#[tokio::test]
async fn channels_are_bounded_whatever_the_other_side_says() {
    let ((_incoming, outgoing), mut asked, _orders) = connection(4);
    let mut kept = Vec::new();
    let mut served = Vec::new();
    for _ in 0..5 {
        let (here, there) = frames::pair().unwrap();
        kept.push(here);
        let sent = outgoing
            .say(MESSAGE, &Asked(open()), Some(there.as_fd()))
            .await;
        let asked = tokio::time::timeout(SOON, asked.recv()).await.unwrap();
        match asked {
            Some(Envelope { link, reply, .. }) => {
                reply.send(Answer::Yes).unwrap();
                served.push(link.unwrap());
            }
            None => break,
        }
        sent.unwrap();
    }
    assert_eq!(served.len(), 4);
}

#[test]
fn what_the_other_side_says_has_the_form_of_what_it_would_say() {
    let address = "192.0.2.7:1".parse().unwrap();
    let client = "SSH-2.0-\u{1b}[31m\n".to_owned() + &"x".repeat(1000);
    let peer = border::peer(Peer { address, client });
    assert!(peer.client.starts_with("SSH-2.0-?[31m?x") && peer.client.len() == 255);
    let Ask::Refused { what } = border::ask(refused(&"a\n\u{e9}".repeat(1000))).unwrap() else {
        panic!("something else");
    };
    assert!(what.len() <= 200 && !what.contains('\n') && what.is_ascii());
    let offer = |length: usize| {
        border::ask(Ask::Authenticate(Offer {
            principal: "x".repeat(length),
            public_key: String::new(),
            certificate: None,
            algorithm: String::new(),
        }))
    };
    assert!(offer(256 << 10).is_ok() && offer((256 << 10) + 1).is_err());
    let open = |command: Command, term: &str| {
        let terminal = Some(Terminal {
            term: term.to_owned(),
            size: WindowSize {
                cols: 0,
                rows: 65_535,
            },
            modes: Vec::new(),
        });
        border::ask(Ask::Open(Open { command, terminal }))
    };
    let Ok(Ask::Open(opened)) = open(Command::Shell, "xterm") else {
        panic!("not opened");
    };
    let size = WindowSize {
        cols: 80,
        rows: 4096,
    };
    assert_eq!(opened.terminal.unwrap().size, size);
    assert!(open(Command::Shell, "../../etc").is_err());
    assert!(open(Command::Subsystem("netconf\n".to_owned()), "xterm").is_err());
    assert!(border::event(ClientEvent::Signal("USR2".to_owned())).is_ok());
    assert!(border::event(ClientEvent::Signal("USR2\nKILL".to_owned())).is_err());
}
