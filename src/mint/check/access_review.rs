//! What RBAC lets a role's subject do, asked with an administrator's own credential: the daemon's may not ask about others.

use std::path::Path;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};

use super::super::access;
use super::super::api_server::ApiServer;
use super::super::error::MintError;
use super::Questions;
use crate::config::{ClusterAccess, KubernetesRequest, Name};
use crate::policy::KubernetesSubject;

/// A cluster that can be asked what others may do there.
pub struct AccessReviews(Questions);

/// What an API server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// It is allowed.
    Yes,
    /// It is not.
    No,
    /// An authorizer failed, so that a no may be none.
    Unknown(String),
}

impl AccessReviews {
    /// Connects with an administrator's kubeconfig.
    ///
    /// # Errors
    ///
    /// If it cannot be read or the API server cannot be reached.
    pub async fn open(cluster: &Name, kubeconfig: &Path) -> Result<Self, MintError> {
        let access = ClusterAccess::Kubeconfig(kubeconfig.to_owned());
        let access = access::load(&access)
            .await
            .map_err(|error| MintError::Access {
                cluster: cluster.to_string(),
                reason: error.to_string(),
            })?;
        let api = ApiServer::connect(cluster.as_str(), access.config).await?;
        Ok(Self(Questions { api }))
    }

    /// Whether somebody may do something: a SubjectAccessReview (authorization.k8s.io/v1).
    ///
    /// # Errors
    ///
    /// If the API server does not answer, or does not let the administrator ask.
    pub async fn may(
        &self,
        subject: &KubernetesSubject,
        request: &KubernetesRequest,
    ) -> Result<Allowed, MintError> {
        let asked = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(subject.to_string()),
                groups: Some(groups(subject)),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(request.verb.clone()),
                    group: Some(request.group.clone()),
                    resource: Some(request.resource.clone()),
                    subresource: request.subresource.clone(),
                    namespace: request.namespace.clone(),
                    name: request.name.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let doing = "asking what others may do";
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answered: SubjectAccessReview = self.0.review(doing, path, &asked).await?;
        let status = answered.status.ok_or_else(|| self.0.no_status(doing))?;
        let failed = status.evaluation_error.filter(|error| !error.is_empty());
        Ok(match (status.allowed, failed) {
            (true, _) => Allowed::Yes,
            (false, None) => Allowed::No,
            (false, Some(why)) => Allowed::Unknown(why),
        })
    }
}

/// What the API server itself adds to a token's.
fn groups(subject: &KubernetesSubject) -> Vec<String> {
    let mut groups = match subject {
        KubernetesSubject::ServiceAccount { namespace, .. } => vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ],
        KubernetesSubject::Own { groups, .. } | KubernetesSubject::Impersonated { groups, .. } => {
            groups.clone()
        }
    };
    groups.push("system:authenticated".to_owned());
    groups
}
