//! Many who guess, from many places: what they cost, what is told of it, and who gets in meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::bastion::Bastion;

const SOURCES: u8 = 130;
/// So many failures are needed until a source is refused.
const TRIES: u64 = 4;

struct AnyHost;

impl russh::client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn from(source: u8, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 21, source), 0));
    socket.bind(own).unwrap();
    let daemon = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect(daemon).await.unwrap()
}

/// Tries a key that is nobody's, in the name of somebody.
async fn guess(source: u8, port: u16) {
    let stream = from(source, port).await;
    let config = Arc::new(russh::client::Config::default());
    let mut client = russh::client::connect_stream(config, stream, AnyHost)
        .await
        .unwrap();
    let key: PrivateKey = Ed25519Keypair::from_seed(&[source; 32]).into();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    let answer = client.authenticate_publickey("operator-a", key).await;
    assert!(!answer.is_ok_and(|answer| answer.success()));
}

#[test]
fn a_brute_force_is_told_in_numbers_and_an_operator_gets_in() {
    let mut bastion = Bastion::with(|documents| {
        let exempt = "admission: {exempt: [127.0.0.0/8]}";
        // Long, so that however slow this machine is none is over before all were tried.
        let penalties = "penalties: {authFailed: 2m, least: 7m}";
        let admission = format!("admission: {{startups: '500:30:1000', {penalties}}}");
        let changed = documents.replace(exempt, &admission);
        assert_ne!(documents, changed);
        changed
    });
    let port = bastion.port();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in 0..TRIES {
        runtime.block_on(async {
            let mut all = JoinSet::new();
            for source in 1..=SOURCES {
                all.spawn(guess(source, port));
            }
            while let Some(done) = all.join_next().await {
                done.unwrap();
            }
        });
    }
    // The last of them may not have been counted yet.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let refused = runtime.block_on(async {
        let mut refused = 0;
        for round in 0..1300_u32 {
            let source = u8::try_from(round % u32::from(SOURCES) + 1).unwrap();
            let mut stream = from(source, port).await;
            let mut greeting = [0; 4];
            refused += u64::from(stream.read(&mut greeting).await.unwrap_or(0) == 0);
        }
        refused
    });
    assert_eq!(refused, 1300);
    // They were all about operator-a, who is not concerned.
    let ran = bastion.run_ssh("operator-a", "viewer", "echo it runs");
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("it runs\n", Some(0)),
        "{ran:?}"
    );
    let metrics = String::from_utf8(bastion.cli(&["metrics"]).stdout).unwrap();
    let penalty = "bastion_audit_connections_turned_away_total{reason=\"penalty\"} 1300\n";
    assert!(metrics.contains(penalty), "{metrics}");
    assert!(
        metrics.contains("bastion_audit_sources_refused 130\n"),
        "{metrics}"
    );

    bastion.stop();
    let events = bastion.events();
    let count = |name: &str| {
        let named = events.iter().filter(|event| event["event"] == name);
        u64::try_from(named.count()).unwrap()
    };
    let summed_up = |of: &str, name: &str| -> u64 {
        let sums = events
            .iter()
            .filter(|event| event["event"] == "strangers.summed-up");
        sums.filter_map(|event| event[of][name].as_u64()).sum()
    };
    let tried = u64::from(SOURCES) * TRIES;
    let refusals = "authentication.refused";
    let (told, untold) = (count(refusals), summed_up("untold", refusals));
    assert_eq!(told + untold, tried);
    assert!(untold > 0);
    assert_eq!(summed_up("turnedAway", "penalty"), 1300);
    // A token is worth an opened and a closed connection, or a refused key.
    let lines = count("connection.opened") + count("connection.closed") + told;
    assert!(lines < 1400, "{lines} lines");
    let ok = events
        .iter()
        .position(|event| event["event"] == "authentication.ok");
    let opened = events
        .iter()
        .rposition(|event| event["event"] == "connection.opened");
    assert!(
        opened < ok,
        "an operator's connection is told of, whatever goes on"
    );
}
