//! What an API server says that somebody may do (SelfSubjectRulesReview, authorization.k8s.io/v1), in words.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::{ResourceRule, SubjectRulesReviewStatus};

/// API group, resource and verbs that can carry a credential out of a session, or lead past the gateway's understanding.
pub const BEYOND: &[(&str, &str, &[&str])] = &[
    ("", "secrets", &["get", "list", "create"]),
    ("", "serviceaccounts/token", &["create"]),
    ("", "serviceaccounts", &["impersonate"]),
    ("", "users", &["impersonate"]),
    ("", "nodes/proxy", &["get", "create"]),
    ("", "pods/proxy", &["get", "create"]),
    (
        "certificates.k8s.io",
        "certificatesigningrequests",
        &["create"],
    ),
    ("rbac.authorization.k8s.io", "rolebindings", &["create"]),
    (
        "rbac.authorization.k8s.io",
        "clusterroles",
        &["bind", "escalate"],
    ),
];

/// What [`BEYOND`] is about.
pub fn beyond_means() -> &'static str {
    "what is under MIND shows or issues credentials that no session bounds, or leads past what the gateway understands"
}

/// In the order in which people say them; others come after these.
const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

/// Lines are as wide as this, where what is in them allows it.
const WIDE: usize = 24;

/// What is granted in one namespace: a line for each set of verbs, with what they are for. What everybody who is authenticated may
/// ask about themselves is left out, and so is what is no resource.
pub fn rights(status: &SubjectRulesReviewStatus) -> Vec<String> {
    let mut lines = Vec::new();
    for ((verbs, names), resources) in by_verbs(&status.resource_rules) {
        let of = match names.is_empty() {
            true => String::new(),
            false => format!(" (named {})", joined(&names)),
        };
        let verbs = in_order(&verbs);
        lines.push(format!("{verbs:<WIDE$} {}{of}", joined(&resources)));
    }
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    let beyond = beyond(&status.resource_rules);
    if !beyond.is_empty() {
        lines.push(format!("{:<WIDE$} {}", "MIND", joined(&beyond)));
    }
    if status.incomplete {
        let why = status
            .evaluation_error
            .as_deref()
            .filter(|error| !error.is_empty())
            .unwrap_or("an authorizer of this cluster cannot list its rules");
        lines.push(format!("there may be more: {}", printable(why)));
    }
    lines
}

type Verbs = BTreeSet<String>;
type Names = BTreeSet<String>;

/// Rules put together: everything that is granted alike stands in one line.
fn by_verbs(rules: &[ResourceRule]) -> BTreeMap<(Verbs, Names), BTreeSet<String>> {
    let mut of_each: BTreeMap<(String, Names), Verbs> = BTreeMap::new();
    for rule in rules {
        let names = printables(rule.resource_names.iter().flatten());
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                if everybodys(group, resource) {
                    continue;
                }
                let resource = match group.as_str() {
                    "" => printable(resource),
                    group => printable(&format!("{resource}.{group}")),
                };
                of_each
                    .entry((resource, names.clone()))
                    .or_default()
                    .extend(printables(&rule.verbs));
            }
        }
    }
    let mut alike: BTreeMap<(Verbs, Names), BTreeSet<String>> = BTreeMap::new();
    for ((resource, names), verbs) in of_each {
        alike.entry((verbs, names)).or_default().insert(resource);
    }
    alike
}

/// To ask about oneself is allowed to all.
fn everybodys(group: &str, resource: &str) -> bool {
    matches!(group, "authentication.k8s.io" | "authorization.k8s.io")
        && resource.starts_with("selfsubject")
}

fn beyond(rules: &[ResourceRule]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rule in rules {
        for (group, resource, verbs) in BEYOND {
            let meant = has(rule.api_groups.iter().flatten(), group)
                && (has(rule.resources.iter().flatten(), resource)
                    || wild_subresource(rule, resource));
            for verb in verbs.iter().filter(|verb| meant && has(&rule.verbs, verb)) {
                found.insert(format!("{verb} {resource}"));
            }
        }
    }
    found
}

/// A rule for `*/token` is one for `serviceaccounts/token`.
fn wild_subresource(rule: &ResourceRule, resource: &str) -> bool {
    resource.split_once('/').is_some_and(|(_, sub)| {
        let wild = format!("*/{sub}");
        rule.resources.iter().flatten().any(|one| *one == wild)
    })
}

fn has<'a>(listed: impl IntoIterator<Item = &'a String>, wanted: &str) -> bool {
    listed.into_iter().any(|one| one == wanted || one == "*")
}

fn in_order(verbs: &Verbs) -> String {
    if verbs.contains("*") {
        return "*".to_owned();
    }
    let known = VERBS.into_iter().filter(|verb| verbs.contains(*verb));
    let others = verbs
        .iter()
        .map(String::as_str)
        .filter(|verb| !VERBS.contains(verb));
    known.chain(others).collect::<Vec<_>>().join(", ")
}

fn joined(words: &BTreeSet<String>) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.join(", ")
}

fn printables<'a>(words: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    words.into_iter().map(|word| printable(word)).collect()
}

/// An API server's words, fit for a terminal.
fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(500).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(rules: Value) -> Vec<String> {
        let status = json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false});
        rights(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn what_is_granted_alike_stands_in_one_line() {
        let told = told(json!([
            {"verbs": ["list", "get"], "apiGroups": [""], "resources": ["pods", "configmaps"]},
            {"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["watch", "get", "list"], "apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"]},
            {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a\u{1b}[2J"]},
        ]));
        let expected = [
            "get                      configmaps (named a?[2J)",
            "get, list                configmaps",
            "get, list, watch         deployments.apps, deployments/scale.apps, pods",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn nothing_is_said_to_be_nothing_and_half_an_answer_to_be_half() {
        assert_eq!(told(json!([])), ["nothing"]);
        let status = |why: Value| {
            let status = json!({"resourceRules": [], "nonResourceRules": [], "incomplete": true, "evaluationError": why});
            rights(&serde_json::from_value(status).unwrap())
        };
        let said = status(json!("webhook authorizer does not list"));
        assert_eq!(
            said,
            [
                "nothing",
                "there may be more: webhook authorizer does not list"
            ]
        );
        assert!(status(json!(""))[1].contains("cannot list its rules"));
    }

    #[test]
    fn what_leads_out_of_a_session_is_named_however_it_is_written() {
        let mind = |group: &str, resource: &str, verb: &str| {
            let told =
                told(json!([{"verbs": [verb], "apiGroups": [group], "resources": [resource]}]));
            told.last().unwrap().strip_prefix("MIND").map(str::to_owned)
        };
        assert!(mind("", "secrets", "get").unwrap().contains("get secrets"));
        let everything = mind("*", "*", "*").unwrap();
        for (_, resource, verbs) in BEYOND {
            for verb in *verbs {
                assert!(
                    everything.contains(&format!("{verb} {resource}")),
                    "{everything}"
                );
            }
        }
        let token = mind("", "*/token", "create").unwrap();
        assert_eq!(token.trim(), "create serviceaccounts/token");
        assert_eq!(mind("", "pods", "*"), None);
        assert_eq!(mind("apps", "secrets", "get"), None);
        assert_eq!(mind("", "secrets", "delete"), None);
    }
}
