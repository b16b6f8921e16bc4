//! Every rule that RBAC has for the daemon in a namespace: what is there beyond what is needed.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};

use super::report::{ClusterReport, Level};
use super::{MintError, Questions};

pub(super) async fn in_role_namespace(
    questions: &Questions,
    namespace: &str,
    service_accounts: &BTreeSet<String>,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let needed = |rule: &ResourceRule, resource: &str, verb: &str| match resource {
        _ if !is_core(rule) => false,
        "secrets" => matches!(verb, "create" | "delete"),
        "serviceaccounts/token" => {
            verb == "create"
                && rule.resource_names.as_ref().is_some_and(|names| {
                    !names.is_empty() && names.iter().all(|name| service_accounts.contains(name))
                })
        }
        _ => false,
    };
    look(questions, namespace, needed, report).await
}

/// Where rights would hurt most, or are given by habit.
pub(super) async fn elsewhere(
    questions: &Questions,
    elsewhere: impl Fn(&str) -> bool,
    needed: impl Fn(&ResourceRule, &str, &str) -> bool,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let own = report
        .username
        .as_deref()
        .and_then(|name| name.strip_prefix("system:serviceaccount:"))
        .and_then(|name| name.split(':').next())
        .map(str::to_owned);
    let mut namespaces: BTreeSet<String> = ["default".to_owned(), "kube-system".to_owned()].into();
    namespaces.extend(own);
    for namespace in namespaces {
        if elsewhere(&namespace) {
            look(questions, &namespace, &needed, report).await?;
        }
    }
    Ok(())
}

/// Whether a rule is for the daemon's own next token and nothing else.
pub(super) fn renews(rule: &ResourceRule, resource: &str, verb: &str, own: Option<&str>) -> bool {
    let names = rule.resource_names.as_deref().unwrap_or_default();
    is_core(rule)
        && (resource, verb) == ("serviceaccounts/token", "create")
        && own.is_some_and(|own| names == [own])
}

fn is_core(rule: &ResourceRule) -> bool {
    rule.api_groups
        .as_deref()
        .is_some_and(|groups| groups == [""])
}

async fn look(
    questions: &Questions,
    namespace: &str,
    needed: impl Fn(&ResourceRule, &str, &str) -> bool,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let asked = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let doing = "asking for the daemon's rules";
    let answered: SelfSubjectRulesReview = questions.review(doing, path, &asked).await?;
    let status = answered.status.ok_or_else(|| questions.no_status(doing))?;
    let mut clean = true;
    for rule in &status.resource_rules {
        if let Some((level, extra)) = beyond(rule, &needed) {
            clean = false;
            report.add(level, namespace, format!("more than is needed: {extra}"));
        }
    }
    if status.incomplete {
        clean = false;
        let why = status
            .evaluation_error
            .filter(|error| !error.is_empty())
            .unwrap_or_else(|| "an authorizer cannot list its rules".to_owned());
        report.add(
            Level::Incomplete,
            namespace,
            format!("not all rules are known: {why}"),
        );
    }
    if clean {
        report.add(Level::Ok, namespace, "no rule beyond what is needed");
    }
    Ok(())
}

/// What of a rule is neither needed nor everybody's. Reading what is no Secret is untidy; anything else is a hole.
fn beyond(
    rule: &ResourceRule,
    needed: &impl Fn(&ResourceRule, &str, &str) -> bool,
) -> Option<(Level, String)> {
    let groups: Vec<&str> = rule
        .api_groups
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let reviews = groups
        .iter()
        .all(|group| matches!(*group, "authentication.k8s.io" | "authorization.k8s.io"));
    let mut level = Level::Ok;
    let mut extra = BTreeSet::new();
    for resource in rule.resources.iter().flatten() {
        for verb in &rule.verbs {
            let everybodys = reviews && resource.starts_with("selfsubject") && verb == "create";
            if everybodys || needed(rule, resource, verb) {
                continue;
            }
            let reading = matches!(verb.as_str(), "get" | "list" | "watch")
                && !matches!(resource.split('/').next(), Some("secrets" | "*"))
                && !resource.contains('/');
            level = level.max(if reading { Level::Warn } else { Level::Fail });
            extra.insert(format!("{verb} {resource}"));
        }
    }
    (level > Level::Ok).then(|| (level, extra.into_iter().collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::testing::{Reply, api_server, name};
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> ResourceRule {
        let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        ResourceRule {
            api_groups: Some(own(groups)),
            resources: Some(own(resources)),
            resource_names: Some(own(names)),
            verbs: own(verbs),
        }
    }

    fn level(rule: &ResourceRule) -> Level {
        let needed = |rule: &ResourceRule, resource: &str, verb: &str| {
            is_core(rule) && resource == "secrets" && matches!(verb, "create" | "delete")
        };
        beyond(rule, &needed).map_or(Level::Ok, |(level, _)| level)
    }

    #[test]
    fn what_is_needed_is_not_reported_and_everything_else_is() {
        assert_eq!(
            level(&rule(&[""], &["secrets"], &[], &["create", "delete"])),
            Level::Ok
        );
        assert_eq!(
            level(&rule(&[""], &["secrets"], &[], &["create", "get"])),
            Level::Fail
        );
        assert_eq!(
            level(&rule(&["*"], &["secrets"], &[], &["create"])),
            Level::Fail
        );
        assert_eq!(
            level(&rule(&[""], &["configmaps"], &[], &["get", "list"])),
            Level::Warn
        );
        assert_eq!(
            level(&rule(&[""], &["configmaps"], &[], &["get", "update"])),
            Level::Fail
        );
        assert_eq!(level(&rule(&[""], &["*"], &[], &["get"])), Level::Fail);
        assert_eq!(
            level(&rule(&[""], &["pods/exec"], &[], &["get"])),
            Level::Fail
        );
        let review = rule(
            &["authorization.k8s.io"],
            &["selfsubjectrulesreviews"],
            &[],
            &["create"],
        );
        assert_eq!(level(&review), Level::Ok);
        let others = rule(
            &["authorization.k8s.io"],
            &["subjectaccessreviews"],
            &[],
            &["create"],
        );
        assert_eq!(level(&others), Level::Fail);
    }

    #[tokio::test]
    async fn what_an_authorizer_does_not_tell_is_incomplete_and_not_fine() {
        let (api, _) = api_server(|_| {
            let status = json!({
                "incomplete": true, "evaluationError": "webhook authorizer does not support user rule resolution",
                "resourceRules": [], "nonResourceRules": [],
            });
            Reply::Json(201, json!({"spec": {}, "status": status}))
        });
        let mut report = ClusterReport::new(name("prod"), "tokenRequest", String::new());
        let questions = Questions { api };
        look(&questions, "bastion-viewer", |_, _, _| false, &mut report)
            .await
            .unwrap();
        assert_eq!(report.level(), Level::Incomplete);
        let says = "incomplete  bastion-viewer: not all rules are known: webhook authorizer";
        assert!(report.to_string().contains(says), "{report}");
    }
}
