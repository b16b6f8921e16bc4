//! The daemon's right to ask in people's names: of exactly those whom bindings lead to.

use serde_json::{Value, json};

use super::BastionUser;
use super::objects::{PART_OF, PRODUCT};
use crate::config::Impersonation;
use crate::issuer::SESSION;
use crate::policy::People;

const NAME: &str = "bastion-impersonate";
const RBAC: &str = "rbac.authorization.k8s.io";

/// What requests are, of resources and of paths. What may be done is not ours to say, so that all of them are here: RBAC says it of
/// the one who is named.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const METHODS: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];

/// A ClusterRole and its binding; nothing, if nobody is to be named: a rule without names would be one for all of them.
pub(super) fn of_people(
    people: &People,
    naming: &Impersonation,
    bastion: &BastionUser,
) -> Vec<Value> {
    if people.users.is_empty() || people.groups.is_empty() {
        return Vec::new();
    }
    let (verb, group) = match naming.legacy {
        true => ("impersonate", ""),
        false => ("impersonate:user-info", "authentication.k8s.io"),
    };
    let named = |resource: &str, names: &std::collections::BTreeSet<String>| json!({"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": [verb]});
    let mut rules = vec![
        named("users", &people.users),
        named("groups", &people.groups),
        // Each session has an id of its own, so that its values are open.
        json!({
            "apiGroups": ["authentication.k8s.io"],
            "resources": [format!("userextras/{SESSION}")],
            "verbs": [verb],
        }),
    ];
    if !naming.legacy {
        let on = |verb: &&str| format!("impersonate-on:user-info:{verb}");
        let verbs: Vec<String> = VERBS.iter().map(on).collect();
        let methods: Vec<String> = METHODS.iter().map(on).collect();
        rules.push(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": verbs}));
        rules.push(json!({"nonResourceURLs": ["*"], "verbs": methods}));
    }
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": NAME, "labels": {PART_OF: PRODUCT}},
            "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME, "labels": {PART_OF: PRODUCT}},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": NAME},
            "subjects": [bastion.subject()],
        }),
    ]
}
