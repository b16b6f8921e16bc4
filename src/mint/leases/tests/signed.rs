//! Leases that the daemon signs itself: nothing is asked of any API server, and nothing is called revoked.

use super::*;
use crate::config::{Cluster, Mint};
use crate::issuer;
use crate::policy::KubernetesSubject;

struct Signing {
    bench: Bench,
    _keys: tempfile::TempDir,
}

impl Signing {
    fn new() -> Self {
        let bench = Bench::new(|asked| panic!("{asked:?}"));
        Self::of(bench)
    }

    fn of(bench: Bench) -> Self {
        let keys = tempfile::tempdir().unwrap();
        issuer::create_key(&keys.path().join("key"), issuer::Algorithm::Es256).unwrap();
        let settings = crate::config::IssuerSettings {
            url: "https://bastion.example.com".into(),
            discovery_url: None,
            certificate_authority: None,
            signing_keys: vec![crate::config::IssuerKey::File(keys.path().join("key"))],
            token_ttl: crate::config::CredentialTtl::from_secs(300).unwrap(),
            listener: None,
        };
        bench.leases.issuing().update(Some(&settings)).unwrap();
        let upstream = Upstream::new(
            name("prod"),
            ClusterAccess::Kubeconfig("/nowhere".into()),
            Mint::OidcIssuer {
                audience: "prod".into(),
            },
        );
        know(&bench.leases, upstream);
        Self { bench, _keys: keys }
    }

    async fn mint(&self) -> Lease {
        let order = self.order();
        self.bench.leases.inner.sign(order).await.unwrap()
    }

    fn order(&self) -> Order {
        let now = self.bench.now();
        Order {
            subject: KubernetesSubject::Own {
                username: "ssh:operator-a".into(),
                groups: vec!["ssh:sre".into()],
            },
            ..Order::new(&grant(now), SessionId::new(now)).unwrap()
        }
    }

    fn state(&self) -> Option<LeaseState> {
        self.bench.leases.live().first().map(|lease| lease.state)
    }

    fn pass(&self, seconds: i64) {
        self.bench.clock.advance(SignedDuration::from_secs(seconds));
        self.bench.leases.inner.bell.notify_one();
    }
}

fn know(leases: &Leases, upstream: Upstream) {
    let mut upstreams = leases.inner.upstreams();
    upstreams.present.insert(name("prod"), Arc::new(upstream));
}

fn claims(lease: &Lease) -> serde_json::Value {
    use base64::Engine as _;
    let payload = lease
        .credential()
        .unwrap()
        .expose()
        .split('.')
        .nth(1)
        .unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&engine.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_sessions_lease_is_a_signature_and_leaves_nothing_behind() {
    let there = Signing::new();
    let mut lease = there.mint().await;
    let end: Timestamp = "2030-01-01T00:05:00Z".parse().unwrap();
    assert_eq!(lease.expires(), end);
    let claimed = claims(&lease);
    assert_eq!(
        claimed["groups"],
        json!(["sre"]),
        "the API server puts the prefix before it"
    );
    assert_eq!(claimed["jti"], lease.jti());
    assert_eq!(there.state(), Some(LeaseState::InSession));
    assert_eq!(there.bench.leases.secrets().count(), 1, "it is masked");

    there.pass(200);
    there.bench.leases.renew(&mut lease).await.unwrap();
    assert_eq!(lease.expires(), "2030-01-01T00:08:20Z".parse().unwrap());
    assert_eq!(lease.jtis().len(), 2);
    assert_eq!(claims(&lease)["jti"], lease.jti());

    let expires = lease.expires();
    let released = there.bench.leases.release(lease).await;
    assert_eq!(
        released,
        Release::ExpiresAt(expires),
        "nothing takes a signature back"
    );
    assert_eq!(there.state(), None);
    assert_eq!(there.bench.leases.secrets().count(), 0);
    assert_eq!(
        there.bench.journal(),
        "",
        "there is nothing that a crash could leave"
    );
    assert!(there.bench.asked().is_empty());
}

#[tokio::test]
async fn a_lease_that_is_dropped_or_was_released_is_not_renewed() {
    let there = Signing::new();
    drop(there.mint().await);
    assert_eq!(there.state(), None);
    assert_eq!(there.bench.leases.settle(Duration::ZERO).await, 0);
    there.pass(1);
    let mut lease = there.mint().await;
    let debt = lease.debt.take();
    drop(debt);
    assert!(there.bench.leases.renew(&mut lease).await.is_err());
}

#[tokio::test]
async fn what_was_handed_out_lives_until_it_expires_whatever_is_revoked_or_restarted() {
    let there = Signing::new();
    let lease = there.mint().await;
    let session = lease.session();
    let until = lease.expires();
    let handed_out = there.bench.leases.hand_out(lease).await.unwrap();
    assert_eq!(there.state(), Some(LeaseState::HandedOut));
    assert!(
        !there
            .bench
            .journal()
            .contains(handed_out.credential.expose())
    );

    let revoked = there.bench.leases.revoke(&Filter::Session(session)).await;
    assert_eq!(revoked[0].release, Release::ExpiresAt(until));
    assert!(revoked[0].irrevocable);
    assert_eq!(there.state(), Some(LeaseState::Expiring));
    assert!(there.state().unwrap().is_with_a_client());

    let (directory, clock) = there.bench.crash().await;
    let bench = Bench::on(directory, clock, |asked| panic!("{asked:?}"));
    let recovered = bench.leases.recovered();
    assert_eq!(recovered.handed_out, [session]);
    assert!(recovered.leftovers.is_empty());
    assert!(
        bench.leases.orphans().is_empty(),
        "there is no Secret to delete"
    );
    let there = Signing::of(bench);
    assert_eq!(there.state(), Some(LeaseState::Expiring));
    let live = there.bench.leases.live();
    assert_eq!(live[0].subject.to_string(), "ssh:operator-a");

    there.pass(301);
    let began = monotonic();
    while there.state().is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "it is listed beyond its end"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(there.bench.journal().contains(r#""record":"released""#));
    assert!(there.bench.asked().is_empty());
}

#[tokio::test]
async fn a_hand_out_that_cannot_be_written_down_is_none() {
    let there = Signing::new();
    let lease = there.mint().await;
    let broken = Leases {
        inner: Arc::new(Inner {
            instance: name("main"),
            journal: Journal::closed(),
            clock: there.bench.clock.clone(),
            secrets: Secrets::default(),
            issuing: there.bench.leases.issuing().clone(),
            table: Mutex::default(),
            upstreams: Mutex::default(),
            bell: Notify::new(),
        }),
        janitor: AbortOnDropHandle::new(tokio::spawn(async {})),
    };
    *broken.inner.upstreams() = Upstreams {
        present: there.bench.leases.inner.upstreams().present.clone(),
        retired: Vec::new(),
    };
    drop(lease);
    there.pass(1);
    let lease = broken.inner.sign(there.order()).await.unwrap();
    assert!(matches!(
        broken.hand_out(lease).await,
        Err(MintError::Journal(_))
    ));
    assert!(broken.live().is_empty());
}

#[tokio::test]
async fn a_cluster_that_mints_otherwise_now_is_signed_for_no_more() {
    let there = Signing::new();
    let mut lease = there.mint().await;
    let cluster = Cluster {
        name: name("prod"),
        labels: BTreeMap::new(),
        access: ClusterAccess::Kubeconfig("/nowhere".into()),
        mint: Mint::TokenRequest,
    };
    let before = there.bench.leases.inner.upstream(&name("prod")).unwrap();
    assert!(!before.is_current(&cluster));
    let now = Upstream::new(cluster.name, cluster.access, cluster.mint);
    know(&there.bench.leases, now);
    let refused = there.bench.leases.renew(&mut lease).await;
    assert!(
        matches!(refused, Err(MintError::NoIssuer { .. })),
        "{refused:?}"
    );
    there.pass(1);
    let refused = there.bench.leases.inner.sign(there.order()).await;
    assert!(
        matches!(refused, Err(MintError::NoIssuer { .. })),
        "{refused:?}"
    );
    drop(lease);
    assert_eq!(there.state(), None);
}

#[tokio::test]
async fn what_a_crash_tore_off_ends_by_itself() {
    let there = Signing::new();
    let lease = there.mint().await;
    let session = lease.session();
    drop(there.bench.leases.hand_out(lease).await.unwrap());
    let (directory, clock) = there.bench.crash().await;
    let path = directory.path().join("leases.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let (intent, _) = text.split_once('\n').unwrap();
    assert!(intent.contains("ssh:operator-a"), "{intent}");
    std::fs::write(&path, format!("{intent}\n")).unwrap();
    let there = Signing::of(Bench::on(directory, clock, |asked| panic!("{asked:?}")));
    assert_eq!(there.bench.leases.recovered().handed_out, [session]);
    // As long as the grant said: what was issued is not known.
    there.pass(901);
    let began = monotonic();
    while there.state().is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "it stays for ever"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
