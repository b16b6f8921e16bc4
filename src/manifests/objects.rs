//! Namespaces, ServiceAccounts, and the daemon's right to request tokens of those and no others.

use serde_json::{Value, json};

use super::BastionUser;
use crate::policy::InNamespace;

pub(super) const PART_OF: &str = "app.kubernetes.io/part-of";
pub(super) const PRODUCT: &str = "bastion-audit";
/// What the policies select.
const ROLE_NAMESPACE: &str = "bastion-audit.dev/role-namespace";
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// The Role and the RoleBinding in each role namespace.
const MINT: &str = "bastion-mint";
/// The same in its own namespace.
const RENEW: &str = "bastion-renew";

/// Who the daemon is: an account without any right of its own. Nothing, if it is nobody of the cluster's.
pub(super) fn of_the_bastion(bastion: &BastionUser) -> Vec<Value> {
    let BastionUser::ServiceAccount { namespace, name } = bastion else {
        return Vec::new();
    };
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {PART_OF: PRODUCT, POD_SECURITY: "baseline"}},
        }),
        service_account(namespace, name),
    ]
}

/// What the daemon needs to ask for its own next token. Nothing, if it is nobody of the cluster's.
pub(super) fn of_its_own_renewal(bastion: &BastionUser) -> Vec<Value> {
    let BastionUser::ServiceAccount { namespace, name } = bastion else {
        return Vec::new();
    };
    let rule = json!({
        "apiGroups": [""],
        "resources": ["serviceaccounts/token"],
        "resourceNames": [name],
        "verbs": ["create"],
    });
    role_for(RENEW, namespace, &json!([rule]), bastion)
}

/// What one or several roles of a namespace need.
pub(super) fn of_a_role_namespace(
    namespace: &str,
    inside: &InNamespace,
    bastion: &BastionUser,
) -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace,
            "labels": {PART_OF: PRODUCT, ROLE_NAMESPACE: "true", POD_SECURITY: "restricted"},
        },
    })];
    let accounts = &inside.accounts;
    objects.extend(accounts.iter().map(|name| service_account(namespace, name)));
    // A rule without names would be one for all of them.
    if accounts.is_empty() {
        return objects;
    }
    let rules = json!([
        {
            "apiGroups": [""],
            "resources": ["serviceaccounts/token"],
            "resourceNames": accounts,
            "verbs": ["create"],
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
    ]);
    objects.extend(role_for(MINT, namespace, &rules, bastion));
    objects
}

/// A Role and its binding to the daemon.
fn role_for(name: &str, namespace: &str, rules: &Value, bastion: &BastionUser) -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": name, "namespace": namespace, "labels": {PART_OF: PRODUCT}},
            "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace, "labels": {PART_OF: PRODUCT}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [bastion.subject()],
        }),
    ]
}

fn service_account(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": {PART_OF: PRODUCT}},
        "automountServiceAccountToken": false,
    })
}
