//! An API server that answers as a test says, and a grant to ask it with.

use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::api_server::ApiServer;
use crate::config::{self, Config, Name, SessionKind};
use crate::identity::identify;
use crate::messages::{Offer, Peer};
use crate::policy::{self, Grant};

pub(super) const SERVER: &str = "https://prod.example:6443/";
pub(super) const SECRETS: &str = "/api/v1/namespaces/bastion-viewer/secrets";
pub(super) const TOKEN: &str = "/api/v1/namespaces/bastion-viewer/serviceaccounts/viewer/token";

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) agent: String,
    pub(super) body: Value,
}

/// What comes back.
pub(super) enum Reply {
    Json(u16, Value),
    /// Not even JSON in full.
    Text(u16, &'static str),
    /// The connection is reset.
    Reset,
}

/// A conversation: every request in order.
pub(super) type Log = Arc<Mutex<Vec<Asked>>>;

/// An API server under the name of `prod`.
pub(super) fn api_server(
    mut answer: impl FnMut(&Asked) -> Reply + Send + 'static,
) -> (ApiServer, Log) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let written = log.clone();
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            let asked = read(request).await;
            written.lock().unwrap().push(asked.clone());
            match answer(&asked) {
                Reply::Json(status, body) => {
                    respond.send_response(response(status, body.to_string()))
                }
                Reply::Text(status, body) => {
                    respond.send_response(response(status, body.to_owned()))
                }
                Reply::Reset => {
                    respond.send_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
                }
            }
        }
    });
    let client = kube::Client::new(service, "default");
    (ApiServer::new("prod", SERVER.to_owned(), client), log)
}

/// Says yes to everything, as Kubernetes would.
pub(super) fn yes(asked: &Asked) -> Reply {
    match (&asked.method, asked.path.as_str()) {
        (&Method::POST, SECRETS) => {
            let mut made = asked.body.clone();
            made["metadata"]["uid"] = json!("the-uid");
            Reply::Json(201, made)
        }
        (&Method::POST, TOKEN) => token("the-jti", "2030-01-01T00:15:00Z"),
        (&Method::DELETE, _) => Reply::Json(200, json!({"kind": "Status", "status": "Success"})),
        (&Method::GET, "/version") => Reply::Json(200, json!({})),
        _ => Reply::Json(500, json!({})),
    }
}

pub(super) fn token(jti: &str, expires: &str) -> Reply {
    Reply::Json(
        201,
        json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": "viewer"},
            "spec": {"audiences": ["api"], "expirationSeconds": 900},
            "status": {"token": jwt(&json!({"jti": jti})), "expirationTimestamp": expires},
        }),
    )
}

pub(super) fn jwt(payload: &Value) -> String {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        encode("{}"),
        encode(&payload.to_string()),
        encode("signature")
    )
}

pub(super) fn refusal(code: u16, reason: &str) -> Reply {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": format!("said {reason}"), "code": code,
    });
    Reply::Json(code, status)
}

fn response(status: u16, body: String) -> Response<Body> {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("audit-id", "the-audit-id")
        .body(Body::from(body.into_bytes()))
        .unwrap()
}

async fn read(request: Request<Body>) -> Asked {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Asked {
        method: parts.method,
        path: parts.uri.to_string(),
        agent: parts.headers["user-agent"].to_str().unwrap().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

/// One identity, one role, one cluster.
pub(super) fn config() -> Config {
    let text = format!(
        r#"
apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {{name: main}}
spec: {{listen: "127.0.0.1:2222", advertise: "bastion.example.com:22", hostKeys: [host], stateDir: state}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: prod}}
spec: {{kubeconfig: prod.kubeconfig}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator-a}}
spec: {{keys: ["{KEY}"]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: viewer}}
spec:
  kubernetes: {{clusters: [prod], serviceAccount: {{namespace: bastion-viewer, name: viewer}}}}
  credentialTtl: 15m
  maxSession: 8h
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: viewers}}
spec: {{subjects: [{{identity: operator-a}}], roles: [viewer]}}
"#
    );
    config::parse(Path::new("/etc/bastion-audit/config.yaml"), &text)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// The viewer role for operator-a on prod.
pub(super) fn grant(now: jiff::Timestamp) -> Grant {
    let config = config();
    let offer = Offer {
        principal: "viewer".into(),
        public_key: KEY.into(),
        certificate: None,
        algorithm: "ssh-ed25519".into(),
    };
    let peer = Peer {
        address: "127.0.0.1:50000".parse().unwrap(),
        client: String::new(),
    };
    let identity = identify(&config, &offer, &peer, now).unwrap();
    let request = policy::Request {
        principal: "viewer".into(),
        kind: SessionKind::Exec,
    };
    let circumstances = policy::Circumstances {
        now,
        from: peer.address.ip(),
        open: &[],
    };
    policy::decide(&config, &identity, &request, circumstances)
        .unwrap_or_else(|denial| panic!("{denial}"))
}

pub(super) fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}
