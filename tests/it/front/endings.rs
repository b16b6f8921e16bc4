//! Whatever a client does, an end that is due happens.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::monitor::Seen;
use super::{Bastion, limits, outcome, send_signal, soon};

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_why_it_is_disconnected() {
    let bastion = Bastion::start(limits()).await;
    let ssh = bastion.ssh(&[], &["sleep"]).spawn().unwrap();
    bastion.monitor.wait_for_session("asleep").await;
    bastion
        .monitor
        .disconnect(0, "your role was taken away")
        .await;
    let ran = outcome(ssh).await;
    assert_eq!(ran.code, Some(255));
    assert!(
        ran.stderr.contains("your role was taken away"),
        "{}",
        ran.stderr
    );
    bastion.monitor.wait_for_session("woken").await;
    bastion.monitor.wait_for_end().await;
}

/// The client's process is stopped: its kernel takes bytes until its buffers are full, then nothing moves.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_ended_on_order() {
    let bastion = Bastion::start(limits()).await;
    let ssh = bastion.ssh(&[], &["source", "268435456"]).spawn().unwrap();
    bastion
        .monitor
        .wait_for("the command", |seen| matches!(seen, Seen::Open(_)))
        .await;
    send_signal(&ssh, Signal::STOP);
    tokio::time::sleep(Duration::from_millis(300)).await;
    ended_on_order_while_others_are_served(&bastion).await;
    bastion.monitor.wait_for_session("client gone").await;
}

/// The client lives, but nobody reads its standard output: its channel's window is zero.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_closed_window_is_ended_on_order() {
    let bastion = Bastion::start(limits()).await;
    let _ssh = bastion.ssh(&[], &["source", "268435456"]).spawn().unwrap();
    bastion
        .monitor
        .wait_for("the command", |seen| matches!(seen, Seen::Open(_)))
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ended_on_order_while_others_are_served(&bastion).await;
    bastion.monitor.wait_for_session("client gone").await;
}

/// Input that nobody takes stops the socket: the order must not need it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_input_nobody_takes_is_ended_on_order() {
    let bastion = Bastion::start(limits()).await;
    let mut ssh = bastion
        .ssh(&[], &["deaf"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    tokio::spawn(async move { stdin.write_all(&vec![0; 64 << 20]).await });
    bastion.monitor.wait_for_session("deaf").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ended_on_order_while_others_are_served(&bastion).await;
    bastion.monitor.wait_for_session("client gone").await;
}

async fn ended_on_order_while_others_are_served(bastion: &Bastion) {
    let other = bastion.run(&[], &["both"]).await;
    assert_eq!((other.code, other.text()), (Some(3), "out\n"));
    bastion.monitor.wait_for_end().await;
    let ordered = now();
    bastion.monitor.disconnect(0, "enough").await;
    bastion
        .monitor
        .wait_for_many(2, "the end", |seen| *seen == Seen::Ended)
        .await;
    assert!(
        ordered.elapsed() < Duration::from_secs(2),
        "{:?}",
        ordered.elapsed()
    );
}

/// One channel's client side reads nothing; the other channel of the same connection must not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_stops_its_own_channel_only() {
    let bastion = Bastion::start(limits()).await;
    let socket = format!("ControlPath={}", bastion.path("control").display());
    let shared = ["-o", "ControlMaster=auto", "-o", &socket];
    let _stuck = bastion
        .ssh(&shared, &["source", "268435456"])
        .spawn()
        .unwrap();
    bastion
        .monitor
        .wait_for("the command", |seen| matches!(seen, Seen::Open(_)))
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let other = bastion.run(&shared, &["both"]).await;
    assert_eq!(
        (other.code, other.text()),
        (Some(3), "out\n"),
        "{}",
        other.stderr
    );
    assert_eq!(bastion.monitor.count(|seen| *seen == Seen::Connected), 1);
}

/// Input that one command does not take stops neither another command of the connection nor the client's leaving.
#[tokio::test(flavor = "multi_thread")]
async fn input_that_nobody_takes_stops_its_own_channel_only() {
    let mut limits = limits();
    limits.keepalive = Duration::from_millis(500);
    let bastion = Bastion::start(limits).await;
    let socket = format!("ControlPath={}", bastion.path("control").display());
    let shared = ["-o", "ControlMaster=auto", "-o", &socket];
    let mut deaf = bastion
        .ssh(&shared, &["deaf"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = deaf.stdin.take().unwrap();
    tokio::spawn(async move { stdin.write_all(&vec![0; 64 << 20]).await });
    bastion.monitor.wait_for_session("deaf").await;
    // Long enough for the windows to be full and for three keepalives.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut other = bastion
        .ssh(&shared, &["cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = other.stdin.take().unwrap();
    stdin.write_all(b"both ways").await.unwrap();
    drop(stdin);
    let other = outcome(other).await;
    assert_eq!(
        (other.code, other.text()),
        (Some(0), "both ways"),
        "{}",
        other.stderr
    );
    assert_eq!(bastion.monitor.count(|seen| *seen == Seen::Connected), 1);
    let left = now();
    send_signal(&deaf, Signal::TERM);
    bastion.monitor.wait_for_session("client gone").await;
    assert!(
        left.elapsed() < Duration::from_secs(5),
        "{:?}",
        left.elapsed()
    );
}

/// More than the window of a client whose output nobody reads, and little enough for a session to be done with it.
const MORE_THAN_A_WINDOW: &str = "2300000";

/// A session that is killed drops its link; its channel closes though the client takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_dropped_closes_its_channel_without_the_client() {
    let mut limits = limits();
    limits.drain = Duration::from_secs(60);
    let bastion = Bastion::start(limits).await;
    let _ssh = bastion
        .ssh(&[], &["drop-after", MORE_THAN_A_WINDOW])
        .spawn()
        .unwrap();
    bastion.monitor.wait_for_session("dropped").await;
    // The last session is over, so the daemon need not wait for it.
    bastion.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), bastion.served)
        .await
        .expect("no session is left")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_was_said_before_the_end_reaches_a_slow_reader() {
    let bastion = Bastion::start(limits()).await;
    let mut ssh = bastion
        .ssh(&[], &["source", MORE_THAN_A_WINDOW])
        .spawn()
        .unwrap();
    bastion
        .monitor
        .wait_for("the command", |seen| matches!(seen, Seen::Open(_)))
        .await;
    // Longer than it takes to notice that a session was dropped.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut output = Vec::new();
    soon(ssh.stdout.take().unwrap().read_to_end(&mut output))
        .await
        .unwrap();
    let expected = super::monitor::pattern(MORE_THAN_A_WINDOW.parse().unwrap());
    assert!(output == expected, "{} bytes", output.len());
    assert_eq!(outcome(ssh).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_ends_its_session_at_once() {
    let bastion = Bastion::start(limits()).await;
    let ssh = bastion.ssh(&[], &["sleep"]).spawn().unwrap();
    bastion.monitor.wait_for_session("asleep").await;
    let killed = now();
    send_signal(&ssh, Signal::KILL);
    bastion.monitor.wait_for_session("woken").await;
    bastion.monitor.wait_for_end().await;
    assert!(killed.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_ends_its_session_at_once() {
    let bastion = Bastion::start(limits()).await;
    let between = Between::start(&bastion).await;
    let _ssh = bastion
        .ssh_to(between.port, &[], &["sleep"])
        .spawn()
        .unwrap();
    bastion.monitor.wait_for_session("asleep").await;
    let reset = now();
    between.end(Ending::Reset).await;
    bastion.monitor.wait_for_session("woken").await;
    bastion.monitor.wait_for_end().await;
    assert!(reset.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_no_keepalive_is_ended() {
    let mut limits = limits();
    limits.keepalive = Duration::from_millis(300);
    let bastion = Bastion::start(limits).await;
    let between = Between::start(&bastion).await;
    let _ssh = bastion
        .ssh_to(between.port, &[], &["sleep"])
        .spawn()
        .unwrap();
    bastion.monitor.wait_for_session("asleep").await;
    // While the client answers, silence of its user does not matter.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bastion.monitor.count(|seen| *seen == Seen::Ended), 0);
    let silent = now();
    let _held = between.end(Ending::Silence).await;
    bastion.monitor.wait_for_end().await;
    let took = silent.elapsed();
    assert!(
        took > Duration::from_millis(800) && took < Duration::from_secs(4),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keepalives_do_not_keep_an_idle_connection() {
    let mut limits = limits();
    limits.keepalive = Duration::from_millis(200);
    limits.idle_timeout = Duration::from_secs(2);
    let bastion = Bastion::start(limits).await;
    // This one has something to say every now and then.
    let mut busy = bastion
        .ssh(&[], &["cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = busy.stdin.take().unwrap();
    let idle = bastion
        .ssh(&["-o", "ServerAliveInterval=1"], &["sleep"])
        .spawn()
        .unwrap();
    for _ in 0..8 {
        stdin.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(
        bastion.monitor.count(|seen| *seen == Seen::Ended),
        1,
        "the idle one only"
    );
    let idle = outcome(idle).await;
    assert_eq!(idle.code, Some(255));
    assert!(
        idle.stderr.contains("no input and no output"),
        "{}",
        idle.stderr
    );
    drop(stdin);
    let busy = outcome(busy).await;
    assert_eq!((busy.code, busy.text()), (Some(0), "xxxxxxxx"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_on_when_the_deciding_side_is_gone() {
    let bastion = Bastion::start(limits()).await;
    let ssh = bastion.ssh(&[], &["sleep"]).spawn().unwrap();
    bastion.monitor.wait_for_session("asleep").await;
    bastion.monitor.vanish();
    let ran = outcome(ssh).await;
    assert_eq!(ran.code, Some(255));
}

/// A relay between client and bastion that ends as it is told.
struct Between {
    port: u16,
    end: tokio::sync::oneshot::Sender<Ending>,
    relay: tokio::task::JoinHandle<Option<(TcpStream, TcpStream)>>,
}

enum Ending {
    Reset,
    Silence,
}

impl Between {
    async fn start(bastion: &Bastion) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (end, ending) = tokio::sync::oneshot::channel();
        let to = bastion.address;
        let relay = tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(to).await.unwrap();
            let ending = tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return None,
                ending = ending => ending.unwrap(),
            };
            match ending {
                Ending::Reset => {
                    rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
                    None
                }
                Ending::Silence => Some((near, far)),
            }
        });
        Self { port, end, relay }
    }

    /// For silence, what must be held on to.
    async fn end(self, ending: Ending) -> Option<(TcpStream, TcpStream)> {
        self.end.send(ending).ok().unwrap();
        self.relay.await.unwrap()
    }
}
