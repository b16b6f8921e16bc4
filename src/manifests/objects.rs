//! Namespaces, ServiceAccounts, and the daemon's right to request tokens of those and no others.

use serde_json::{Value, json};

use super::BastionUser;
use crate::policy::InNamespace;

const PART_OF: &str = "app.kubernetes.io/part-of";
const PRODUCT: &str = "bastion-audit";
/// What the policies select.
const ROLE_NAMESPACE: &str = "bastion-audit.dev/role-namespace";
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// The Role and the RoleBinding in each role namespace.
const MINT: &str = "bastion-mint";

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
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": MINT, "namespace": namespace, "labels": {PART_OF: PRODUCT}},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["serviceaccounts/token"],
                "resourceNames": accounts,
                "verbs": ["create"],
            },
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
        ],
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": MINT, "namespace": namespace, "labels": {PART_OF: PRODUCT}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": MINT},
        "subjects": [bastion.subject()],
    }));
    objects
}

fn service_account(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": {PART_OF: PRODUCT}},
        "automountServiceAccountToken": false,
    })
}
