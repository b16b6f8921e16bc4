//! `spec` of a Cluster.

use super::path;
use crate::config::fields::{Fields, boolean, parsed};
use crate::config::impersonation;
use crate::config::problem::{At, Gathered};
use crate::config::scalar;
use crate::config::yaml::Node;

#[derive(Debug)]
pub(in crate::config) struct RawCluster {
    pub(in crate::config) kubeconfig: Option<At<String>>,
    pub(in crate::config) in_cluster: Option<At<bool>>,
    pub(in crate::config) server: Option<At<RawServer>>,
    pub(in crate::config) mint: Option<At<RawMint>>,
    pub(in crate::config) audience: Option<At<String>>,
    pub(in crate::config) impersonation: Option<At<RawImpersonation>>,
}

/// `spec.server`: an API server without a kubeconfig.
#[derive(Debug)]
pub(in crate::config) struct RawServer {
    pub(in crate::config) url: Option<At<String>>,
    pub(in crate::config) certificate_authority: Option<At<String>>,
    pub(in crate::config) token_file: Option<At<String>>,
    pub(in crate::config) renew_token: Option<At<bool>>,
}

/// `spec.impersonation`.
#[derive(Debug)]
pub(in crate::config) struct RawImpersonation {
    pub(in crate::config) username: Option<At<String>>,
    pub(in crate::config) group_prefix: Option<At<String>>,
    pub(in crate::config) legacy: Option<At<bool>>,
}

/// `spec.mint`, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum RawMint {
    TokenRequest,
    OidcIssuer,
    Impersonation,
}

pub(in crate::config) fn cluster(gathered: &Gathered, node: &Node) -> Option<RawCluster> {
    let mut spec = Fields::open(gathered, node, "a Cluster's spec")?;
    let ways = ["kubeconfig", "inCluster", "server"].map(|key| spec.has(key));
    let raw = RawCluster {
        kubeconfig: spec.optional("kubeconfig", path),
        in_cluster: spec.optional("inCluster", boolean),
        server: spec.optional("server", server),
        mint: spec.optional("mint", |g, n| parsed(g, n, mint)),
        audience: spec.optional("audience", |g, n| parsed(g, n, scalar::audience)),
        impersonation: spec.optional("impersonation", impersonation),
    };
    spec.close();
    let refused = matches!(&raw.in_cluster, Some(at) if !at.value);
    if ways.iter().filter(|way| **way).count() != 1 || refused {
        gathered.report(
            &node.at,
            "a Cluster's spec needs one of 'kubeconfig: FILE', 'inCluster: true' and 'server: {url, certificateAuthority, tokenFile}'",
        );
    }
    Some(raw)
}

fn server(gathered: &Gathered, node: &Node) -> Option<RawServer> {
    let mut fields = Fields::open(gathered, node, "'server'")?;
    let raw = RawServer {
        url: fields.required("url", |g, n| parsed(g, n, server_url)),
        // Those that web sites have know nothing of API servers.
        certificate_authority: fields.required("certificateAuthority", path),
        token_file: fields.optional("tokenFile", path),
        renew_token: fields.optional("renewToken", boolean),
    };
    fields.close();
    Some(raw)
}

fn server_url(text: &str) -> Result<String, String> {
    match scalar::https_url(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "'{}' is not an API server's URL: https://HOST:PORT",
            text.escape_debug()
        )),
    }
}

fn impersonation(gathered: &Gathered, node: &Node) -> Option<RawImpersonation> {
    let mut fields = Fields::open(gathered, node, "'impersonation'")?;
    let raw = RawImpersonation {
        username: fields.optional("username", |g, n| parsed(g, n, impersonation::username)),
        group_prefix: fields.optional("groupPrefix", |g, n| {
            parsed(g, n, impersonation::group_prefix)
        }),
        legacy: fields.optional("legacy", boolean),
    };
    fields.close();
    Some(raw)
}

fn mint(text: &str) -> Result<RawMint, String> {
    match text {
        "tokenRequest" => Ok(RawMint::TokenRequest),
        "oidcIssuer" => Ok(RawMint::OidcIssuer),
        "impersonation" => Ok(RawMint::Impersonation),
        other => Err(format!(
            "'{}' is not a way to mint: tokenRequest, oidcIssuer or impersonation",
            other.escape_debug()
        )),
    }
}
