//! Tokens and documents, held against each other by other code than that which made them.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{self, Config, IssuerKey, Name};
use crate::session::SessionId;

mod listener;
mod signers;

const NOW: &str = "2030-01-01T00:00:00.9Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A directory with keys `one` and `two`.
fn keys() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        create_key(&directory.path().join(name), Algorithm::Es256).unwrap();
    }
    directory
}

fn settings(directory: &Path, signing: &[&str]) -> IssuerSettings {
    IssuerSettings {
        url: "https://bastion.example.com:8443/b".into(),
        discovery_url: None,
        certificate_authority: None,
        signing_keys: signing
            .iter()
            .map(|name| IssuerKey::File(directory.join(name)))
            .collect(),
        token_ttl: CredentialTtl::from_secs(300).unwrap(),
        listener: None,
    }
}

fn issuer(directory: &Path, signing: &[&str]) -> Issuer {
    Issuer::open(&settings(directory, signing)).unwrap()
}

fn claims<'a>(identity: &'a Name, groups: Vec<&'a str>) -> Claims<'a> {
    Claims {
        audience: "prod",
        identity,
        groups,
        session: SessionId::new(now()),
    }
}

/// As sessions have it, from a thread without a runtime.
fn sign(issuer: &Issuer, claims: &Claims<'_>, at: Timestamp) -> Result<Signed, IssuerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(issuer.sign(claims, at))
}

fn document(issuer: &Issuer, path: &str) -> Value {
    serde_json::from_slice(issuer.documents().at(path).unwrap()).unwrap()
}

fn decoded(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).unwrap()
}

/// The claims of a token whose signature is by the published key that its header names.
fn verified(token: &str, jwks: &Value) -> Value {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decoded(header)).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!(header["alg"], key["alg"]);
    let number = |name: &str| decoded(key[name].as_str().unwrap());
    let (message, signature) = (message.as_bytes(), decoded(signature));
    match key["alg"].as_str().unwrap() {
        "ES256" => {
            let point = [vec![4], number("x"), number("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, &signature)
                .unwrap();
        }
        "RS256" => {
            let (n, e) = (number("n"), number("e"));
            RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature)
                .unwrap();
        }
        other => panic!("{other}"),
    }
    serde_json::from_slice(&decoded(payload)).unwrap()
}

#[test]
fn a_token_says_who_for_whom_and_until_when_and_nothing_else() {
    let keys = keys();
    let issuer = issuer(keys.path(), &["one"]);
    let name = Name::new("operator-a").unwrap();
    let claims = claims(&name, vec!["sre"]);
    let session = claims.session;
    let signed = sign(&issuer, &claims, now()).unwrap();
    let said = verified(
        signed.credential.expose(),
        &document(&issuer, "/b/jwks.json"),
    );
    let begins = now().as_second();
    assert_eq!(
        said,
        json!({
            "iss": "https://bastion.example.com:8443/b", "aud": "prod", "sub": "operator-a", "groups": ["sre"],
            "sid": session, "jti": signed.jti, "iat": begins, "nbf": begins, "exp": begins + 300,
        })
    );
    assert_eq!(signed.expires.as_second(), begins + 300);
    assert!(!format!("{signed:?}").contains("eyJ"), "{signed:?}");
}

#[test]
fn the_documents_lead_to_the_keys() {
    let keys = keys();
    let mut settings = settings(keys.path(), &["two", "one"]);
    let published = Issuer::open(&settings).unwrap();
    let discovery = document(&published, "/b/.well-known/openid-configuration");
    assert_eq!(discovery["issuer"], "https://bastion.example.com:8443/b");
    let jwks = "https://bastion.example.com:8443/b/jwks.json";
    assert_eq!(discovery["jwks_uri"], jwks);
    let listed = document(&published, "/b/jwks.json");
    assert_eq!(listed["keys"][0]["kid"], published.key_id());
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert!(
        !listed.to_string().contains("\"d\""),
        "a private half: {listed}"
    );
    for other in ["/", "/b", "/jwks.json", "/b/jwks.json/", "/b/.well-known/"] {
        assert_eq!(published.documents().at(other), None, "{other}");
    }

    settings.discovery_url =
        Some("https://keys.example.com/x/.well-known/openid-configuration".into());
    let published = Issuer::open(&settings).unwrap();
    let discovery = document(&published, "/x/.well-known/openid-configuration");
    assert_eq!(discovery["issuer"], "https://bastion.example.com:8443/b");
    assert_eq!(
        discovery["jwks_uri"],
        "https://keys.example.com/x/jwks.json"
    );
    assert!(published.documents().at("/x/jwks.json").is_some());
}

#[test]
fn another_key_signs_what_was_published_before_it_did() {
    let keys = keys();
    let before = issuer(keys.path(), &["one", "two"]);
    let after = issuer(keys.path(), &["two", "one"]);
    let name = Name::new("operator-a").unwrap();
    let published = document(&before, "/b/jwks.json");
    let old = sign(&before, &claims(&name, vec![]), now()).unwrap();
    let new = sign(&after, &claims(&name, vec![]), now()).unwrap();
    // Who has read the keys before the change takes both, and so does who reads them after.
    for jwks in [&published, &document(&after, "/b/jwks.json")] {
        verified(old.credential.expose(), jwks);
        verified(new.credential.expose(), jwks);
    }
    assert_ne!(before.key_id(), after.key_id());
}

#[test]
fn a_key_is_the_daemons_alone_and_is_never_printed() {
    use std::os::unix::fs::PermissionsExt as _;
    let keys = keys();
    let path = keys.path().join("one");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{text}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What is there is left alone.
    assert!(create_key(&path, Algorithm::Es256).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let opened = issuer(keys.path(), &["one"]);
    assert!(!format!("{opened:?}").contains("PRIVATE"), "{opened:?}");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Issuer::open(&settings(keys.path(), &["one"])).unwrap_err();
    assert!(refused.to_string().contains("chmod o="), "{refused}");
    let twice = Issuer::open(&settings(keys.path(), &["two", "two"])).unwrap_err();
    assert!(matches!(twice, IssuerError::Twice { .. }), "{twice}");
    let other = keys.path().join("other");
    std::fs::write(
        &other,
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = Issuer::open(&settings(keys.path(), &["other"])).unwrap_err();
    assert!(matches!(refused, IssuerError::NotAKey { .. }), "{refused}");
    assert!(!refused.to_string().contains("c2VjcmV0"), "{refused}");
}

#[test]
fn a_configuration_that_cannot_be_taken_up_changes_nothing() {
    let keys = keys();
    let issuing = Issuing::default();
    assert!(issuing.issuer().is_none());
    issuing
        .update(Some(&settings(keys.path(), &["one"])))
        .unwrap();
    let first = issuing.issuer().unwrap().key_id().to_owned();
    assert!(
        issuing
            .update(Some(&settings(keys.path(), &["gone"])))
            .is_err()
    );
    assert_eq!(issuing.issuer().unwrap().key_id(), first);
    issuing
        .update(Some(&settings(keys.path(), &["two", "one"])))
        .unwrap();
    assert_ne!(issuing.issuer().unwrap().key_id(), first);
    issuing.update(None).unwrap();
    assert!(issuing.issuer().is_none());
}

/// Two clusters that mint so, one that does not, and bindings that give some of the roles.
fn documents(certificate_authority: &str) -> Config {
    let text = format!(
        "{BASTION}{certificate_authority}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: prod}}
spec: {{kubeconfig: k, mint: oidcIssuer}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: dev}}
spec: {{kubeconfig: k, mint: oidcIssuer, audience: 'https://dev.example.com'}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: old}}
spec: {{kubeconfig: k}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator-a}}
spec: {{groups: [sre], keys: []}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: viewer}}
spec: {{kubernetes: {{clusters: [prod, dev, old], groups: [viewers, staff], serviceAccount: {{namespace: ns, name: v}}}}}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: editor}}
spec: {{kubernetes: {{clusters: [prod, dev], groups: [editors], overrides: [{{clusters: [dev], groups: ['dev:editors']}}]}}}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: nobodys}}
spec: {{kubernetes: {{clusters: [prod], groups: [admins]}}}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: all}}
spec: {{subjects: [{{group: sre}}], roles: [viewer]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: dev}}
spec: {{subjects: [{{group: sre}}], roles: [editor], clusters: [dev]}}
"
    );
    config::parse(Path::new("/etc/b/all.yaml"), &text)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

const BASTION: &str = "apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {name: main}
spec:
  listen: 127.0.0.1:2222
  hostKeys: [host]
  stateDir: state
  issuer:
    url: https://bastion.example.com:8443
    signingKeys: [one]
";

#[test]
fn an_api_server_is_told_exactly_what_bindings_can_give() {
    let config = documents("");
    let name = |name: &str| Name::new(name).unwrap();
    let groups = |cluster: &str| {
        groups_of(&config, &name(cluster))
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(groups("prod"), ["staff", "viewers"]);
    assert_eq!(groups("dev"), ["dev:editors", "staff", "viewers"]);
    assert!(groups("old").is_empty());
    let written = authentication_config(&config, &name("dev")).unwrap();
    assert_eq!(written, include_str!("authentication-dev.yaml"));
    for (cluster, sentence) in [
        ("old", "does not mint by oidcIssuer"),
        ("none", "does not mint"),
    ] {
        let refused = authentication_config(&config, &name(cluster)).unwrap_err();
        assert!(refused.to_string().contains(sentence), "{refused}");
    }
}

#[test]
fn of_the_authoritys_file_only_certificates_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let config = documents(&format!("    certificateAuthority: {}\n", path.display()));
    let written = || authentication_config(&config, &Name::new("prod").unwrap());
    assert!(matches!(written(), Err(IssuerError::Io { .. })));
    let certificate = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    std::fs::write(&path, key).unwrap();
    assert!(matches!(written(), Err(IssuerError::Certificate { .. })));
    std::fs::write(&path, format!("about it\n{certificate}{key}{certificate}")).unwrap();
    let text = written().unwrap();
    let block = "    certificateAuthority: |\n      -----BEGIN CERTIFICATE-----\n      QUJD\n      -----END CERTIFICATE-----\n      -----BEGIN";
    assert!(text.contains(block), "{text}");
    assert!(
        !text.contains("c2VjcmV0") && !text.contains("about it"),
        "{text}"
    );
}

proptest! {
    #[test]
    fn whatever_is_claimed_is_bounded_and_has_an_id_of_its_own(
        name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        groups in proptest::collection::vec("[a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,40}", 0..8),
        seconds in 0_i64..4_000_000_000,
        ttl in 120_u32..=600,
    ) {
        let directory = keys_once();
        let settings = IssuerSettings {
            token_ttl: CredentialTtl::from_secs(ttl).unwrap(),
            ..settings(directory, &["one"])
        };
        let issuer = Issuer::open(&settings).unwrap();
        let name = Name::new(&name).unwrap();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let at = Timestamp::from_second(seconds).unwrap();
        let one = sign(&issuer, &claims(&name, groups.clone()), at).unwrap();
        let other = sign(&issuer, &claims(&name, groups.clone()), at).unwrap();
        let said = verified(one.credential.expose(), &document(&issuer, "/b/jwks.json"));
        prop_assert_eq!(&said["sub"], name.as_str());
        prop_assert_eq!(&said["groups"], &json!(groups));
        let number = |name: &str| said[name].as_i64().unwrap();
        prop_assert_eq!(number("nbf"), seconds);
        prop_assert_eq!(number("exp") - number("nbf"), i64::from(ttl));
        prop_assert_eq!(one.expires.as_second(), number("exp"));
        prop_assert_eq!(said["jti"].as_str().unwrap().len(), 32);
        prop_assert_ne!(one.jti, other.jti);
    }
}

/// Made once: a property is tried often.
fn keys_once() -> &'static Path {
    static KEYS: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| keys().keep())
}
