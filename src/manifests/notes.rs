//! What is for people to know, and in no object.

use crate::config::{Config, Name};
use crate::issuer::{groups_of, prefixed};
use crate::policy::{People, ServiceAccounts};

pub(super) fn of_service_accounts(
    config: &Config,
    cluster: &Name,
    accounts: &ServiceAccounts,
) -> Vec<String> {
    let mut notes = vec![
        format!(
            "What the cluster {cluster} must have for the bastion {}, made of its configuration.",
            config.bastion.name
        ),
        "What operators may do is for RBAC of your own to say. Bind it to:".to_owned(),
    ];
    for (namespace, inside) in &accounts.namespaces {
        let roles: Vec<&str> = inside.roles.iter().map(Name::as_str).collect();
        let roles = format!("the role {}", roles.join(", the role "));
        if inside.of_identities && inside.roles.len() == 1 {
            notes.push(format!(
                "  {roles}: the group system:serviceaccounts:{namespace}, a ServiceAccount for each identity"
            ));
        } else {
            let some: Vec<&str> = inside.accounts.iter().take(4).map(String::as_str).collect();
            let more = match inside.accounts.len().saturating_sub(some.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            notes.push(format!(
                "  {roles}: ServiceAccount {}{more} in {namespace}",
                some.join(", ")
            ));
        }
    }
    if accounts.namespaces.is_empty() {
        notes.push("  nobody: no binding gives anyone a role here".to_owned());
    }
    for unlisted in &accounts.unlisted {
        notes.push(format!(
            "NOT HERE: whom a certificate puts into {} has the ServiceAccount {} in {} as {}, and who that is cannot be listed. \
             Give the role a name without {{identity}}, or make these and add them to bastion-mint yourself.",
            unlisted.group, unlisted.name, unlisted.namespace, unlisted.role
        ));
    }
    notes
}

pub(super) fn of_an_issuer(config: &Config, cluster: &Name) -> Vec<String> {
    let mut notes = vec![
        format!(
            "The bastion {} needs nothing in the cluster {cluster}, where operators have their own names (mint: oidcIssuer).",
            config.bastion.name
        ),
        format!(
            "The API server is told whom to trust by: bastion-audit issuer authentication-config {cluster}"
        ),
        "What operators may do is for RBAC of your own to say. Bind it to the groups:".to_owned(),
    ];
    let groups = groups_of(config, cluster);
    notes.extend(groups.iter().map(|group| format!("  {}", prefixed(group))));
    if groups.is_empty() {
        notes.push("  none: no binding gives anyone a role here".to_owned());
    }
    notes
}

pub(super) fn of_people(config: &Config, cluster: &Name, people: &People) -> Vec<String> {
    let mut notes = vec![
        format!(
            "What the cluster {cluster} must have for the bastion {}, which asks there in operators' names (mint: impersonation).",
            config.bastion.name
        ),
        "What operators may do is for RBAC of your own to say, of these users and groups. Whoever takes the bastion over can be each of".to_owned(),
        "these users in each of these groups, and no other:".to_owned(),
    ];
    notes.extend(people.groups.iter().map(|group| format!("  {group}")));
    if people.groups.is_empty() {
        notes.push("  none: no binding gives anyone a role here".to_owned());
    }
    for group in &people.unlisted {
        notes.push(format!(
            "NOT HERE: whom a certificate puts into {group} cannot be listed, and the bastion may name nobody who is not. Make them \
             identities, or mint otherwise."
        ));
    }
    notes
}
