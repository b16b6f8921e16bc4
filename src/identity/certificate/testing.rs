//! Certificates for tests, by authorities whose keys are made of one number.

use std::path::Path;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Certificate, PrivateKey};

use crate::config::{Config, parse};
use crate::messages::Offer;

/// When certificates of tests begin, and end a day later.
pub(crate) const FROM: u64 = 1_798_761_600;

/// A key that is made of one number.
pub(crate) fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

/// Its public half as one line.
pub(crate) fn public(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

/// What a certificate of a test says; the rest is as `ssh-keygen -s` has it.
#[derive(Clone, Debug)]
pub(crate) struct Says {
    pub(crate) authority: u8,
    pub(crate) key: u8,
    pub(crate) kind: CertType,
    pub(crate) serial: u64,
    pub(crate) key_id: String,
    pub(crate) principals: Vec<String>,
    pub(crate) valid: (u64, u64),
    pub(crate) critical: Vec<(String, String)>,
    pub(crate) extensions: Vec<(String, String)>,
}

impl Says {
    /// The authority 1 certifies the key 9 for these principals.
    pub(crate) fn user(principals: &[&str]) -> Self {
        Self {
            authority: 1,
            key: 9,
            kind: CertType::User,
            serial: 7,
            key_id: "jane".to_owned(),
            principals: principals.iter().map(ToString::to_string).collect(),
            valid: (FROM, FROM + 86_400),
            critical: Vec::new(),
            extensions: ["permit-port-forwarding", "permit-pty"]
                .map(|name| (name.to_owned(), String::new()))
                .into(),
        }
    }

    pub(crate) fn critical(mut self, name: &str, value: &str) -> Self {
        self.critical.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn extension(mut self, name: &str, value: &str) -> Self {
        self.extensions.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn signed(&self) -> Certificate {
        let public = key(self.key).public_key().key_data().clone();
        let (after, before) = self.valid;
        let mut builder = Builder::new([5; 32], public, after, before).unwrap();
        builder.serial(self.serial).unwrap();
        builder.key_id(&*self.key_id).unwrap();
        builder.cert_type(self.kind).unwrap();
        if self.principals.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        for principal in &self.principals {
            builder.valid_principal(principal).unwrap();
        }
        for (name, value) in &self.critical {
            builder.critical_option(name, value).unwrap();
        }
        for (name, value) in &self.extensions {
            builder.extension(name, value).unwrap();
        }
        builder.sign(&key(self.authority)).unwrap()
    }
}

/// What a client sends with a certificate, when it asks for `login`.
pub(crate) fn offer(certificate: &Certificate, login: &str) -> Offer {
    let key = russh::keys::PublicKey::new(certificate.public_key().clone(), "");
    Offer {
        principal: login.to_owned(),
        public_key: key.to_openssh().unwrap(),
        certificate: Some(certificate.to_openssh().unwrap()),
        algorithm: key.algorithm().to_string(),
    }
}

/// A configuration in which the authority `corp` has the key 1, and the Identity `jane` no key at all.
pub(crate) fn config(corp: &str) -> Config {
    config_at(Path::new("f.yaml"), corp)
}

/// The same, with paths relative to that of `path`.
pub(crate) fn config_at(path: &Path, corp: &str) -> Config {
    parse(path, &documents(corp)).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(crate) fn documents(corp: &str) -> String {
    let doc = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        )
    };
    let kubernetes =
        "kubernetes: {clusters: [prod], serviceAccount: {namespace: v, name: '{identity}'}}";
    [
        doc(
            "Bastion",
            "main",
            "listen: '127.0.0.1:1', hostKeys: [h], stateDir: s",
        ),
        doc("Cluster", "prod", "inCluster: true"),
        doc("Identity", "jane", "groups: [sre], keys: []"),
        doc("Identity", "john", "keys: []"),
        doc(
            "CertificateAuthority",
            "corp",
            &format!("keys: ['{}'], {corp}", public(1)),
        ),
        doc("Role", "viewer", kubernetes),
        doc(
            "Binding",
            "sre",
            "subjects: [{group: sre}], roles: [viewer]",
        ),
    ]
    .concat()
}
