//! What a client asks, understood as the API server will understand it; or refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};

use super::bodies::{Capture, Keep};
use super::front::Violation;
use super::headers::refuse;
use super::marks::{dry_run, marks};
use super::request_info::{RequestInfo, canonical, query};
use super::session::{Admission, ApiSession};
use super::status::Sorry;
use super::streams::{Ask, StreamKind, wants_upgrade};
use crate::recording::requests::{Intent, MAX_KEPT, Mark};

/// What the API server takes. CONNECT and TRACE are about proxies.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];
/// From a request to its answer's head, where it is not in the request's nature to wait. The API server's own limit is
/// a minute unless it was told otherwise.
const PATIENCE: Duration = Duration::from_secs(300);
/// For a small body to come whole, once its head has.
const BODY: Duration = Duration::from_secs(30);

/// A request that may be forwarded.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) info: RequestInfo,
    pub(super) audit_id: String,
    pub(super) body: AskedBody,
    /// Of an exec, attach or port-forward.
    pub(super) stream: Option<Ask>,
}

/// What a request carries.
pub(super) enum AskedBody {
    /// All of it is here, and what is kept of it in the intent.
    Here(Bytes),
    /// It is looked at while it passes.
    Passing(Incoming, Option<Capture>),
    /// Every piece of it is on record before it passes.
    InFull(Incoming),
}

impl Asked {
    /// What is asked, or why not; and what goes on record of it in either case.
    pub(super) async fn understand(
        session: &Arc<ApiSession>,
        admission: &Admission,
        request: Request<Incoming>,
    ) -> (Result<Self, Sorry>, Intent) {
        let (parts, body) = request.into_parts();
        let mut intent = unread(&parts);
        let asked = read(session, admission, parts, body, &mut intent).await;
        if asked.is_err() {
            intent.marks.push(Mark::Refused);
        }
        (asked, intent)
    }

    /// Of what was no request.
    pub(super) fn none(violation: Violation) -> (Result<Self, Sorry>, Intent) {
        let status = match violation {
            Violation::HeadTooLong | Violation::TooManyFields => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            _ => StatusCode::BAD_REQUEST,
        };
        let intent = Intent {
            marks: vec![Mark::Refused],
            ..Intent::default()
        };
        (Err(Sorry::new(status, violation.to_string())), intent)
    }

    /// How long its answer may take to begin; `None` where it is in its nature to wait.
    pub(super) fn patience(&self) -> Option<Duration> {
        let waits = self.info.summary().verb == "watch"
            || matches!(self.info.summary().subresource.as_str(), "log" | "proxy");
        (!waits).then_some(PATIENCE)
    }
}

/// What a request says before anybody has made sense of it.
fn unread(parts: &Parts) -> Intent {
    Intent {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        user_agent: parts
            .headers
            .get(header::USER_AGENT)
            .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
        ..Intent::default()
    }
}

async fn read(
    session: &Arc<ApiSession>,
    admission: &Admission,
    parts: Parts,
    body: Incoming,
    intent: &mut Intent,
) -> Result<Asked, Sorry> {
    let audit_id = audit_id()?;
    intent.audit_id.clone_from(&audit_id);
    admit(admission, &parts.headers)?;
    let path = address(&parts)?;
    canonical(path.path()).map_err(|error| Sorry::bad(error.to_string()))?;
    let query = query(path.query()).map_err(|error| Sorry::bad(error.to_string()))?;
    let info = RequestInfo::parse(&parts.method, path.path(), &query);
    intent.info = info.summary().clone();
    let has_body = !body.is_end_stream();
    intent.dry_run = dry_run(&info, &query, has_body);
    intent.marks = marks(&parts.method, &info, &query, has_body);
    intent.query.clone_from(&query);
    refuse(&parts.headers)?;
    let stream = stream(&parts, &info, &query, &body)?;
    intent.protocol = stream.as_ref().map(|ask| ask.protocol().to_owned());
    let body = match stream {
        // It has none.
        Some(_) => AskedBody::Here(Bytes::new()),
        None => take(session, &parts.headers, &info, body, intent).await?,
    };
    Ok(Asked {
        method: parts.method,
        path,
        headers: parts.headers,
        info,
        audit_id,
        body,
        stream,
    })
}

/// Whether a request may be answered at all.
pub(super) fn admit(admission: &Admission, headers: &HeaderMap) -> Result<(), Sorry> {
    let Admission::Bearer(known) = admission else {
        return Ok(());
    };
    let mut said = headers.get_all(header::AUTHORIZATION).iter();
    let bearer = match (said.next(), said.next()) {
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer ")),
        _ => None,
    };
    if bearer.is_some_and(|bearer| known(bearer)) {
        return Ok(());
    }
    Err(Sorry::new(
        StatusCode::UNAUTHORIZED,
        "this kubeconfig is not for whoever holds this tunnel, or it was replaced: write a new one with `ssh BASTION bastion kubeconfig`",
    ))
}

/// The path and query, where nothing else is said of the address.
fn address(parts: &Parts) -> Result<PathAndQuery, Sorry> {
    if !METHODS.contains(&parts.method) {
        let message = format!("{} is not passed on", parts.method);
        return Err(Sorry::new(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let absolute = parts.uri.scheme().is_some() || parts.uri.authority().is_some();
    if absolute && parts.version != Version::HTTP_2 {
        return Err(Sorry::bad("this is no forward proxy: send the path alone"));
    }
    parts
        .uri
        .path_and_query()
        .cloned()
        .ok_or_else(|| Sorry::bad("the request has no path"))
}

/// What opens a stream, understood; every other way out of HTTP is refused.
fn stream(
    parts: &Parts,
    info: &RequestInfo,
    query: &[(String, String)],
    body: &Incoming,
) -> Result<Option<Ask>, Sorry> {
    if !wants_upgrade(&parts.headers) {
        return Ok(None);
    }
    let summary = info.summary();
    let kind = StreamKind::of(&summary.subresource).filter(|_| {
        let pod = summary.is_resource && summary.api_group.is_empty() && summary.resource == "pods";
        pod && !summary.name.is_empty() && !summary.namespace.is_empty()
    });
    let Some(kind) = kind else {
        return Err(Sorry::new(
            StatusCode::FORBIDDEN,
            "only exec, attach and port-forward of a pod may change the protocol: anything else could not be recorded",
        ));
    };
    if !body.is_end_stream() {
        return Err(Sorry::bad("a request that opens a stream has no body"));
    }
    Ask::parse(kind, &parts.method, parts.version, &parts.headers, query)
        .map(Some)
        .map_err(|refused| Sorry::new(refused.status(), refused.to_string()))
}

/// Takes a body that is small and kept, so that it is in the intent; any other is looked at while it passes.
async fn take(
    session: &Arc<ApiSession>,
    headers: &HeaderMap,
    info: &RequestInfo,
    body: Incoming,
    intent: &mut Intent,
) -> Result<AskedBody, Sorry> {
    if body.is_end_stream() {
        return Ok(AskedBody::Here(Bytes::new()));
    }
    let content_type = headers.get(header::CONTENT_TYPE);
    let capture = match Keep::of(session.parts().bodies, info, content_type) {
        Keep::Nothing => None,
        Keep::InFull => return Ok(AskedBody::InFull(body)),
        Keep::Beginning(capture) => Some(capture),
    };
    let small = body
        .size_hint()
        .exact()
        .is_some_and(|size| size <= MAX_KEPT as u64);
    match capture {
        Some(mut capture) if small => {
            let bytes = whole(session, body).await?;
            capture.feed(&bytes);
            let kept = capture.finish();
            intent.body = kept.body;
            intent.dry_run |= kept.marks.contains(&Mark::DryRun);
            intent.marks.extend(kept.marks);
            Ok(AskedBody::Here(bytes))
        }
        capture => Ok(AskedBody::Passing(body, capture)),
    }
}

/// A body of at most [`MAX_KEPT`], in time.
async fn whole(session: &ApiSession, body: Incoming) -> Result<Bytes, Sorry> {
    let read = async {
        let _reading = session.reading().await;
        Limited::new(body, MAX_KEPT).collect().await
    };
    match tokio::time::timeout(BODY, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(_)) => Err(Sorry::bad("the request's body did not come whole")),
        Err(_) => Err(Sorry::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request's body did not come in time",
        )),
    }
}

/// A random UUID (RFC 9562, version 4), as the API server makes them.
pub(super) fn audit_id() -> Result<String, Sorry> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Sorry::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no randomness"))?;
    let random = u128::from_be_bytes(bytes);
    let versioned = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{versioned:032x}");
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    Ok(format!("{a}-{b}-{c}-{d}-{e}"))
}
