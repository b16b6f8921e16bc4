//! Whether the admission policies are in force: things that they must refuse are asked for.
//!
//! Nothing comes of it if they are not. Secrets are asked for with `dryRun=All`. The API server does issue tokens on a dry
//! run, so these are asked for bound to a Secret that does not exist: it looks for that after admission, and says 404.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::report::{ClusterReport, Level};
use super::subjects::some;
use super::{MintError, Questions};

const APPLY: &str = "apply examples/deploy/admission.yaml, and label the namespace bastion-audit.dev/role-namespace=true";

/// No session's: an instance's name has no place for a dot.
const NO_SECRET: &str = "session-check.no-such-secret";

pub(super) async fn tokens(
    questions: &Questions,
    namespace: &str,
    service_accounts: &BTreeSet<String>,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let bound = |name: &str, kind: &str, seconds: u32| {
        json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name},
            },
        })
    };
    let mut fenced = true;
    for account in some(service_accounts) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let usual = bound(NO_SECRET, "Secret", 600);
        match questions.try_out(&path, &usual).await? {
            Tried::NoSuch(kind) if kind == "secrets" => report.add(
                Level::Ok,
                namespace,
                format!("may create tokens of {account}"),
            ),
            Tried::NoSuch(_) => report.add(
                Level::Fail,
                namespace,
                format!("there is no ServiceAccount {account}, or not the namespace"),
            ),
            Tried::Forbidden(message) => report.add(
                Level::Fail,
                namespace,
                format!("may not create tokens of {account}: {message}: name it in resourceNames of the namespace's Role"),
            ),
            Tried::Refused(message) => report.add(
                Level::Fail,
                namespace,
                format!("tokens of {account} are refused: {message}"),
            ),
            Tried::Accepted => report.add(
                Level::Fail,
                namespace,
                format!("a token of {account} was issued for a Secret that does not exist"),
            ),
        }
        for (unfit, means) in [
            (bound(NO_SECRET, "Secret", 7200), "live two hours"),
            (
                bound("other.no-such-secret", "Secret", 600),
                "are bound to any Secret",
            ),
            (bound(NO_SECRET, "Pod", 600), "are bound to a pod"),
        ] {
            let tried = questions.try_out(&path, &unfit).await?;
            if matches!(tried, Tried::NoSuch(_) | Tried::Accepted) {
                fenced = false;
                report.add(
                    Level::Fail,
                    namespace,
                    format!("no policy refuses tokens of {account} that {means}: {APPLY}"),
                );
            }
        }
    }
    if fenced {
        report.add(Level::Ok, namespace, "tokens are fenced by policy");
    }
    Ok(())
}

pub(super) async fn secrets(
    questions: &Questions,
    namespace: &str,
    service_accounts: &BTreeSet<String>,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let path = format!("/api/v1/namespaces/{namespace}/secrets?dryRun=All");
    let secret = |name: &str, more: Value| {
        let mut secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "Opaque",
            "immutable": true,
        });
        if let (Value::Object(secret), Value::Object(more)) = (&mut secret, more) {
            secret.extend(more);
        }
        secret
    };
    if let Tried::Refused(message) = questions
        .try_out(&path, &secret(NO_SECRET, json!({})))
        .await?
    {
        report.add(
            Level::Fail,
            namespace,
            format!("a session's Secret is refused: {message}"),
        );
    }
    let account = service_accounts.first().map_or("default", String::as_str);
    let token = json!({
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": NO_SECRET,
            "annotations": {"kubernetes.io/service-account.name": account},
        },
    });
    let mut fenced = true;
    for (unfit, means) in [
        (secret("other.no-such-secret", json!({})), "have any name"),
        (
            secret(NO_SECRET, json!({"data": {"a": "Yg=="}})),
            "hold data",
        ),
        (secret(NO_SECRET, json!({"immutable": false})), "can change"),
        (
            secret(NO_SECRET, token),
            "hold a ServiceAccount token that never expires",
        ),
    ] {
        if questions.try_out(&path, &unfit).await? == Tried::Accepted {
            fenced = false;
            report.add(
                Level::Fail,
                namespace,
                format!("no policy refuses Secrets that {means}: {APPLY}"),
            );
        }
    }
    if fenced {
        report.add(Level::Ok, namespace, "Secrets are fenced by policy");
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Accepted,
    /// 404, and of what kind.
    NoSuch(String),
    /// By RBAC.
    Forbidden(String),
    /// By a policy, or because it cannot be.
    Refused(String),
}

impl Questions {
    async fn try_out(&self, path: &str, object: &Value) -> Result<Tried, MintError> {
        let doing = "trying what must be refused";
        let body = super::json(object);
        let answer = self.ask(doing, Method::POST, path, body).await?;
        if answer.status.is_success() {
            return Ok(Tried::Accepted);
        }
        if answer.status == StatusCode::NOT_FOUND {
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let kind = said.pointer("/details/kind").and_then(Value::as_str);
            return Ok(Tried::NoSuch(kind.unwrap_or_default().to_owned()));
        }
        match self.api.refusal(doing, &answer) {
            MintError::Forbidden { message, .. } => Ok(Tried::Forbidden(message)),
            MintError::Refused {
                status: 400..=499,
                message,
                ..
            } if answer.status != StatusCode::TOO_MANY_REQUESTS => Ok(Tried::Refused(message)),
            error => Err(error),
        }
    }
}
