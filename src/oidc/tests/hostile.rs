//! A provider of our own on loopback that says whatever a test wants.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{HttpsListener, IdentityProvider};
use crate::https::{HttpsServer, Site};

/// What it answers at one path.
pub(super) type Answer = (StatusCode, Value);

/// What it says at present.
#[derive(Clone)]
pub(super) struct Hostile(Arc<Mutex<Says>>);

pub(super) struct Says {
    pub(super) issuer: String,
    pub(super) discovery: Value,
    pub(super) keys: Value,
    pub(super) token: Answer,
    pub(super) device: Answer,
    /// Everything is answered with a redirect to this.
    pub(super) elsewhere: Option<String>,
    /// Each path that was asked for.
    pub(super) asked: Vec<String>,
}

pub(super) struct Running {
    pub(super) provider: IdentityProvider,
    pub(super) key: Key,
    pub(super) says: Hostile,
    _directory: tempfile::TempDir,
    _stop: DropGuard,
}

impl Site for Hostile {
    const WHAT: &'static str = "a hostile provider";
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn answer(&self, _: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut says = self.0.lock().unwrap();
        let path = request.uri().path().to_owned();
        let (status, body) = match path.as_str() {
            "/.well-known/openid-configuration" => (StatusCode::OK, says.discovery.clone()),
            "/jwks" => (StatusCode::OK, says.keys.clone()),
            "/token" => says.token.clone(),
            "/device" => says.device.clone(),
            _ => (StatusCode::NOT_FOUND, Value::Null),
        };
        says.asked.push(path);
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(to) = &says.elsewhere {
            headers.insert(header::LOCATION, to.parse().unwrap());
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        }
        response
    }
}

impl Running {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = HttpsListener {
            address: "127.0.0.1:0".parse().unwrap(),
            certificate: directory.path().join("tls.crt"),
            key: directory.path().join("tls.key"),
        };
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&listener.certificate, made.cert.pem()).unwrap();
        let mut key = std::fs::OpenOptions::new();
        let mut key = key
            .write(true)
            .create(true)
            .mode(0o600)
            .open(&listener.key)
            .unwrap();
        std::io::Write::write_all(&mut key, made.signing_key.serialize_pem().as_bytes()).unwrap();
        let key = Key::new("one");
        let says = Hostile(Arc::new(Mutex::new(Says {
            issuer: String::new(),
            discovery: Value::Null,
            keys: json!({"keys": [key.public()]}),
            token: (StatusCode::OK, Value::Null),
            device: (StatusCode::OK, Value::Null),
            elsewhere: None,
            asked: Vec::new(),
        })));
        let server = HttpsServer::bind(&listener, says.clone()).await.unwrap();
        let issuer = format!("https://{}", server.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(stop.clone()));
        let config = super::configured("groupsClaim: groups");
        let provider = IdentityProvider {
            issuer: issuer.clone(),
            certificate_authority: Some(listener.certificate),
            ..config.providers[&super::name("corp")].clone()
        };
        let running = Self {
            provider,
            key,
            says,
            _directory: directory,
            _stop: stop.drop_guard(),
        };
        running.says(|says| {
            says.discovery = discovery(&issuer);
            says.issuer = issuer;
        });
        running
    }

    pub(super) fn says<T>(&self, change: impl FnOnce(&mut Says) -> T) -> T {
        change(&mut self.says.0.lock().unwrap())
    }

    /// What a good token says, for that nonce.
    pub(super) fn claims(&self, nonce: &str) -> Value {
        let now = super::now().as_second();
        json!({
            "iss": self.provider.issuer, "aud": "b", "sub": "jane", "nonce": nonce,
            "iat": now, "exp": now + 60, "groups": ["sre", "/not/a group"],
        })
    }

    /// From now on it answers codes with this token.
    pub(super) fn gives(&self, token: &str) {
        let tokens =
            json!({"access_token": "of-no-use", "token_type": "Bearer", "id_token": token});
        self.says(|says| says.token = (StatusCode::OK, tokens));
    }
}

pub(super) fn discovery(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "device_authorization_endpoint": format!("{issuer}/device"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        // Whatever it claims to sign by: what is accepted is ours to say.
        "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
    })
}

/// What tokens are signed by.
pub(super) struct Key {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl Key {
    pub(super) fn new(id: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair, id }
    }

    pub(super) fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        })
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let head = json!({"alg": "ES256", "kid": self.id});
        let signed = unsigned(&head, claims);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

pub(super) fn unsigned(head: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(head), part(claims))
}

/// By the secret that daemon and provider share.
pub(super) fn by_secret(secret: &[u8], claims: &Value) -> String {
    let signed = unsigned(&json!({"alg": "HS256"}), claims);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}
