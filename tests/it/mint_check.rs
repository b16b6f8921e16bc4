//! What `check --cluster` finds on a real cluster.

use bastion_audit::config::Name;
use bastion_audit::mint::check::{ClusterReport, Level, check_cluster};

use crate::harness::cluster::ControlPlane;
use crate::harness::grants;

async fn check(kubeconfig: &std::path::Path, role: &str) -> ClusterReport {
    let config = grants::config(kubeconfig, role);
    let cluster = &config.clusters[&Name::new("prod").unwrap()];
    check_cluster(cluster, &config).await
}

#[track_caller]
fn assert_says(report: &ClusterReport, level: Level, what: &str) {
    let found = report
        .findings
        .iter()
        .any(|finding| finding.level == level && finding.says.contains(what));
    assert!(found, "no {level} that says {what:?} in\n{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_are_what_is_needed_and_no_more() {
    let plane = ControlPlane::shared();
    plane.role("checked");
    let report = check(plane.bastion_kubeconfig(), "checked").await;
    assert_eq!(report.level(), Level::Ok, "{report}");
    assert_eq!(
        report.username.as_deref(),
        Some("system:serviceaccount:bastion-audit:bastion")
    );
    assert_says(&report, Level::Ok, "may create tokens of checked");
    assert_says(&report, Level::Ok, "tokens are fenced by policy");
    assert_says(&report, Level::Ok, "Secrets are fenced by policy");
    assert!(!report.not_checked.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_the_policies_is_found_out_and_nothing_is_made_there() {
    let plane = ControlPlane::shared();
    plane.role("unfenced");
    plane.admin(&[
        "label",
        "namespace",
        "bastion-unfenced",
        "bastion-audit.dev/role-namespace-",
    ]);
    // The API server's view of namespaces lags a moment behind.
    let began = std::time::Instant::now();
    let report = loop {
        let report = check(plane.bastion_kubeconfig(), "unfenced").await;
        if report.level() == Level::Fail || began.elapsed().as_secs() > 10 {
            break report;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    for what in [
        "live two hours",
        "are bound to any Secret",
        "are bound to a pod",
        "have any name",
        "hold data",
        "can change",
        "hold a ServiceAccount token that never expires",
    ] {
        assert_says(&report, Level::Fail, what);
    }
    assert_eq!(
        plane.admin(&["get", "secrets", "-n", "bastion-unfenced", "-o", "name"]),
        ""
    );
    let issued = plane.audit_lines().into_iter().any(|line| {
        line["objectRef"]["namespace"] == "bastion-unfenced"
            && line["annotations"]
                .get("authentication.kubernetes.io/issued-credential-id")
                .is_some()
    });
    assert!(!issued, "the check issued a token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrators_kubeconfig_is_told_apart() {
    let plane = ControlPlane::shared();
    plane.role("overpowered");
    let report = check(plane.kubeconfig(), "overpowered").await;
    assert_eq!(report.level(), Level::Fail, "{report}");
    assert_says(&report, Level::Fail, "system:masters");
    assert_says(&report, Level::Fail, "it is cluster-admin");
    assert_says(&report, Level::Fail, "it is every ServiceAccount");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_there_is_told() {
    let plane = ControlPlane::shared();
    let report = check(plane.bastion_kubeconfig(), "absent").await;
    assert_eq!(report.level(), Level::Fail, "{report}");
    assert_says(&report, Level::Fail, "may not create secrets");
    assert_says(&report, Level::Fail, "may not create tokens of absent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_is_a_finding_not_a_hang() {
    let report = check(std::path::Path::new("/nowhere/kubeconfig"), "viewer").await;
    assert_eq!(report.level(), Level::Fail);
    assert_says(&report, Level::Fail, "/nowhere/kubeconfig");
}
