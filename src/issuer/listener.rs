//! Serves the issuer's documents over TLS, and nothing else: two paths.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::Issuing;
use crate::https::{HttpsServer, Site};

/// Serves the documents.
pub type DocumentServer = HttpsServer<Issuing>;

impl Site for Issuing {
    const WHAT: &'static str = "the issuer's documents";
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn answer(&self, _from: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        respond(request.method(), request.uri().path(), self)
    }
}

fn respond(method: &Method, path: &str, issuing: &Issuing) -> Response<Full<Bytes>> {
    let issuer = issuing.issuer();
    let document = issuer
        .as_ref()
        .and_then(|issuer| issuer.documents().at(path));
    let (status, body) = match (document, method) {
        (None, _) => (StatusCode::NOT_FOUND, Bytes::new()),
        (Some(document), &Method::GET | &Method::HEAD) => (StatusCode::OK, document.clone()),
        (Some(_), _) => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    match status {
        StatusCode::OK => {
            set(header::CONTENT_TYPE, "application/json");
            // API servers look for a key that they do not know no sooner than what they have may be forgotten.
            set(header::CACHE_CONTROL, "no-store");
        }
        StatusCode::METHOD_NOT_ALLOWED => set(header::ALLOW, "GET, HEAD"),
        _ => {}
    }
    response
}
