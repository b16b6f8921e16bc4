//! API servers that are down, slow, expired or confused: an answer within 10 s, and nothing left behind.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastion_audit::clock::{Clock as _, SystemClock};
use bastion_audit::config::Name;
use bastion_audit::mint::{LeaseState, Leases, MintError, Minter as _};
use bastion_audit::session::SessionId;
use bastion_audit::store::room::Room;

use crate::harness::cluster::write_private;
use crate::harness::grants;
use crate::harness::tls::{self, Behaviour, Validity};

const PROMISED: Duration = Duration::from_secs(10);

/// What a mint says, how long that took, and how many leases wait to be taken back after it.
async fn mint(kubeconfig: &Path) -> (MintError, usize) {
    let state = tempfile::tempdir().unwrap();
    let config = grants::config(kubeconfig, "viewer");
    let leases = Leases::open(
        state.path(),
        Name::new("it").unwrap(),
        Arc::new(SystemClock),
        Room::default(),
    )
    .unwrap();
    leases.update(&config);
    let now = SystemClock.now();
    let began = Instant::now();
    let error = leases
        .mint(&grants::grant(&config, now), SessionId::new(now))
        .await
        .unwrap_err();
    assert!(began.elapsed() < PROMISED, "{:?}: {error}", began.elapsed());
    for text in [
        error.to_string(),
        format!("{error:?}"),
        error.for_operator(),
    ] {
        assert!(!text.contains("some-token"), "{text}");
    }
    assert!(
        !error.for_operator().contains("127.0.0.1"),
        "{}",
        error.for_operator()
    );
    let live = leases.live();
    assert!(
        live.iter()
            .all(|lease| lease.state == LeaseState::Releasing)
    );
    (error, live.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let directory = tempfile::tempdir().unwrap();
    tls::certificates(directory.path(), Validity::Valid);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let kubeconfig = directory.path().join("kubeconfig");
    write_private(
        &kubeconfig,
        &tls::plain_kubeconfig(port, &directory.path().join("ca.crt")),
    );
    let (error, left) = mint(&kubeconfig).await;
    assert!(matches!(error, MintError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(left, 0, "nothing was sent, so nothing is looked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_listens_and_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    tls::certificates(directory.path(), Validity::Valid);
    // Never accepted: the kernel's backlog takes the connections.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kubeconfig = directory.path().join("kubeconfig");
    write_private(
        &kubeconfig,
        &tls::plain_kubeconfig(port, &directory.path().join("ca.crt")),
    );
    let (error, left) = mint(&kubeconfig).await;
    assert!(matches!(error, MintError::Unreachable { .. }), "{error}");
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_request_and_never_answers() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = tls::kubeconfig(directory.path(), Validity::Valid, Behaviour::Hang).await;
    let (error, left) = mint(&kubeconfig).await;
    assert!(matches!(error, MintError::Timeout { .. }), "{error}");
    assert_eq!(
        left, 1,
        "the Secret may exist: it is looked for until it surely does not"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = tls::kubeconfig(directory.path(), Validity::Expired, Behaviour::Hang).await;
    let (error, left) = mint(&kubeconfig).await;
    assert!(
        matches!(error, MintError::CertificateExpired { .. }),
        "{error}"
    );
    assert!(
        error.for_operator().contains("expired"),
        "{}",
        error.for_operator()
    );
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_another_authoritys() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tls::certificates(other.path(), Validity::Valid);
    let kubeconfig = tls::kubeconfig(directory.path(), Validity::Valid, Behaviour::Hang).await;
    std::fs::copy(other.path().join("ca.crt"), directory.path().join("ca.crt")).unwrap();
    let (error, left) = mint(&kubeconfig).await;
    assert!(matches!(error, MintError::Tls { .. }), "{error}");
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_not_made_more() {
    let directory = tempfile::tempdir().unwrap();
    let busy = Behaviour::Say(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    );
    let kubeconfig = tls::kubeconfig(directory.path(), Validity::Valid, busy).await;
    let began = Instant::now();
    let (error, left) = mint(&kubeconfig).await;
    assert!(
        matches!(error, MintError::Refused { status: 429, .. }),
        "{error}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "it was tried again"
    );
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_breaks_off() {
    let directory = tempfile::tempdir().unwrap();
    let half = Behaviour::Say(
        "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{\"kind\":\"Sec",
    );
    let kubeconfig = tls::kubeconfig(directory.path(), Validity::Valid, half).await;
    let (error, left) = mint(&kubeconfig).await;
    assert!(matches!(error, MintError::Unreachable { .. }), "{error}");
    assert_eq!(left, 1, "the Secret exists, or may");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_kubeconfig() {
    let (error, left) = mint(Path::new("/nowhere/at-all.kubeconfig")).await;
    assert!(matches!(error, MintError::Access { .. }), "{error}");
    assert!(
        error.to_string().contains("/nowhere/at-all.kubeconfig"),
        "{error}"
    );
    assert!(
        !error.for_operator().contains("/nowhere"),
        "{}",
        error.for_operator()
    );
    assert_eq!(left, 0);
}
