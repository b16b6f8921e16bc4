//! What the daemon must be able to do, and what a thief of its credential must not.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};

use super::report::{ClusterReport, Level};
use super::{MintError, Questions};

/// Verb, API group, resource (with subresource), and what it would mean.
type Right = (&'static str, &'static str, &'static str, &'static str);

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

/// Nowhere, and least of all everywhere.
const NOT_IN_THE_CLUSTER: &[Right] = &[
    ("*", "*", "*", "it is cluster-admin"),
    (
        "create",
        "",
        "serviceaccounts/token",
        "it is every ServiceAccount",
    ),
    ("get", "", "secrets", "it reads every Secret"),
    ("list", "", "secrets", "it reads every Secret"),
    (
        "create",
        "",
        "secrets",
        "it can make ServiceAccount tokens that never expire",
    ),
    ("impersonate", "", "users", "it is anyone"),
    ("impersonate", "", "groups", "it is in any group"),
    (
        "impersonate",
        "",
        "serviceaccounts",
        "it is every ServiceAccount",
    ),
    (
        "impersonate:user-info",
        "authentication.k8s.io",
        "users",
        "it is anyone, within limits",
    ),
    (
        "impersonate:user-info",
        "authentication.k8s.io",
        "groups",
        "it is in any group but system:masters",
    ),
    (
        "impersonate:serviceaccount",
        "authentication.k8s.io",
        "serviceaccounts",
        "it is every ServiceAccount, within limits",
    ),
    (
        "impersonate:arbitrary-node",
        "authentication.k8s.io",
        "nodes",
        "it is every node, within limits",
    ),
    ("bind", RBAC, "clusterroles", "it can give itself any role"),
    (
        "escalate",
        RBAC,
        "clusterroles",
        "it can give itself any right",
    ),
    (
        "create",
        RBAC,
        "clusterrolebindings",
        "it can give its own rights away",
    ),
    (
        "create",
        RBAC,
        "rolebindings",
        "it can give its own rights away",
    ),
    ("create", "", "pods", "it can run as any ServiceAccount"),
    ("create", "", "pods/exec", "it can enter every pod"),
    ("get", "", "pods/exec", "it can enter every pod"),
    (
        "create",
        "",
        "nodes/proxy",
        "it can enter every pod, unrecorded",
    ),
    (
        "get",
        "",
        "nodes/proxy",
        "it can enter every pod, unrecorded",
    ),
    (
        "update",
        CERTIFICATES,
        "certificatesigningrequests/approval",
        "it can make itself certificates",
    ),
    (
        "approve",
        CERTIFICATES,
        "signers",
        "it can make itself certificates",
    ),
    (
        "sign",
        CERTIFICATES,
        "signers",
        "it can make itself certificates",
    ),
    (
        "update",
        ADMISSION,
        "validatingadmissionpolicies",
        "it can open the fence",
    ),
    (
        "delete",
        ADMISSION,
        "validatingadmissionpolicies",
        "it can open the fence",
    ),
    (
        "delete",
        ADMISSION,
        "validatingadmissionpolicybindings",
        "it can open the fence",
    ),
    (
        "create",
        ADMISSION,
        "mutatingwebhookconfigurations",
        "it can change what others ask for",
    ),
    (
        "update",
        "",
        "namespaces",
        "it can take a namespace out of the fence",
    ),
    (
        "patch",
        "",
        "namespaces",
        "it can take a namespace out of the fence",
    ),
];

/// Nor in a role's namespace.
const NOT_IN_A_ROLE_NAMESPACE: &[Right] = &[
    ("get", "", "secrets", "it needs no sight of Secrets"),
    (
        "list",
        "",
        "secrets",
        "it needs no sight of Secrets, other replicas' sessions among them",
    ),
    ("watch", "", "secrets", "it needs no sight of Secrets"),
    ("update", "", "secrets", "it changes no Secret"),
    ("patch", "", "secrets", "it changes no Secret"),
    (
        "deletecollection",
        "",
        "secrets",
        "it could end every session of every replica at once",
    ),
    (
        "create",
        "",
        "pods",
        "a pod gets a token that no session bounds",
    ),
    (
        "create",
        "",
        "serviceaccounts",
        "ServiceAccounts are an administrator's to make",
    ),
    (
        "impersonate",
        "",
        "serviceaccounts",
        "it would be the role without a token on record",
    ),
    (
        "create",
        RBAC,
        "rolebindings",
        "it can give its own rights away",
    ),
    ("update", RBAC, "roles", "it can change its own rights"),
    ("bind", RBAC, "roles", "it can give itself any role here"),
    (
        "escalate",
        RBAC,
        "roles",
        "it can give itself any right here",
    ),
];

/// What minting and releasing take, besides the tokens themselves.
const IN_A_ROLE_NAMESPACE: &[Right] = &[
    (
        "create",
        "",
        "secrets",
        "no session could be bound to its Secret",
    ),
    (
        "delete",
        "",
        "secrets",
        "no session's token could be taken back",
    ),
];

/// No ServiceAccount has this name.
const NO_SUBJECT: &str = "bastion-audit-check-no-such-account";

pub(super) async fn cluster_wide(
    questions: &Questions,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    must_not(questions, "", NOT_IN_THE_CLUSTER, report).await
}

pub(super) async fn in_role_namespace(
    questions: &Questions,
    namespace: &str,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    for (verb, group, resource, means) in IN_A_ROLE_NAMESPACE {
        match questions.may(namespace, verb, group, resource, None).await? {
            Verdict::Yes => {
                report.add(Level::Ok, namespace, format!("may {verb} {resource}"));
            }
            Verdict::No | Verdict::Unknown(_) => report.add(
                Level::Fail,
                namespace,
                format!("may not {verb} {resource}: {means}: apply the namespace's manifest (examples/deploy/role-*.yaml)"),
            ),
        }
    }
    must_not(questions, namespace, NOT_IN_A_ROLE_NAMESPACE, report).await?;
    let other = questions
        .may(
            namespace,
            "create",
            "",
            "serviceaccounts/token",
            Some(NO_SUBJECT),
        )
        .await?;
    if other == Verdict::Yes {
        report.add(
            Level::Fail,
            namespace,
            "may create tokens of any ServiceAccount here: name the role's in resourceNames",
        );
    }
    Ok(())
}

async fn must_not(
    questions: &Questions,
    namespace: &str,
    rights: &[Right],
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let mut clean = true;
    for (verb, group, resource, means) in rights {
        let scope = if namespace.is_empty() {
            "everywhere "
        } else {
            ""
        };
        match questions
            .may(namespace, verb, group, resource, None)
            .await?
        {
            Verdict::No => continue,
            Verdict::Yes => report.add(
                Level::Fail,
                namespace,
                format!("may {verb} {resource} {scope}and must not: {means}"),
            ),
            Verdict::Unknown(why) => report.add(
                Level::Incomplete,
                namespace,
                format!("whether it may {verb} {resource} {scope}cannot be known: {why}"),
            ),
        }
        clean = false;
    }
    if clean {
        let count = rights.len();
        let what = if namespace.is_empty() {
            "cluster-wide"
        } else {
            "namespaced"
        };
        report.add(
            Level::Ok,
            namespace,
            format!("none of {count} {what} rights that it must not have"),
        );
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    /// An authorizer could not answer.
    Unknown(String),
}

impl Questions {
    pub(super) async fn may(
        &self,
        namespace: &str,
        verb: &str,
        group: &str,
        resource: &str,
        name: Option<&str>,
    ) -> Result<Verdict, MintError> {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, sub)) => (resource, Some(sub.to_owned())),
            None => (resource, None),
        };
        let asked = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    verb: Some(verb.to_owned()),
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    name: name.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let doing = "asking what the daemon may do";
        let answered: SelfSubjectAccessReview = self.review(doing, path, &asked).await?;
        let status = answered.status.ok_or_else(|| self.no_status(doing))?;
        let trouble = status.evaluation_error.filter(|error| !error.is_empty());
        Ok(match (status.allowed, trouble) {
            (true, _) => Verdict::Yes,
            // RBAC names roles that it could not find in the same field; the answer is a plain no all the same when
            // another authorizer denied.
            (false, Some(why)) if !status.denied.unwrap_or(false) => Verdict::Unknown(why),
            (false, _) => Verdict::No,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::testing::{Reply, api_server, name};
    use super::*;

    #[tokio::test]
    async fn a_question_that_was_not_answered_is_no_no() {
        let (api, _) = api_server(|_| {
            let status = json!({"allowed": false, "evaluationError": "webhook: timeout"});
            Reply::Json(201, json!({"spec": {}, "status": status}))
        });
        let mut report = ClusterReport::new(name("prod"), "tokenRequest", String::new());
        cluster_wide(&Questions { api }, &mut report).await.unwrap();
        assert_eq!(report.level(), Level::Incomplete);
        let says = "whether it may get secrets everywhere cannot be known: webhook: timeout";
        assert!(report.to_string().contains(says), "{report}");
    }
}
