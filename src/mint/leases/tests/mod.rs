//! Leases, and what an API server can do to them.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::super::testing::{
    Asked, Log, Reply, SECRETS, TOKEN, api_server, config, grant, jwt, name, refusal, token, yes,
};
use super::*;
use crate::clock::ManualClock;
use crate::config::ClusterAccess;

const NOW: &str = "2030-01-01T00:00:00Z";

mod afterlife;
mod signed;

type MakeReply = Box<dyn Fn() -> Reply + Send>;

struct Bench {
    leases: Leases,
    clock: Arc<ManualClock>,
    log: Log,
    directory: Arc<tempfile::TempDir>,
}

impl Bench {
    fn new(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        Self::on(Arc::new(tempfile::tempdir().unwrap()), clock, answer)
    }

    /// In a state directory that is there already: the daemon after a restart.
    fn on(
        directory: Arc<tempfile::TempDir>,
        clock: Arc<ManualClock>,
        answer: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        let leases = open(directory.path(), clock.clone());
        let log = connect(&leases, answer);
        Self {
            leases,
            clock,
            log,
            directory,
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn mint(&self) -> Result<Lease, MintError> {
        let now = self.now();
        self.leases.mint(&grant(now), SessionId::new(now)).await
    }

    /// Requests other than those that keep connections warm.
    fn asked(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|asked| asked.path != "/version")
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("leases.jsonl")).unwrap()
    }

    async fn settled(&self) {
        assert_eq!(self.leases.settle(Duration::from_secs(5)).await, 0);
    }

    /// The daemon dies here: nothing more is written or asked.
    async fn crash(self) -> (Arc<tempfile::TempDir>, Arc<ManualClock>) {
        let (directory, clock) = (self.directory.clone(), self.clock.clone());
        self.leases.close().await;
        (directory, clock)
    }
}

fn open(state_dir: &Path, clock: Arc<ManualClock>) -> Leases {
    Leases::open(state_dir, name("main"), clock, Room::default()).unwrap()
}

fn connect(leases: &Leases, answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Log {
    let (api, log) = api_server(answer);
    let access = ClusterAccess::Kubeconfig("/nowhere".into());
    let upstream = Arc::new(Upstream::with_api(name("prod"), access, api));
    leases
        .inner
        .upstreams()
        .present
        .insert(name("prod"), upstream);
    leases.inner.bell.notify_one();
    log
}

fn deletion(session: SessionId) -> String {
    format!("DELETE {SECRETS}/session-main-{}", session.to_lowercase())
}

#[tokio::test]
async fn a_lease_is_a_token_bound_to_a_secret_of_its_own() {
    let bench = Bench::new(yes);
    let lease = bench.mint().await.unwrap();
    assert_eq!(lease.jti(), "the-jti");
    assert_eq!(lease.expires(), "2030-01-01T00:15:00Z".parse().unwrap());
    assert_eq!(lease.audit_id(), Some("the-audit-id"));
    let secret = format!("session-main-{}", lease.session().to_lowercase());

    let log = bench.log.lock().unwrap().clone();
    let asked: Vec<&Asked> = log
        .iter()
        .filter(|asked| asked.path != "/version")
        .collect();
    let (first, second) = (asked[0], asked[1]);
    assert_eq!(first.path, SECRETS);
    assert_eq!(
        first.body,
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "immutable": true,
            "metadata": {
                "name": secret,
                "namespace": "bastion-viewer",
                "labels": {"app.kubernetes.io/managed-by": "bastion-audit"},
                "annotations": {
                    "bastion-audit.dev/session": lease.session().to_string(),
                    "bastion-audit.dev/identity": "operator-a",
                },
            },
        })
    );
    assert_eq!(second.path, TOKEN);
    let spec = &second.body["spec"];
    assert_eq!(spec["expirationSeconds"], 900);
    assert_eq!(
        spec["boundObjectRef"],
        json!({"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": "the-uid"})
    );
    assert!(
        spec["audiences"].as_array().is_none_or(Vec::is_empty),
        "{spec}"
    );
    assert!(
        second
            .agent
            .ends_with(&format!("session/{}", lease.session())),
        "{}",
        second.agent
    );

    let session = lease.session();
    assert_eq!(bench.leases.release(lease).await, Release::Released);
    assert_eq!(bench.asked().last().unwrap(), &deletion(session));
    assert!(bench.leases.live().is_empty());
}

#[tokio::test]
async fn the_intent_is_on_disk_before_the_secret_is_asked_for_and_the_journal_holds_no_token() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let path = directory.path().join("leases.jsonl");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writes = seen.clone();
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let bench = Bench::on(directory, clock, move |asked| {
        writes
            .lock()
            .unwrap()
            .push((asked.path.clone(), std::fs::read_to_string(&path).unwrap()));
        yes(asked)
    });
    let lease = bench.mint().await.unwrap();
    let (_, journal) = seen
        .lock()
        .unwrap()
        .iter()
        .find(|(path, _)| path == SECRETS)
        .unwrap()
        .clone();
    assert!(journal.contains("\"record\":\"intent\""), "{journal}");
    assert!(journal.contains(&lease.session().to_string()));
    assert!(
        bench.journal().contains("the-jti"),
        "issue is recorded before it is used"
    );
    assert!(
        !bench
            .journal()
            .contains(lease.credential().unwrap().expose())
    );
    assert_eq!(bench.leases.release(lease).await, Release::Released);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_asked_for() {
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let leases = Leases::start(
        Journal::closed(),
        Found::default(),
        name("main"),
        clock.clone(),
    );
    let log = connect(&leases, yes);
    let now = clock.now();
    let error = leases
        .mint(&grant(now), SessionId::new(now))
        .await
        .unwrap_err();
    assert!(matches!(error, MintError::Journal(_)), "{error}");
    assert!(
        log.lock()
            .unwrap()
            .iter()
            .all(|asked| asked.path == "/version")
    );
    assert!(leases.live().is_empty());
}

#[tokio::test]
async fn a_refused_secret_leaves_nothing_and_is_not_tried_twice() {
    for (status, reason) in [
        (403, "Forbidden"),
        (429, "TooManyRequests"),
        (422, "Invalid"),
        (409, "AlreadyExists"),
    ] {
        let bench = Bench::new(move |asked| match asked.path.as_str() {
            SECRETS => refusal(status, reason),
            _ => yes(asked),
        });
        let error = bench.mint().await.unwrap_err();
        match &error {
            MintError::Forbidden { .. } => assert_eq!(status, 403),
            MintError::Refused {
                status: got,
                reason: why,
                ..
            } => {
                assert_eq!((*got, why.as_str()), (status, reason));
            }
            other => panic!("{other}"),
        }
        bench.settled().await;
        assert_eq!(bench.asked(), [format!("POST {SECRETS}")], "{error}");
        assert!(bench.leases.live().is_empty());
    }
}

#[tokio::test]
async fn whatever_happens_after_the_secret_it_is_deleted() {
    let expired = || token("jti", "2029-12-31T23:59:59Z");
    let no_id = || {
        let status = json!({"token": jwt(&json!({"sub": "x"})), "expirationTimestamp": "2030-01-01T01:00:00Z"});
        Reply::Json(
            201,
            json!({"kind": "TokenRequest", "metadata": {}, "spec": {"audiences": []}, "status": status}),
        )
    };
    let replies: [(&str, MakeReply); 7] = [
        ("a refusal", Box::new(|| refusal(404, "NotFound"))),
        ("an overload", Box::new(|| refusal(429, "TooManyRequests"))),
        (
            "half an answer",
            Box::new(|| Reply::Text(201, "{\"kind\":\"TokenRequest\",\"status\":{\"tok")),
        ),
        (
            "nothing in it",
            Box::new(|| {
                Reply::Json(
                    201,
                    json!({"kind": "TokenRequest", "metadata": {}, "spec": {"audiences": []}}),
                )
            }),
        ),
        ("a reset", Box::new(|| Reply::Reset)),
        ("an expired token", Box::new(expired)),
        ("a token without id", Box::new(no_id)),
    ];
    for (what, reply) in replies {
        let bench = Bench::new(move |asked| match asked.path.as_str() {
            TOKEN => reply(),
            _ => yes(asked),
        });
        let error = bench.mint().await.unwrap_err();
        bench.settled().await;
        let asked = bench.asked();
        assert!(
            asked.last().unwrap().starts_with("DELETE"),
            "{what}: {error}: {asked:?}"
        );
        assert!(bench.leases.live().is_empty(), "{what}");
        assert!(!error.to_string().contains("eyJ"), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_creation_in_doubt_is_looked_after_until_it_cannot_happen_any_more() {
    let bench = Bench::new(|asked| match asked.method.as_str() {
        "POST" => refusal(504, "Timeout"),
        "DELETE" => refusal(404, "NotFound"),
        _ => yes(asked),
    });
    bench.mint().await.unwrap_err();
    assert_eq!(
        bench.leases.settle(Duration::from_millis(200)).await,
        1,
        "the 404 proves nothing yet"
    );
    bench.clock.advance(SignedDuration::from_secs(80));
    bench.settled().await;
}

#[tokio::test]
async fn a_secret_that_was_created_before_the_connection_broke_is_ours() {
    let mut tries = 0;
    let bench = Bench::new(move |asked| match asked.path.as_str() {
        SECRETS => {
            tries += 1;
            if tries == 1 {
                Reply::Reset
            } else {
                refusal(409, "AlreadyExists")
            }
        }
        _ => yes(asked),
    });
    let lease = bench.mint().await.unwrap();
    let bound = bench.log.lock().unwrap().last().unwrap().body["spec"]["boundObjectRef"].clone();
    assert!(bound.get("uid").is_none(), "{bound}");
    assert_eq!(bench.leases.release(lease).await, Release::Released);
}

#[tokio::test]
async fn a_404_that_is_not_kubernetes_own_proves_nothing() {
    let bench = Bench::new(|asked| match asked.method.as_str() {
        "DELETE" => Reply::Text(404, "<html>no such site</html>"),
        _ => yes(asked),
    });
    let lease = bench.mint().await.unwrap();
    let expires = lease.expires();
    assert_eq!(
        bench.leases.release(lease).await,
        Release::ExpiresAt(expires)
    );
    assert_eq!(bench.leases.live()[0].state, LeaseState::Releasing);
}

#[tokio::test]
async fn a_release_that_fails_is_tried_again_until_it_is_confirmed() {
    let mut deletions = 0;
    let bench = Bench::new(move |asked| match asked.method.as_str() {
        "DELETE" => {
            deletions += 1;
            if deletions == 1 {
                refusal(503, "ServiceUnavailable")
            } else {
                yes(asked)
            }
        }
        _ => yes(asked),
    });
    let lease = bench.mint().await.unwrap();
    let expires = lease.expires();
    assert_eq!(
        bench.leases.release(lease).await,
        Release::ExpiresAt(expires)
    );
    bench.settled().await;
    assert!(bench.leases.live().is_empty());
}

#[tokio::test]
async fn a_lease_that_is_dropped_is_released() {
    let bench = Bench::new(yes);
    let lease = bench.mint().await.unwrap();
    let session = lease.session();
    drop(lease);
    bench.settled().await;
    assert_eq!(bench.asked().last().unwrap(), &deletion(session));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing() {
    let bench = Bench::new(yes);
    let now = bench.now();
    let given = grant(now);
    let mint = bench.leases.mint(&given, SessionId::new(now));
    // Polled once: the intent is on its way to the disk.
    drop(tokio::time::timeout(Duration::ZERO, mint).await);
    tokio::time::timeout(Duration::from_secs(5), async {
        while !bench
            .asked()
            .iter()
            .any(|asked| asked.starts_with("DELETE"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    bench.settled().await;
    assert!(bench.leases.live().is_empty());
}

#[tokio::test]
async fn renewing_puts_a_fresh_token_on_the_same_secret() {
    let mut issued = 0;
    let bench = Bench::new(move |asked| match asked.path.as_str() {
        TOKEN => {
            issued += 1;
            token(
                &format!("jti-{issued}"),
                &format!("2030-01-01T00:{}5:00Z", issued),
            )
        }
        _ => yes(asked),
    });
    let mut lease = bench.mint().await.unwrap();
    bench.leases.renew(&mut lease).await.unwrap();
    assert_eq!(lease.jtis(), ["jti-1", "jti-2"]);
    assert_eq!(lease.expires(), "2030-01-01T00:25:00Z".parse().unwrap());
    assert_eq!(bench.leases.live()[0].jti.as_deref(), Some("jti-2"));
    let bound: Vec<String> = bench
        .log
        .lock()
        .unwrap()
        .iter()
        .filter(|asked| asked.path == TOKEN)
        .map(|asked| asked.body["spec"]["boundObjectRef"]["name"].to_string())
        .collect();
    assert_eq!(bound[0], bound[1]);
    assert_eq!(bench.leases.release(lease).await, Release::Released);
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_token() {
    let mut issued = 0;
    let bench = Bench::new(move |asked| match asked.path.as_str() {
        TOKEN => {
            issued += 1;
            if issued == 1 {
                yes(asked)
            } else {
                refusal(503, "ServiceUnavailable")
            }
        }
        _ => yes(asked),
    });
    let mut lease = bench.mint().await.unwrap();
    let before = lease.credential().unwrap().expose().to_owned();
    let error = bench.leases.renew(&mut lease).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert_eq!(lease.credential().unwrap().expose(), before);
    assert_eq!(bench.leases.release(lease).await, Release::Released);
}
