//! What outlives a session, the daemon or a configuration.

use super::*;

#[tokio::test]
async fn after_a_crash_exactly_what_was_left_is_deleted() {
    let bench = Bench::new(yes);
    let lease = bench.mint().await.unwrap();
    let session = lease.session();
    std::mem::forget(lease);
    let (directory, clock) = bench.crash().await;

    let bench = Bench::on(directory, clock, yes);
    assert_eq!(bench.leases.recovered().leftovers, [session]);
    bench.settled().await;
    assert_eq!(bench.asked(), [deletion(session)]);
    let (directory, clock) = bench.crash().await;

    let bench = Bench::on(directory, clock, yes);
    assert_eq!(bench.leases.recovered(), Recovered::default());
}

#[tokio::test]
async fn what_is_handed_out_outlives_the_daemon_until_it_is_revoked() {
    let bench = Bench::new(yes);
    let lease = bench.mint().await.unwrap();
    let session = lease.session();
    let handed_out = bench.leases.hand_out(lease).await.unwrap();
    assert_eq!(
        (handed_out.session, handed_out.jti.as_str()),
        (session, "the-jti")
    );
    let (directory, clock) = bench.crash().await;

    let bench = Bench::on(directory, clock, yes);
    assert_eq!(bench.leases.recovered().handed_out, [session]);
    let live = bench.leases.live();
    assert_eq!(
        (live[0].session, live[0].state),
        (session, LeaseState::HandedOut)
    );
    assert_eq!(
        live[0].subject.to_string(),
        "system:serviceaccount:bastion-viewer:viewer"
    );
    assert!(
        bench
            .leases
            .revoke(&Filter::Identity(name("somebody")))
            .await
            .is_empty()
    );
    assert!(bench.asked().is_empty());

    let revoked = bench
        .leases
        .revoke(&Filter::Identity(name("operator-a")))
        .await;
    assert_eq!(revoked.len(), 1);
    assert_eq!(
        (revoked[0].session, revoked[0].jti.as_str()),
        (session, "the-jti")
    );
    assert_eq!(revoked[0].release, Release::Released);
    assert_eq!(bench.asked(), [deletion(session)]);
    assert!(bench.leases.live().is_empty());
    assert!(
        bench
            .leases
            .revoke(&Filter::Session(session))
            .await
            .is_empty(),
        "once"
    );
}

#[tokio::test]
async fn what_is_handed_out_is_deleted_when_it_expires() {
    let bench = Bench::new(yes);
    let lease = bench.mint().await.unwrap();
    let handed_out = bench.leases.hand_out(lease).await.unwrap();
    bench.clock.advance(SignedDuration::from_mins(14));
    bench.leases.inner.bell.notify_one();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.asked().len(), 2, "still live");
    bench.clock.advance(SignedDuration::from_mins(2));
    bench.leases.inner.bell.notify_one();
    tokio::time::timeout(Duration::from_secs(5), async {
        while !bench.leases.live().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(bench.asked().last().unwrap(), &deletion(handed_out.session));
}

#[tokio::test]
async fn a_revocation_whose_caller_goes_away_happens_all_the_same() {
    let bench = Bench::new(yes);
    let lease = bench.mint().await.unwrap();
    let handed_out = bench.leases.hand_out(lease).await.unwrap();
    let filter = Filter::Session(handed_out.session);
    drop(tokio::time::timeout(Duration::ZERO, bench.leases.revoke(&filter)).await);
    tokio::time::timeout(Duration::from_secs(5), async {
        while !bench.leases.live().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(bench.asked().last().unwrap(), &deletion(handed_out.session));
}

#[tokio::test]
async fn a_revocation_that_the_cluster_missed_is_not_forgotten_by_a_restart() {
    let bench = Bench::new(|asked| match asked.method.as_str() {
        "DELETE" => refusal(503, "ServiceUnavailable"),
        _ => yes(asked),
    });
    let lease = bench.mint().await.unwrap();
    let session = lease.session();
    let until = lease.expires();
    drop(bench.leases.hand_out(lease).await.unwrap());
    let revoked = bench.leases.revoke(&Filter::Session(session)).await;
    assert_eq!(revoked[0].release, Release::ExpiresAt(until));
    let (directory, clock) = bench.crash().await;

    let bench = Bench::on(directory, clock, yes);
    assert_eq!(bench.leases.recovered().leftovers, [session]);
    bench.settled().await;
    assert_eq!(bench.asked(), [deletion(session)]);
}

#[tokio::test]
async fn what_is_left_on_a_cluster_that_is_gone_is_kept_and_reported() {
    let bench = Bench::new(yes);
    std::mem::forget(bench.mint().await.unwrap());
    let (directory, clock) = bench.crash().await;

    let leases = open(directory.path(), clock.clone());
    assert_eq!(leases.orphans().len(), 1);
    assert_eq!(leases.orphans()[0].cluster, name("prod"));
    assert_eq!(leases.settle(Duration::from_millis(50)).await, 1);
    leases.close().await;

    let bench = Bench::on(directory, clock, yes);
    bench.settled().await;
    assert_eq!(bench.asked().len(), 1, "deleted as soon as it is back");
}

#[tokio::test]
async fn another_api_server_under_the_same_name_proves_nothing_by_a_404() {
    let bench = Bench::new(yes);
    std::mem::forget(bench.mint().await.unwrap());
    let (directory, clock) = bench.crash().await;
    let journal = directory.path().join("leases.jsonl");
    let moved = std::fs::read_to_string(&journal)
        .unwrap()
        .replace("prod.example", "old.example");
    std::fs::write(&journal, moved).unwrap();

    let bench = Bench::on(directory, clock, |asked| match asked.method.as_str() {
        "DELETE" => refusal(404, "NotFound"),
        _ => yes(asked),
    });
    assert_eq!(bench.leases.settle(Duration::from_millis(200)).await, 1);
    bench.clock.advance(SignedDuration::from_mins(16));
    bench.settled().await;
}

#[tokio::test]
async fn an_update_keeps_what_did_not_change_and_drops_what_is_gone() {
    let bench = Bench::new(yes);
    bench.leases.update(&config());
    // The kubeconfig is another one: the connection is a new one, and not made yet.
    assert!(
        bench
            .leases
            .inner
            .upstream(&name("prod"))
            .unwrap()
            .built()
            .is_none()
    );
    let before = bench.leases.inner.upstream(&name("prod")).unwrap();
    bench.leases.update(&config());
    let after = bench.leases.inner.upstream(&name("prod")).unwrap();
    assert!(Arc::ptr_eq(&before, &after));
    let error = bench.mint().await.unwrap_err();
    assert!(matches!(error, MintError::Access { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("/etc/bastion-audit/prod.kubeconfig"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lease_can_be_released_after_its_cluster_was_reconfigured() {
    let bench = Bench::new(yes);
    let lease = bench.mint().await.unwrap();
    let session = lease.session();
    bench.leases.update(&config());
    assert_eq!(bench.leases.release(lease).await, Release::Released);
    assert_eq!(bench.asked().last().unwrap(), &deletion(session));
    bench.leases.update(&config());
    assert!(
        bench.leases.inner.upstreams().retired.is_empty(),
        "nobody needs it any more"
    );
}
