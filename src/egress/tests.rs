//! What holds of a session's proxy whatever its sandbox does.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::task::JoinHandle;

use super::*;
use crate::config::test_keys::ED25519;
use crate::config::{self, SessionKind};
use crate::identity::identify;
use crate::messages::{Offer, Peer};
use crate::policy::{Circumstances, Request as Asks, decide};
use crate::store::testing::State;

/// A session whose role reaches one host, and that host.
struct World {
    state: State,
    host: TcpListener,
    config: watch::Sender<Arc<Config>>,
    grant: Grant,
}

impl World {
    async fn new() -> Self {
        let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State::new();
        let text = format!(
            r#"
apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {{name: main}}
spec: {{listen: "127.0.0.1:2222", advertise: "bastion.example.com:22", hostKeys: [host], stateDir: state}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: prod}}
spec: {{inCluster: true}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator-a}}
spec: {{keys: ["{ED25519}"]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: viewer}}
spec:
  kubernetes: {{clusters: [prod], serviceAccount: {{namespace: bastion-viewer, name: viewer}}}}
  egress: ["{}"]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: viewers}}
spec: {{subjects: [{{identity: operator-a}}], roles: [viewer]}}
"#,
            host.local_addr().unwrap()
        );
        let config = config::parse(Path::new("config.yaml"), &text)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let grant = granted(&config, state.clock().now());
        let (config, _) = watch::channel(Arc::new(config));
        Self {
            state,
            host,
            config,
            grant,
        }
    }

    fn egress(&self) -> Egress {
        Egress {
            session: SessionId::new(self.state.clock().now()),
            grant: self.grant.clone(),
            config: self.config.subscribe(),
            audit: self.state.audit.clone(),
        }
    }

    /// Serves, and says where.
    async fn serve(&self, over: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serve(listener, self.egress(), over.clone()));
        (address, served)
    }

    /// Asks to be connected to the host.
    async fn ask(&self, proxy: SocketAddr) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        let host = self.host.local_addr().unwrap();
        let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        BufReader::new(stream)
    }
}

fn granted(config: &Config, now: jiff::Timestamp) -> Grant {
    let offer = Offer {
        principal: "viewer".into(),
        public_key: ED25519.into(),
        certificate: None,
        algorithm: "ssh-ed25519".into(),
    };
    let peer = Peer {
        address: "192.0.2.7:50000".parse().unwrap(),
        client: String::new(),
    };
    let identity = identify(config, &offer, &peer, now).unwrap();
    let asks = Asks {
        principal: "viewer".into(),
        kind: SessionKind::Exec,
    };
    let circumstances = Circumstances {
        now,
        from: peer.address.ip(),
        open: &[],
    };
    decide(config, &identity, &asks, circumstances).unwrap()
}

async fn status(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

#[tokio::test]
async fn what_cannot_be_put_on_record_is_not_connected() {
    let world = World::new().await;
    let over = CancellationToken::new();
    let (proxy, served) = world.serve(&over).await;
    let log = world.state.dir.path().join("audit.jsonl");
    std::fs::rename(&log, world.state.dir.path().join("audit.jsonl.1")).unwrap();
    std::fs::create_dir(&log).unwrap();
    let mut asking = world.ask(proxy).await;
    let said = status(&mut asking).await;
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    // It was tried before it was to be told, and not a byte went through.
    let (mut host, _) = world.host.accept().await.unwrap();
    let mut heard = Vec::new();
    host.read_to_end(&mut heard).await.unwrap();
    assert!(heard.is_empty());
    over.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn as_many_are_connected_at_once_as_may_be_and_all_end_with_the_session() {
    let world = World::new().await;
    let over = CancellationToken::new();
    let (proxy, served) = world.serve(&over).await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut asking = world.ask(proxy).await;
        assert!(status(&mut asking).await.starts_with("HTTP/1.1 200"));
        open.push((asking, world.host.accept().await.unwrap().0));
    }
    let mut one_more = world.ask(proxy).await;
    let answered = timeout(Duration::from_millis(300), status(&mut one_more)).await;
    assert!(answered.is_err(), "{answered:?}");
    open.pop();
    assert!(status(&mut one_more).await.starts_with("HTTP/1.1 200"));

    over.cancel();
    served.await.unwrap();
    for (mut inside, mut outside) in open {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        // Whether by an end or a reset: nothing comes any more.
        drop(inside.read_to_end(&mut left).await);
        drop(outside.read_to_end(&mut right).await);
    }
    let events = world.state.events("egress.");
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(of("egress.opened"), CONNECTIONS + 1);
    assert_eq!(of("egress.closed"), CONNECTIONS + 1);
}

#[tokio::test]
async fn refusals_are_told_up_to_a_number() {
    let world = World::new().await;
    let served = Served {
        egress: world.egress(),
        refused: AtomicU32::new(TOLD - 1),
        over: CancellationToken::new(),
    };
    let to = HostPort {
        host: "other.example.com".into(),
        port: 443,
    };
    for _ in 0..3 {
        let refused = served.open(&to).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        served.tell_refused(&to, &refused).await;
    }
    assert_eq!(world.state.events("egress.refused").len(), 1);
}
