//! Whether a cluster gives the daemon what it needs, and no more.
//!
//! Everything is asked with the daemon's own credential, as a thief of it would: nothing is changed, and no token is
//! issued, whatever is found.

mod access_review;
mod fence;
mod impersonation;
mod issuer;
mod modes;
mod report;
mod rights;
mod rules;
mod stolen;
mod subjects;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::ResourceRule;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access;
use super::api_server::{Answer, ApiServer, Call};
use super::error::MintError;
use crate::clock::monotonic;
use crate::config::{Cluster, ClusterAccess, Config, Mint};

pub use access_review::{AccessReviews, Allowed};
pub use report::{ClusterReport, Finding, Level};

use subjects::Subjects;

/// For each question.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Bound tokens have ids since then, and ValidatingAdmissionPolicy is on.
const OLDEST_MINOR: u32 = 30;

/// Asks a cluster everything about the daemon's own credential. Answers within minutes even if the cluster hardly does.
pub async fn check_cluster(cluster: &Cluster, config: &Config) -> ClusterReport {
    let stolen = stolen::says(cluster, config);
    let mut report = ClusterReport::new(cluster.name.clone(), cluster.mint.as_str(), stolen);
    if let Err(error) = look(cluster, config, &mut report).await {
        report.add(Level::Fail, "", error.to_string());
    }
    report
}

async fn look(
    cluster: &Cluster,
    config: &Config,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let name = cluster.name.as_str();
    let access = access::load(&cluster.access)
        .await
        .map_err(|error| MintError::Access {
            cluster: name.to_owned(),
            reason: error.to_string(),
        })?;
    let has_credential = issuer::is_somebody(&access.config.auth_info);
    let api = ApiServer::connect(name, access.config).await?;
    report.server = Some(api.server().to_owned());
    let questions = Questions { api };
    match &cluster.mint {
        Mint::OidcIssuer { .. } => {
            return issuer::look(&questions, cluster, config, has_credential, report).await;
        }
        Mint::Impersonation(naming) => {
            return impersonation::look(&questions, cluster, naming, config, report).await;
        }
        Mint::TokenRequest => {}
    }

    questions.version(report).await?;
    questions.who(report).await?;
    let subjects = Subjects::of(cluster, config);
    if subjects.is_empty() {
        report.add(
            Level::Warn,
            "",
            "no binding gives anyone a role here: nothing can be minted",
        );
    }
    rights::cluster_wide(&questions, report).await?;
    for (namespace, service_accounts) in subjects.namespaces() {
        rights::in_role_namespace(&questions, namespace, report).await?;
        rules::in_role_namespace(&questions, namespace, service_accounts, report).await?;
        fence::tokens(&questions, namespace, service_accounts, report).await?;
        fence::secrets(&questions, namespace, service_accounts, report).await?;
    }
    let renewed = own_account(cluster, report);
    let needed = |rule: &ResourceRule, resource: &str, verb: &str| {
        rules::renews(rule, resource, verb, renewed.as_deref())
    };
    let elsewhere = |namespace: &str| !subjects.contains_namespace(namespace);
    rules::elsewhere(&questions, elsewhere, needed, report).await?;
    subjects.say_what_is_not_checked(report);
    Ok(())
}

/// The daemon's own ServiceAccount, where it renews its token.
fn own_account(cluster: &Cluster, report: &ClusterReport) -> Option<String> {
    let ClusterAccess::Server(server) = &cluster.access else {
        return None;
    };
    let own = report.username.as_deref().filter(|_| server.renew_token)?;
    let account = own.strip_prefix("system:serviceaccount:")?;
    account.split(':').nth(1).map(str::to_owned)
}

/// Asks one API server.
struct Questions {
    api: ApiServer,
}

impl Questions {
    async fn ask(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, MintError> {
        let call = Call {
            doing,
            method,
            path,
            body,
            session: None,
            acting: None,
        };
        let (answer, _) = self
            .api
            .ask_again(&call, monotonic() + ANSWER_LIMIT)
            .await?;
        Ok(answer)
    }

    /// Posts a review; the API server fills its status in.
    async fn review<T: Serialize + DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
        review: &T,
    ) -> Result<T, MintError> {
        let answer = self.ask(doing, Method::POST, path, json(review)).await?;
        self.api.parse(doing, &answer)
    }

    /// A review that was not answered must not read as "no".
    fn no_status(&self, doing: &'static str) -> MintError {
        self.api.bad_answer(doing, "it has no status".to_owned())
    }

    async fn version(&self, report: &mut ClusterReport) -> Result<(), MintError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            major: String,
            minor: String,
            git_version: String,
        }
        let doing = "asking its version";
        let answer = self
            .ask(doing, Method::GET, "/version", Bytes::new())
            .await?;
        let version: Version = self.api.parse(doing, &answer)?;
        // Providers append a "+".
        let minor = version
            .minor
            .trim_end_matches(|c: char| !c.is_ascii_digit());
        let minor: Option<u32> = minor.parse().ok().filter(|_| version.major == "1");
        report.supports = minor.map(modes::of);
        let old = minor.is_some_and(|minor| minor < OLDEST_MINOR);
        if old {
            report.add(
                Level::Fail,
                "",
                format!(
                    "Kubernetes {} is too old: 1.{OLDEST_MINOR} or newer is needed",
                    version.git_version
                ),
            );
        }
        report.version = Some(version.git_version);
        Ok(())
    }

    async fn who(&self, report: &mut ClusterReport) -> Result<(), MintError> {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let review: SelfSubjectReview = self
            .review(
                "asking who the daemon is",
                path,
                &SelfSubjectReview::default(),
            )
            .await?;
        let user = review
            .status
            .and_then(|status| status.user_info)
            .unwrap_or_default();
        report.username = user.username;
        if user
            .groups
            .iter()
            .flatten()
            .any(|group| group == "system:masters")
        {
            report.add(
                Level::Fail,
                "",
                "the daemon is in system:masters, which no policy can bound: give it a ServiceAccount of its own (examples/deploy/bastion.yaml)",
            );
        }
        Ok(())
    }
}

/// Objects of our own making always serialize.
fn json(object: &impl Serialize) -> Bytes {
    serde_json::to_vec(object)
        .map(Bytes::from)
        .unwrap_or_default()
}
