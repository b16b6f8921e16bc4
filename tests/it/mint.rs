//! A lease on a real API server, under exactly the rights of examples/deploy.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastion_audit::clock::{Clock as _, SystemClock};
use bastion_audit::config::{Config, Name};
use bastion_audit::mint::{Filter, LeaseState, Leases, Minter as _, Release};
use bastion_audit::session::SessionId;
use bastion_audit::store::room::Room;
use serde_json::{Value, json};

use crate::harness::cluster::{ControlPlane, write_private};
use crate::harness::grants;

/// The API server caches a token's acceptance for 10 s.
const REFUSED_WITHIN: Duration = Duration::from_secs(11);

struct Bastion {
    leases: Leases,
    config: Config,
    state: tempfile::TempDir,
}

impl Bastion {
    /// With a role namespace of the test's own.
    fn new(role: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), role)
    }

    fn on(state: tempfile::TempDir, role: &str) -> Self {
        let plane = ControlPlane::shared();
        plane.role(role);
        let config = grants::config(plane.bastion_kubeconfig(), role);
        let leases = Leases::open(
            state.path(),
            name("it"),
            Arc::new(SystemClock),
            Room::default(),
        )
        .unwrap();
        leases.update(&config);
        Self {
            leases,
            config,
            state,
        }
    }

    async fn mint(&self) -> bastion_audit::mint::Lease {
        let now = SystemClock.now();
        let grant = grants::grant(&self.config, now);
        self.leases
            .mint(&grant, SessionId::new(now))
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

/// `kubectl auth whoami` with a token; `None` if the API server refuses it.
async fn whoami(token: &str) -> Option<Value> {
    let token = token.to_owned();
    tokio::task::spawn_blocking(move || {
        let plane = ControlPlane::shared();
        let kubeconfig = plane.token_kubeconfig(&format!("whoami-{}", unique()), &token);
        let output = plane.kubectl_as(&kubeconfig, &["auth", "whoami", "-o", "json"], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || said.contains("Unauthorized"),
            "{said}"
        );
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    })
    .await
    .unwrap()
}

fn unique() -> String {
    SessionId::new(SystemClock.now()).to_lowercase()
}

async fn assert_refused_in_time(token: &str) {
    let began = Instant::now();
    while whoami(token).await.is_some() {
        assert!(
            began.elapsed() < REFUSED_WITHIN,
            "still accepted after {:?}",
            began.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn secrets(namespace: &str) -> Vec<String> {
    let listed = ControlPlane::shared().admin(&["get", "secrets", "-n", namespace, "-o", "name"]);
    listed
        .lines()
        .map(|line| line.trim_start_matches("secret/").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_the_roles_and_is_refused_after_the_session() {
    let bastion = Bastion::new("whoami");
    let lease = bastion.mint().await;
    let me = whoami(lease.credential().unwrap().expose())
        .await
        .expect("a live token");
    let user = &me["status"]["userInfo"];
    assert_eq!(
        user["username"],
        "system:serviceaccount:bastion-whoami:whoami"
    );
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/credential-id"],
        json!([format!("JTI={}", lease.jti())])
    );
    let secret = format!("session-it-{}", lease.session().to_lowercase());
    assert_eq!(secrets("bastion-whoami"), [secret]);

    let token = lease.credential().unwrap().expose().to_owned();
    assert_eq!(bastion.leases.release(lease).await, Release::Released);
    assert!(secrets("bastion-whoami").is_empty());
    assert_refused_in_time(&token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_servers_audit_log_has_the_jti_and_the_session() {
    let bastion = Bastion::new("audited");
    let lease = bastion.mint().await;
    whoami(lease.credential().unwrap().expose())
        .await
        .expect("a live token");
    let lines = ControlPlane::shared().audit_lines();
    let credential = json!(format!("JTI={}", lease.jti()));
    let issue = lines
        .iter()
        .find(|line| {
            line["annotations"]["authentication.kubernetes.io/issued-credential-id"] == credential
        })
        .expect("the issue");
    assert_eq!(issue["auditID"].as_str(), lease.audit_id());
    let session = lease.session();
    assert_eq!(
        issue["annotations"]["bastion-audit-tokens/session"],
        format!("session-it-{}", session.to_lowercase())
    );
    let agent = issue["userAgent"].as_str().unwrap();
    assert!(agent.ends_with(&format!("session/{session}")), "{agent}");
    let used = lines.iter().filter(|line| {
        line["user"]["extra"]["authentication.kubernetes.io/credential-id"] == json!([credential])
    });
    assert!(used.count() > 0, "the use");
    assert_eq!(bastion.leases.release(lease).await, Release::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_has_two_live_tokens_and_one_release_ends_both() {
    let bastion = Bastion::new("renewed");
    let mut lease = bastion.mint().await;
    let first = lease.credential().unwrap().expose().to_owned();
    bastion.leases.renew(&mut lease).await.unwrap();
    let second = lease.credential().unwrap().expose().to_owned();
    assert_ne!(first, second);
    assert_eq!(lease.jtis().len(), 2);
    assert_eq!(secrets("bastion-renewed").len(), 1);
    assert!(whoami(&first).await.is_some() && whoami(&second).await.is_some());
    assert_eq!(bastion.leases.release(lease).await, Release::Released);
    assert_refused_in_time(&first).await;
    assert_refused_in_time(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handed_out_credential_outlives_a_restart_and_ends_when_revoked() {
    let bastion = Bastion::new("revoked");
    let lease = bastion.mint().await;
    let handed_out = bastion.leases.hand_out(lease).await.unwrap();
    let token = handed_out.credential.expose().to_owned();
    let Bastion { leases, state, .. } = bastion;
    leases.close().await;

    let bastion = Bastion::on(state, "revoked");
    assert_eq!(bastion.leases.live()[0].state, LeaseState::HandedOut);
    assert!(whoami(&token).await.is_some());
    let revoked = bastion
        .leases
        .revoke(&Filter::Session(handed_out.session))
        .await;
    assert_eq!(revoked[0].release, Release::Released);
    assert_eq!(revoked[0].jti, handed_out.jti);
    assert_refused_in_time(&token).await;
}

/// The journal as a daemon leaves it that was killed between creating the Secret and telling anybody.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_exactly_what_the_journal_names_is_deleted() {
    let plane = ControlPlane::shared();
    plane.role("crashed");
    let session = SessionId::new(SystemClock.now());
    let ours = format!("session-it-{}", session.to_lowercase());
    let others = [
        format!("session-other-{}", unique()),
        // Of the same instance, but not in this journal: another replica's state directory.
        format!("session-it-{}", unique()),
    ];
    for secret in others.iter().chain([&ours]) {
        create_secret("bastion-crashed", secret);
    }
    let state = tempfile::tempdir().unwrap();
    let intent = json!({
        "record": "intent", "session": session, "cluster": "prod", "server": format!("{}/", plane.server()),
        "namespace": "bastion-crashed", "serviceAccount": "crashed", "secret": ours, "identity": "operator-a",
        "fingerprint": "SHA256:x", "role": "crashed", "ttl": 600, "at": SystemClock.now(),
    });
    write_journal(state.path(), &format!("{intent}\n{{\"record\":\"iss"));

    let bastion = Bastion::on(state, "crashed");
    assert_eq!(bastion.leases.recovered().leftovers, [session]);
    assert_eq!(bastion.leases.recovered().damaged, 0);
    assert_eq!(bastion.leases.settle(Duration::from_secs(10)).await, 0);
    let mut left = secrets("bastion-crashed");
    left.sort();
    let mut expected = others.to_vec();
    expected.sort();
    assert_eq!(left, expected);
    for other in others {
        plane.admin(&["delete", "secret", &other, "-n", "bastion-crashed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_leave_nothing_behind() {
    let bastion = Arc::new(Bastion::new("crowd"));
    let mut all = tokio::task::JoinSet::new();
    for number in 0..40_u32 {
        let bastion = bastion.clone();
        all.spawn(async move {
            let lease = bastion.mint().await;
            if number % 2 == 0 {
                drop(lease);
            } else {
                assert_eq!(bastion.leases.release(lease).await, Release::Released);
            }
        });
    }
    all.join_all().await;
    assert_eq!(bastion.leases.settle(Duration::from_secs(10)).await, 0);
    assert!(secrets("bastion-crowd").is_empty());
    let journal = std::fs::read_to_string(bastion.state.path().join("leases.jsonl")).unwrap();
    assert_eq!(journal.matches("\"intent\"").count(), 40);
    assert_eq!(journal.matches("\"released\"").count(), 40);
    assert!(!journal.contains("eyJ"), "a token in the journal");
}

/// From here on the whole test process is traced: callsites remember whether any thread had listened.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_token_is_traced() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(file.reopen().unwrap()))
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    let bastion = Bastion::new("traced");
    let mut lease = bastion.mint().await;
    let secret = format!("session-it-{}", lease.session().to_lowercase());
    let mut tokens = vec![lease.credential().unwrap().expose().to_owned()];
    bastion.leases.renew(&mut lease).await.unwrap();
    tokens.push(lease.credential().unwrap().expose().to_owned());
    tracing::info!(?lease, "as a careless line would have it");
    assert_eq!(bastion.leases.release(lease).await, Release::Released);
    let own = std::fs::read_to_string(ControlPlane::shared().bastion_kubeconfig()).unwrap();
    let own = own.split('"').find(|text| text.starts_with("eyJ")).unwrap();
    tokens.push(own.to_owned());

    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(
        text.contains(" hyper_util::client"),
        "the client was not traced"
    );
    assert!(text.contains(&secret), "the requests were not traced");
    for token in tokens {
        // Any part of it, such as the signature, is as bad.
        for part in token.split('.') {
            assert!(!text.contains(part), "a part of a token was traced");
        }
    }
}

/// A missing ServiceAccount, and what the operator hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_its_service_account_leaves_nothing_behind() {
    let bastion = Bastion::new("orphaned");
    ControlPlane::shared().admin(&[
        "delete",
        "serviceaccount",
        "orphaned",
        "-n",
        "bastion-orphaned",
    ]);
    let now = SystemClock.now();
    let error = bastion
        .leases
        .mint(&grants::grant(&bastion.config, now), SessionId::new(now))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("serviceaccounts \"orphaned\" not found"),
        "{error}"
    );
    assert!(
        !error.for_operator().contains("serviceaccounts"),
        "{}",
        error.for_operator()
    );
    assert_eq!(bastion.leases.settle(Duration::from_secs(10)).await, 0);
    assert!(secrets("bastion-orphaned").is_empty());
}

/// As the bastion: nobody else may.
fn create_secret(namespace: &str, secret: &str) {
    let plane = ControlPlane::shared();
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
        "metadata": {"name": secret, "namespace": namespace},
    });
    let output = plane.kubectl_as(
        plane.bastion_kubeconfig(),
        &["create", "-f", "-"],
        &object.to_string(),
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn write_journal(state: &Path, text: &str) {
    write_private(&state.join("leases.jsonl"), text);
}
