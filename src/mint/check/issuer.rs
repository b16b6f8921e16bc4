//! A cluster that trusts the daemon as an issuer: what the daemon needs there is nothing.

use kube::config::AuthInfo;

use super::report::{ClusterReport, Level};
use super::{MintError, Questions, rights};
use crate::config::{Cluster, Config};
use crate::issuer;

pub(super) async fn look(
    questions: &Questions,
    cluster: &Cluster,
    config: &Config,
    has_credential: bool,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    version(questions, report).await?;
    let groups = issuer::groups_of(config, &cluster.name);
    if groups.is_empty() {
        report.add(
            Level::Warn,
            "",
            "no binding gives anyone a role here: nothing can be minted",
        );
    }
    if let Some(settings) = &config.bastion.issuer {
        match issuer::check_published(settings).await {
            Ok(found) => report.add(Level::Ok, "", format!("issuer: {found}")),
            Err(why) => report.add(Level::Fail, "", format!("issuer: {why}")),
        }
    }
    if has_credential {
        report.add(
            Level::Warn,
            "",
            "the daemon has a credential of its own here, which it does not need: take the user out of the kubeconfig",
        );
        questions.who(report).await?;
        rights::cluster_wide(questions, report).await?;
    } else {
        report.username = Some("nobody".to_owned());
        report.add(
            Level::Ok,
            "",
            "the daemon has no credential here, and needs none",
        );
    }
    report.not_checked.push(format!(
        "whether the API server trusts the issuer, and no further than it should: its --authentication-config must say what `bastion-audit issuer authentication-config {}` prints",
        cluster.name
    ));
    report.not_checked.push(
        "what RBAC gives the groups, and whether it gives any ssh: user something: the daemon may not see that".to_owned(),
    );
    Ok(())
}

/// Who is nobody may not be told the version.
async fn version(questions: &Questions, report: &mut ClusterReport) -> Result<(), MintError> {
    match questions.version(report).await {
        Err(MintError::Unauthorized { .. } | MintError::Forbidden { .. }) => {
            report.add(
                Level::Ok,
                "",
                "the API server tells its version to nobody that it does not know",
            );
            Ok(())
        }
        told => told,
    }
}

/// Whether a kubeconfig's user is somebody.
pub(super) fn is_somebody(user: &AuthInfo) -> bool {
    user.token.is_some()
        || user.token_file.is_some()
        || user.client_certificate.is_some()
        || user.client_certificate_data.is_some()
        || user.client_key.is_some()
        || user.client_key_data.is_some()
        || user.username.is_some()
        || user.password.is_some()
        || user.exec.is_some()
        || user.auth_provider.is_some()
}
