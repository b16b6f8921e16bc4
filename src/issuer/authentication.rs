//! What an API server is told about the issuer: a file of the cluster's, which the bastion cannot edit.

use std::collections::BTreeSet;

use super::{IssuerError, PREFIX, prefixed};
use crate::config::{Config, IssuerSettings, Mint, Name, RoleAccess, SubjectTemplate};

/// Where the session's id is among what the API server knows of a user, its audit log included.
/// What API servers know a session by, beside its user.
pub const SESSION: &str = "bastion-audit.dev/session-id";

/// A kube-apiserver's `--authentication-config` (`apiserver.config.k8s.io/v1`) for one cluster.
///
/// It bounds what the issuer can claim there: for this audience, names under [`PREFIX`], the groups that some binding can
/// give, for so long. Subjects are free within the prefix, and RBAC should give them nothing.
///
/// # Errors
///
/// If the cluster does not mint so, or the CA's file cannot be read.
pub fn authentication_config(config: &Config, cluster: &Name) -> Result<String, IssuerError> {
    let issuer = config.bastion.issuer.as_ref();
    let issuer = issuer.ok_or(IssuerError::NotConfigured)?;
    let mint = config.clusters.get(cluster).map(|cluster| &cluster.mint);
    let Some(Mint::OidcIssuer { audience }) = mint else {
        return Err(IssuerError::NotAClusterOfOurs(cluster.to_string()));
    };
    let mut text = format!(
        "# The cluster {cluster} trusts the bastion {} to say who its operators are, within these bounds.\n\
         apiVersion: apiserver.config.k8s.io/v1\n\
         kind: AuthenticationConfiguration\n\
         jwt:\n\
         - issuer:\n    url: {}\n",
        config.bastion.name,
        quoted(&issuer.url),
    );
    if let Some(url) = &issuer.discovery_url {
        text.push_str(&format!("    discoveryURL: {}\n", quoted(url)));
    }
    text.push_str(&format!("    audiences: [{}]\n", quoted(audience)));
    if let Some(pem) = authority(issuer)? {
        text.push_str("    certificateAuthority: |\n");
        for line in pem.lines() {
            text.push_str(&format!("      {line}\n"));
        }
    }
    text.push_str("  claimValidationRules:\n");
    let seconds = issuer.token_ttl.as_secs();
    rule(
        &mut text,
        &format!("has(claims.nbf) && claims.exp - claims.nbf <= {seconds}"),
        &format!("a token of the bastion lives {seconds} s at most"),
    );
    rule(
        &mut text,
        "has(claims.jti) && claims.jti != '' && has(claims.sid) && claims.sid != ''",
        "a token of the bastion has an id, and its session's",
    );
    rule(
        &mut text,
        "claims.sub.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')",
        "a token of the bastion is an identity's",
    );
    text.push_str(&format!(
        "  claimMappings:\n\
             \x20   username: {{claim: sub, prefix: {0}}}\n\
             \x20   groups: {{claim: groups, prefix: {0}}}\n\
             \x20   uid: {{claim: sub}}\n\
             \x20   extra:\n\
             \x20   - {{key: {1}, valueExpression: claims.sid}}\n",
        quoted(PREFIX),
        quoted(SESSION),
    ));
    text.push_str("  userValidationRules:\n");
    rule(
        &mut text,
        &format!("user.username.startsWith('{PREFIX}')"),
        "the bastion speaks for its own identities only",
    );
    let groups: Vec<String> = groups_of(config, cluster)
        .iter()
        .map(|group| format!("'{}'", prefixed(group)))
        .collect();
    rule(
        &mut text,
        &format!("user.groups.all(group, group in [{}])", groups.join(", ")),
        "the bastion gives these groups and no others",
    );
    Ok(text)
}

/// The groups that some binding can give somebody on that cluster, without the prefix. Of bindings that have ended, too:
/// what an API server is told should not change by itself.
pub fn groups_of(config: &Config, cluster: &Name) -> BTreeSet<String> {
    let bound = config.bindings.values().filter(|binding| {
        let clusters = binding.clusters.as_ref();
        clusters.is_none_or(|clusters| clusters.contains(cluster))
    });
    bound
        .flat_map(|binding| &binding.roles)
        .filter_map(|role| match &config.roles.get(role)?.access {
            RoleAccess::Kubernetes(role) => role.subjects.get(cluster),
            RoleAccess::Audit(_) => None,
        })
        .filter_map(|subject| match subject {
            SubjectTemplate::Own { groups } => Some(groups),
            SubjectTemplate::ServiceAccount(_) | SubjectTemplate::Impersonated { .. } => None,
        })
        .flatten()
        .cloned()
        .collect()
}

/// The CA's certificates as they are in the file, and nothing else of it.
fn authority(issuer: &IssuerSettings) -> Result<Option<String>, IssuerError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let Some(path) = &issuer.certificate_authority else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path).map_err(|source| IssuerError::Io {
        path: path.clone(),
        doing: "reading the CA",
        source,
    })?;
    let mut pem = String::new();
    let mut within = false;
    for line in text.lines().map(str::trim) {
        within |= line == BEGIN;
        if within {
            pem.push_str(line);
            pem.push('\n');
        }
        within &= line != END;
    }
    if pem.is_empty() || within {
        return Err(IssuerError::Certificate {
            path: path.clone(),
            why: "there is no certificate in it".to_owned(),
        });
    }
    Ok(Some(pem))
}

fn rule(text: &mut String, expression: &str, message: &str) {
    text.push_str(&format!(
        "  - expression: {}\n    message: {}\n",
        quoted(expression),
        quoted(message)
    ));
}

/// JSON's strings are YAML's, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
