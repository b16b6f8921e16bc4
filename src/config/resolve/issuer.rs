//! The issuer, and the clusters that trust it.

use std::collections::BTreeMap;

use super::{Documents, document_path};
use crate::config::cluster::{Cluster, Mint};
use crate::config::issuer::{HttpsListener, IssuerKey, IssuerSettings, WELL_KNOWN};
use crate::config::model::{CredentialTtl, Name};
use crate::config::problem::At;
use crate::config::raw::{Document, Kind, RawBastion, RawIssuer, RawIssuerKey, Spec};

const DEFAULT_TTL_SECONDS: u32 = 5 * 60;

impl Documents<'_> {
    /// What is signed for one cluster must be worth nothing on another.
    pub(super) fn audiences_differ(&self, clusters: &BTreeMap<Name, Cluster>) {
        let mut first: BTreeMap<&str, &Name> = BTreeMap::new();
        for cluster in clusters.values() {
            let Mint::OidcIssuer { audience } = &cluster.mint else {
                continue;
            };
            let Some(other) = first.insert(audience, &cluster.name) else {
                continue;
            };
            if let Some(document) = self.get(Kind::Cluster, &cluster.name) {
                self.report(
                    &document.at,
                    format!(
                        "the clusters '{other}' and '{}' have the same audience, '{audience}', so a token for one would be good on the other; give them two",
                        cluster.name
                    ),
                );
            }
        }
    }

    pub(super) fn has_issuer(&self) -> bool {
        self.of(Kind::Bastion).any(
            |document| matches!(&document.spec, Some(Spec::Bastion(spec)) if spec.issuer.is_some()),
        )
    }

    pub(super) fn issuer(&self, document: &Document, spec: &RawBastion) -> Option<IssuerSettings> {
        let RawIssuer {
            url,
            discovery_url,
            certificate_authority,
            signing_keys,
            token_ttl,
            listen,
            certificate,
            key,
        } = &spec.issuer.as_ref()?.value;
        let path = |at: &At<String>| document_path(document, &at.value);
        let url = &url.as_ref()?.value;
        if let Some(discovery) = discovery_url
            && discovery.value == format!("{url}{WELL_KNOWN}")
        {
            self.report(
                &discovery.at,
                "this is where the document is looked for anyway; leave 'discoveryUrl' out",
            );
        }
        let listener = match (listen, certificate, key) {
            (Some(listen), Some(certificate), Some(key)) => Some(HttpsListener {
                address: listen.value,
                certificate: path(certificate),
                key: path(key),
            }),
            _ => None,
        };
        Some(IssuerSettings {
            url: url.clone(),
            discovery_url: discovery_url.as_ref().map(|at| at.value.clone()),
            certificate_authority: certificate_authority.as_ref().map(path),
            signing_keys: self.signing_keys(document, signing_keys.as_ref()?),
            token_ttl: match token_ttl {
                Some(at) => at.value,
                None => CredentialTtl::from_secs(DEFAULT_TTL_SECONDS).ok()?,
            },
            listener,
        })
    }

    fn signing_keys(
        &self,
        document: &Document,
        listed: &At<Vec<At<RawIssuerKey>>>,
    ) -> Vec<IssuerKey> {
        if listed.value.is_empty() {
            self.report(
                &listed.at,
                "an issuer needs a signing key; make one with: bastion-audit issuer new-key FILE",
            );
        }
        let mut keys: Vec<IssuerKey> = Vec::new();
        for entry in &listed.value {
            let key = match &entry.value {
                RawIssuerKey::File(path) => IssuerKey::File(document_path(document, path)),
                RawIssuerKey::Socket { socket, public_key } => IssuerKey::Socket {
                    socket: document_path(document, socket),
                    public_key: public_key.clone(),
                },
            };
            if keys.iter().any(|other| other.path() == key.path()) {
                let (RawIssuerKey::File(path) | RawIssuerKey::Socket { socket: path, .. }) =
                    &entry.value;
                self.report(
                    &entry.at,
                    format!("'{path}' is here a second time; remove it"),
                );
            } else {
                keys.push(key);
            }
        }
        keys
    }
}
