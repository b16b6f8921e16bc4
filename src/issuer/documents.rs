//! What an issuer publishes: where its keys are, and which.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::json;

use super::key::SigningKey;
use crate::config::IssuerSettings;

/// The two documents, each with the path that it has on the server that publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    discovery: (String, Bytes),
    jwks: (String, Bytes),
}

impl Documents {
    pub(super) fn new(settings: &IssuerSettings, keys: &[SigningKey]) -> Self {
        let by: BTreeSet<_> = keys.iter().map(|key| key.public().algorithm()).collect();
        let (discovery, jwks) = (settings.discovery(), settings.jwks());
        // What clients that ask for tokens would need is not there: nobody asks for one by HTTP.
        let document = json!({
            "issuer": settings.url,
            "jwks_uri": jwks,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": by,
        });
        let public: Vec<_> = keys.iter().map(SigningKey::public).collect();
        Self {
            discovery: (path(&discovery), Bytes::from(document.to_string())),
            jwks: (
                path(&jwks),
                Bytes::from(json!({ "keys": public }).to_string()),
            ),
        }
    }

    /// The document at this path, if there is one.
    pub fn at(&self, path: &str) -> Option<&Bytes> {
        self.each()
            .into_iter()
            .find_map(|(at, document)| (at == path).then_some(document))
    }

    /// Both: path, content (JSON).
    pub fn each(&self) -> [(&str, &Bytes); 2] {
        [&self.discovery, &self.jwks].map(|(path, document)| (path.as_str(), document))
    }
}

/// Of a URL that the configuration accepted.
fn path(url: &str) -> String {
    url.parse::<http::Uri>()
        .map(|url| url.path().to_owned())
        .unwrap_or_default()
}
