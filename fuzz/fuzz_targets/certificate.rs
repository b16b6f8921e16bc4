//! A certificate is whatever a client sends, and what is in one whatever its authority signs: nobody is proven by anything else,
//! and by that only whom the authority may speak for.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{self, Config};
use bastion_audit::identity::certificate::{CertificateFacts, read};
use bastion_audit::identity::identify;
use bastion_audit::messages::{Offer, Peer};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Certificate, PrivateKey, PublicKey};

static AUTHORITY: LazyLock<PrivateKey> =
    LazyLock::new(|| Ed25519Keypair::from_seed(&[1; 32]).into());

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let key = AUTHORITY.public_key().to_openssh().expect("a key");
    let text = include_str!("certificate.yaml").replace("AUTHORITY", &key);
    config::parse(Path::new("fuzz.yaml"), &text).expect("a valid configuration")
});

type Named = (String, String);

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<String>, String, u64, bool, Vec<Named>, Vec<Named>)| {
    let (bytes, principals, key_id, serial, host, critical, extensions) = input;
    let text = format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(bytes));
    if let Ok(certificate) = read(&text) {
        // What a fuzzer makes up is signed by nobody.
        assert!(!proves(&certificate, &principals));
    }
    if let Some(certificate) = signed(&principals, &key_id, serial, host, &critical, &extensions) {
        let told = CertificateFacts::of(&CONFIG, &certificate);
        assert!(told.to_string().chars().all(|c| !c.is_control()), "{told:?}");
        let proven = proves(&certificate, &principals);
        let bad = host
            || principals.is_empty()
            || critical.iter().any(|(name, _)| name != "source-address");
        assert!(!(proven && bad), "{certificate:?}");
    }
});

fn signed(
    principals: &[String],
    key_id: &str,
    serial: u64,
    host: bool,
    critical: &[Named],
    extensions: &[Named],
) -> Option<Certificate> {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[9; 32]));
    let mut builder = Builder::new([5; 32], key.public_key().key_data().clone(), 0, u64::MAX).ok()?;
    builder.serial(serial).ok()?.key_id(key_id).ok()?;
    builder.cert_type(if host { CertType::Host } else { CertType::User }).ok()?;
    if principals.is_empty() {
        builder.all_principals_valid().ok()?;
    }
    for principal in principals {
        builder.valid_principal(principal).ok()?;
    }
    for (name, value) in critical {
        builder.critical_option(name, value).ok()?;
    }
    for (name, value) in extensions {
        builder.extension(name, value).ok()?;
    }
    builder.sign(&*AUTHORITY).ok()
}

fn proves(certificate: &Certificate, principals: &[String]) -> bool {
    let key = PublicKey::new(certificate.public_key().clone(), "");
    let (Ok(public_key), Ok(text)) = (key.to_openssh(), certificate.to_openssh()) else {
        return false;
    };
    let offer = Offer {
        principal: principals.first().cloned().unwrap_or_default(),
        public_key,
        certificate: Some(text),
        algorithm: key.algorithm().to_string(),
    };
    let peer = Peer { address: "192.0.2.7:1".parse().expect("an address"), client: String::new() };
    let Ok(identity) = identify(&CONFIG, &offer, &peer, SystemClock.now()) else { return false };
    let name = identity.name().as_str();
    let listed = name == "jane" && principals.iter().any(|principal| principal == "jane");
    assert!(listed || name.starts_with("corp--"), "{name}");
    for group in identity.groups() {
        let own = group.as_str().starts_with("ca/corp:");
        assert!(own || (listed && group.as_str() == "sre"), "{group}");
    }
    true
}
