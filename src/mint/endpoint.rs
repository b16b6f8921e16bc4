//! An API server as a client sees it: no secrets.

use base64::Engine as _;
use serde_json::{Value, json};

/// Where an API server is and how it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    ca_pem: Option<String>,
    tls_server_name: Option<String>,
}

impl Endpoint {
    pub(super) fn of(config: &kube::Config) -> Self {
        Self {
            url: config
                .cluster_url
                .to_string()
                .trim_end_matches('/')
                .to_owned(),
            ca_pem: config
                .root_cert
                .as_ref()
                .map(|certificates| pem(certificates)),
            tls_server_name: config.tls_server_name.clone(),
        }
    }

    /// The `cluster` of a kubeconfig that leads there.
    pub fn kubeconfig_cluster(&self) -> Value {
        let mut cluster = json!({ "server": self.url });
        if let Some(fields) = cluster.as_object_mut() {
            if let Some(pem) = &self.ca_pem {
                let data = base64::engine::general_purpose::STANDARD.encode(pem);
                fields.insert("certificate-authority-data".into(), data.into());
            }
            if let Some(name) = &self.tls_server_name {
                fields.insert("tls-server-name".into(), name.clone().into());
            }
        }
        cluster
    }
}

/// RFC 7468, 64 characters a line.
fn pem(certificates: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in certificates {
        let data = base64::engine::general_purpose::STANDARD.encode(der);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in data.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}
