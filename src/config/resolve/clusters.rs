//! Clusters: how the daemon reaches each, and how operators are known there.

use std::collections::BTreeMap;

use super::{Documents, document_path};
use crate::config::cluster::{Cluster, ClusterAccess, ClusterServer, Mint};
use crate::config::impersonation::Impersonation;
use crate::config::model::Name;
use crate::config::problem::Place;
use crate::config::raw::{Document, Kind, RawCluster, RawMint, Spec};

/// What people are called if nothing else is said: as by an issuer of ours.
const USERNAME: &str = "ssh:{identity}";
const GROUP_PREFIX: &str = "ssh:";

impl Documents<'_> {
    pub(super) fn clusters(&self) -> BTreeMap<Name, Cluster> {
        let mut clusters = BTreeMap::new();
        for document in self.of(Kind::Cluster) {
            let Some(Spec::Cluster(spec)) = &document.spec else {
                continue;
            };
            let mint = self.mint(document, spec);
            let Some(access) = self.cluster_access(document, spec, &mint) else {
                continue;
            };
            let name = document.name.value.clone();
            let cluster = Cluster {
                name: name.clone(),
                labels: document.labels.clone(),
                access,
                mint,
            };
            clusters.insert(name, cluster);
        }
        clusters
    }

    fn cluster_access(
        &self,
        document: &Document,
        spec: &RawCluster,
        mint: &Mint,
    ) -> Option<ClusterAccess> {
        match (&spec.kubeconfig, &spec.in_cluster, &spec.server) {
            (Some(path), None, None) => Some(ClusterAccess::Kubeconfig(document_path(
                document,
                &path.value,
            ))),
            (None, Some(at), None) if at.value => Some(ClusterAccess::InCluster),
            (None, None, Some(server)) => {
                let raw = &server.value;
                let renew = raw.renew_token.as_ref().filter(|at| at.value);
                let nobody = matches!(mint, Mint::OidcIssuer { .. });
                match (&raw.token_file, renew) {
                    (None, _) if !nobody => self.report(
                        &server.at,
                        format!(
                            "minting by {} needs a credential of the daemon's own: name its 'tokenFile'",
                            mint.as_str()
                        ),
                    ),
                    (Some(file), _) if nobody => self.report(
                        &file.at,
                        "where the daemon signs credentials itself it needs none of its own: leave 'tokenFile' out",
                    ),
                    (None, Some(renew)) => {
                        self.report(&renew.at, "there is no token to be renewed: name its 'tokenFile'");
                    }
                    _ => {}
                }
                Some(ClusterAccess::Server(ClusterServer {
                    url: raw.url.as_ref()?.value.clone(),
                    certificate_authority: document_path(
                        document,
                        &raw.certificate_authority.as_ref()?.value,
                    ),
                    token_file: raw
                        .token_file
                        .as_ref()
                        .map(|at| document_path(document, &at.value)),
                    renew_token: renew.is_some(),
                }))
            }
            _ => None,
        }
    }

    fn mint(&self, document: &Document, spec: &RawCluster) -> Mint {
        let chosen = spec.mint.as_ref();
        let mint = chosen.map_or(RawMint::TokenRequest, |at| at.value);
        let idle = |at: &Place, what: &str| self.report(at, what);
        if let Some(audience) = spec
            .audience
            .as_ref()
            .filter(|_| mint != RawMint::OidcIssuer)
        {
            idle(
                &audience.at,
                "an audience is named in tokens of our own only: leave it out, or mint by oidcIssuer",
            );
        }
        if let Some(named) = spec
            .impersonation
            .as_ref()
            .filter(|_| mint != RawMint::Impersonation)
        {
            idle(
                &named.at,
                "nobody is impersonated here: leave 'impersonation' out, or write mint: impersonation",
            );
        }
        match mint {
            RawMint::TokenRequest => Mint::TokenRequest,
            RawMint::OidcIssuer => {
                if let Some(at) = chosen.map(|at| &at.at).filter(|_| !self.has_issuer()) {
                    self.report(
                        at,
                        "minting by oidcIssuer needs an issuer: write spec.issuer of the Bastion",
                    );
                }
                let own = || document.name.value.to_string();
                Mint::OidcIssuer {
                    audience: spec
                        .audience
                        .as_ref()
                        .map_or_else(own, |at| at.value.clone()),
                }
            }
            RawMint::Impersonation => {
                let raw = spec.impersonation.as_ref().map(|at| &at.value);
                let text = |at: Option<&crate::config::problem::At<String>>, default: &str| {
                    at.map_or_else(|| default.to_owned(), |at| at.value.clone())
                };
                Mint::Impersonation(Impersonation::new(
                    text(raw.and_then(|raw| raw.username.as_ref()), USERNAME),
                    text(raw.and_then(|raw| raw.group_prefix.as_ref()), GROUP_PREFIX),
                    raw.and_then(|raw| raw.legacy.as_ref())
                        .is_some_and(|at| at.value),
                ))
            }
        }
    }
}
