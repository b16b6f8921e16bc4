//! Who is let in, with hostile clients of our own: they flood, drip, lie and leave.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bastion_audit::config::{Admission, Penalties, SourceNetwork, Startups};
use bastion_audit::strangers::Reason;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::monitor::Seen;
use super::{Bastion, limits, rules, soon};

/// Nothing is exempt but what a test says.
fn admission() -> Admission {
    Admission::default()
}

async fn under(admission: Admission) -> Bastion {
    let mut rules = rules(limits());
    rules.admission = admission;
    rules.limits.max_connections = 5000;
    Bastion::under(rules).await
}

fn network(text: &str) -> SourceNetwork {
    SourceNetwork::parse(text).unwrap()
}

/// A connection from 127.0.`third`.`fourth`.
async fn from(bastion: &Bastion, third: u8, fourth: u8) -> TcpStream {
    connected(bastion.address, third, fourth).await
}

async fn connected(to: SocketAddr, third: u8, fourth: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, third, fourth), 0));
    socket.bind(own).unwrap();
    socket.connect(to).await.unwrap()
}

/// What the daemon says until it closes.
async fn said(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is a close too.
    drop(soon(stream.read_to_end(&mut bytes)).await);
    bytes
}

/// Whether the daemon greets whoever comes from there.
async fn is_greeted(bastion: &Bastion, third: u8, fourth: u8) -> bool {
    let mut stream = from(bastion, third, fourth).await;
    let mut greeting = [0; 8];
    match soon(stream.read(&mut greeting)).await {
        Ok(read) => read > 0,
        Err(_) => false,
    }
}

fn turned_away(bastion: &Bastion, reason: Reason) -> u64 {
    let totals = bastion.strangers.totals();
    let (_, times) = totals.into_iter().find(|(it, _)| *it == reason).unwrap();
    times
}

/// The daemon's resident memory is this process's.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

/// A hundred sources that hold a thousand half-open connections, and come again as often as they are closed.
async fn flood(address: SocketAddr, opened: Arc<AtomicU32>) {
    let mut held = VecDeque::new();
    loop {
        let number = opened.fetch_add(1, Ordering::Relaxed);
        let fourth = u8::try_from(number % 100 + 10).unwrap();
        let mut stream = connected(address, 7, fourth).await;
        // Some say nothing, some stop in the middle of a line, some in the middle of a packet.
        let words: &[u8] = match number % 3 {
            0 => b"",
            1 => b"SSH-2.0-slow",
            _ => b"SSH-2.0-x\r\n\0\0\x01\x0c",
        };
        drop(stream.write_all(words).await);
        held.push_back(stream);
        if held.len() > 1000 {
            held.pop_front();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_login_gets_in_past_a_thousand_half_open_connections() {
    let mut rules = rules(limits());
    rules.limits.login_grace = Duration::from_secs(2);
    rules.limits.max_connections = 5000;
    rules.admission = Admission {
        startups: Startups {
            start: 100,
            rate: 30,
            full: 200,
        },
        penalties: Some(Penalties {
            least: Duration::from_secs(9),
            ..Penalties::default()
        }),
        ..admission()
    };
    // This process holds both ends.
    let files = getrlimit(Resource::Nofile);
    let more = Rlimit {
        current: files.maximum,
        ..files
    };
    setrlimit(Resource::Nofile, more).unwrap();
    let bastion = Bastion::under(rules).await;
    let before = resident_mib();
    let opened = Arc::new(AtomicU32::new(0));
    let flooding = tokio::spawn(flood(bastion.address, Arc::clone(&opened)));
    while opened.load(Ordering::Relaxed) < 1000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // All but those who are held, and those whom another may make way for yet. The daemon may be behind with who has come.
    soon(async {
        while turned_away(&bastion, Reason::Startups) < 700 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (unproven, _) = bastion.strangers.standing();
    assert!(unproven <= 200, "{unproven}");
    // Each at the first try: whoever has many connections there makes way for who has one.
    for _ in 0..20 {
        let config = Arc::new(russh::client::Config::default());
        let client = russh::client::connect(config, bastion.address, super::AnyHost).await;
        let mut client = client.expect("an honest client was turned away");
        let answer = client.authenticate_publickey("operator-a", bastion.key("id"));
        assert!(answer.await.is_ok_and(|answer| answer.success()));
        assert!(client.channel_open_session().await.is_ok());
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 100, "{grown} MiB");
    assert!(!flooding.is_finished());
    flooding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_takes_its_share_of_the_waiting_room_and_no_more() {
    let bastion = under(Admission {
        startups_per_source: 3,
        exempt: vec![network("127.0.0.1")],
        ..admission()
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(from(&bastion, 7, 7).await);
    }
    bastion
        .monitor
        .wait_for_many(3, "connections", |seen| *seen == Seen::Connected)
        .await;
    assert_eq!(said(from(&bastion, 7, 7).await).await, b"");
    assert_eq!(turned_away(&bastion, Reason::PerSource), 1);
    assert!(is_greeted(&bastion, 7, 8).await);
    // Who is proven is not counted any more, and who is exempt never was.
    let _clients = [bastion.login().await, bastion.login().await];
    let ran = bastion.run(&[], &["both"]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}

/// Whoever makes way has no timers any more either: what is left of it would be there for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_makes_way_is_closed_however_far_it_has_come() {
    let bastion = under(Admission {
        startups: Startups {
            start: 2,
            rate: 100,
            full: 2,
        },
        ..admission()
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = from(&bastion, 7, 7).await;
        stream.write_all(b"SSH-2.0-slow\r\n").await.unwrap();
        // More than its greeting: it has heard ours.
        let mut heard = [0; 200];
        soon(stream.read_exact(&mut heard)).await.unwrap();
        open.push(stream);
    }
    assert!(is_greeted(&bastion, 7, 8).await);
    let (second, first) = (open.pop().unwrap(), open.pop().unwrap());
    tokio::select! {
        _ = said(first) => {}
        _ = said(second) => {}
    }
}

/// Where one thing costs two seconds and nothing else costs anything.
async fn under_penalty(cost: impl FnOnce(&mut Penalties)) -> Bastion {
    let mut penalties = Penalties {
        auth_failed: Duration::ZERO,
        no_attempt: Duration::ZERO,
        garbage: Duration::ZERO,
        crash: Duration::ZERO,
        least: Duration::from_secs(1),
        ..Penalties::default()
    };
    cost(&mut penalties);
    under(Admission {
        penalties: Some(penalties),
        exempt: vec![network("127.0.0.1")],
        ..admission()
    })
    .await
}

/// Waits until a source is refused: the client may see the end before it is counted.
async fn until_refused(bastion: &Bastion, third: u8, fourth: u8) {
    let began = Instant::now();
    while is_greeted(bastion, third, fourth).await {
        assert!(began.elapsed() < Duration::from_secs(1), "{third}.{fourth}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_garbage_leaves_or_fails_is_refused_for_a_while_and_nobody_else_is() {
    let two_seconds = Duration::from_secs(2);
    let bastion = under_penalty(|penalties| penalties.garbage = two_seconds).await;
    let long_line = vec![b'x'; 100_000];
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 22\r\nSSH-2.0-x\r\n",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &long_line,
    ];
    for (number, words) in (1..).zip(garbage) {
        let mut stream = from(&bastion, 8, number).await;
        // It may be cut in mid-sentence.
        drop(stream.write_all(words).await);
        said(stream).await;
        until_refused(&bastion, 8, number).await;
        assert!(is_greeted(&bastion, 8, 100 + number).await);
    }
    let client = bastion.login().await;
    assert!(client.channel_open_session().await.is_ok());
    assert!(turned_away(&bastion, Reason::Penalty) >= 4);
    let began = Instant::now();
    while !is_greeted(&bastion, 8, 4).await {
        assert!(began.elapsed() < Duration::from_secs(5), "never again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let bastion = under_penalty(|penalties| penalties.no_attempt = two_seconds).await;
    assert!(is_greeted(&bastion, 9, 1).await);
    until_refused(&bastion, 9, 1).await;
    assert!(is_greeted(&bastion, 9, 2).await);

    let bastion = under_penalty(|penalties| penalties.auth_failed = two_seconds).await;
    let config = Arc::new(russh::client::Config::default());
    let stream = from(&bastion, 9, 1).await;
    let mut client = russh::client::connect_stream(config, stream, super::AnyHost)
        .await
        .unwrap();
    let answer = client.authenticate_publickey("operator-a", bastion.key("stranger"));
    assert!(!answer.await.unwrap().success());
    drop(client);
    until_refused(&bastion, 9, 1).await;
    assert!(is_greeted(&bastion, 9, 2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_listed_proxy_says_counts_and_nobody_else_is_listened_to() {
    let bastion = under(Admission {
        proxies: vec![network("127.0.10.0/24")],
        deny: vec![network("192.0.2.66")],
        penalties: None,
        ..admission()
    })
    .await;
    for (header, greeted) in [
        (&b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 22\r\n"[..], true),
        (b"PROXY TCP4 192.0.2.66 198.51.100.1 49152 22\r\n", false),
        (b"PROXY UNKNOWN\r\n", false),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", false),
    ] {
        let mut stream = from(&bastion, 10, 1).await;
        stream.write_all(header).await.unwrap();
        let mut greeting = [0; 8];
        let read = soon(stream.read(&mut greeting)).await.unwrap_or(0);
        assert_eq!(read > 0, greeted, "{}", header.escape_ascii());
    }
    assert_eq!(turned_away(&bastion, Reason::Proxy), 2);
    assert_eq!(turned_away(&bastion, Reason::Denied), 1);
    // Who is not listed is not believed: a header is garbage, and nothing is asked about anybody.
    let mut stream = from(&bastion, 11, 1).await;
    let header = b"PROXY TCP4 192.0.2.8 198.51.100.1 49152 22\r\nSSH-2.0-x\r\n";
    stream.write_all(header).await.unwrap();
    let answer = said(stream).await;
    assert!(answer.starts_with(b"SSH-2.0-bastion-audit_0.1\r\n"));
    assert!(answer.len() < 64, "{}", answer.escape_ascii());
    let peers = bastion.monitor.peers();
    let mut addresses = peers.iter().map(ToString::to_string);
    assert_eq!(addresses.next().as_deref(), Some("192.0.2.7:49152"));
    assert!(
        addresses.all(|address| address.starts_with("127.0.11.1:")),
        "{peers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_network_hears_nothing_and_a_reload_lets_it_in() {
    let mut rules = rules(limits());
    rules.admission.deny = vec![network("127.0.12.0/24")];
    let bastion = Bastion::under(rules.clone()).await;
    assert!(!is_greeted(&bastion, 12, 1).await);
    assert!(is_greeted(&bastion, 13, 1).await);
    rules.admission.deny.clear();
    bastion.rules.send(rules).unwrap();
    assert!(is_greeted(&bastion, 12, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banner_is_shown_before_anything_is_proven() {
    let mut rules = rules(limits());
    rules.banner = Some("For operators only.\nWhat you do is on record.".to_owned());
    let bastion = Bastion::under(rules).await;
    let ran = bastion.run(&[], &["both"]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let banner = "For operators only.\r\nWhat you do is on record.\r\n";
    assert!(ran.stderr.contains(banner), "{:?}", ran.stderr);
}
