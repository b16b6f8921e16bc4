//! The way of a request: understood, on record, forwarded with the session's credential, answered, on record again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::oneshot;

use super::acting::authorize;
use super::answer::{AnswerBody, Answering, BodyError, RequestBody, whole};
use super::asked::{Asked, AskedBody, admit};
use super::exchange::{Exchange, Upload, Uploading};
use super::front::Violation;
use super::headers::{onward, strip_hop_by_hop};
use super::session::{Admission, ApiSession};
use super::status::Sorry;
use super::streams::{Agreed, Ask, PodStream, StreamParts};
use super::upstream::{Arriving, AskError};
use crate::causes::causes;
use crate::recording::requests::{Note, RecordedBody, RequestNumber};

/// `Audit-ID`, by which our record and the API server's audit log are joined.
pub(super) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers a request, or says why there is no answer.
pub(super) async fn answer(
    session: Arc<ApiSession>,
    admission: Admission,
    request: Result<Request<Incoming>, Violation>,
) -> Response<AnswerBody> {
    // Before anything of it is read: what waits is counted too.
    let Some(place) = session.place() else {
        return own(&Sorry::new(
            StatusCode::TOO_MANY_REQUESTS,
            "this session has too many requests open at once; end some first",
        ));
    };
    let upgrade;
    let (asked, intent) = match request {
        Ok(mut request) => {
            upgrade = Some(hyper::upgrade::on(&mut request));
            Asked::understand(&session, &admission, request).await
        }
        Err(violation) => {
            upgrade = None;
            Asked::none(violation)
        }
    };
    // On a task of its own: a client that goes now leaves no intent without an outcome.
    let begin = {
        let session = Arc::clone(&session);
        async move { Exchange::begin(&session, place, intent).await }
    };
    let exchange = match session.tasks().spawn(begin).await {
        Ok(Ok(exchange)) => exchange,
        Ok(Err(sorry)) => return own(&sorry),
        Err(_) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return own(&Sorry::new(status, "the request could not be begun"));
        }
    };
    let mut asked = match asked {
        Ok(asked) => asked,
        Err(sorry) => return refused(exchange, &sorry),
    };
    match (asked.stream.take(), upgrade) {
        (Some(ask), Some(upgrade)) => stream(&session, asked, ask, upgrade, exchange).await,
        _ => match forward(&session, asked, &exchange).await {
            Ok(answer) => goes(answer, exchange),
            Err(sorry) => refused(exchange, &sorry),
        },
    }
}

/// By the API server.
fn goes(answer: Response<Arriving>, mut exchange: Exchange) -> Response<AnswerBody> {
    exchange.answered(answer.status());
    answer.map(|body| Answering::new(body, exchange).boxed_unsync())
}

/// By ourselves.
fn refused(exchange: Exchange, sorry: &Sorry) -> Response<AnswerBody> {
    exchange.refused(sorry);
    own(sorry)
}

/// Answers a request for which there is no session; whoever has no business here does not even learn why.
pub(super) fn refuse(
    sorry: &Sorry,
    admission: &Admission,
    request: Result<Request<Incoming>, Violation>,
) -> Response<AnswerBody> {
    match request.map(|request| admit(admission, request.headers())) {
        Ok(Ok(())) => own(sorry),
        Ok(Err(stranger)) => own(&stranger),
        Err(violation) => own(&Sorry::bad(violation.to_string())),
    }
}

async fn forward(
    session: &Arc<ApiSession>,
    asked: Asked,
    exchange: &Exchange,
) -> Result<Response<Arriving>, Sorry> {
    let patience = asked.patience();
    let request = onwards(session, asked, exchange).await?;
    let mut answer = ask(session, request, patience).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Sorry::new(
            StatusCode::BAD_GATEWAY,
            "the API server changed the protocol without being asked to",
        ));
    }
    strip_hop_by_hop(answer.headers_mut());
    Ok(answer)
}

/// Opens an exec, attach or port-forward on both sides, and leaves it to itself.
async fn stream(
    session: &Arc<ApiSession>,
    asked: Asked,
    ask_for: Ask,
    client: hyper::upgrade::OnUpgrade,
    exchange: Exchange,
) -> Response<AnswerBody> {
    let parts = StreamParts {
        session: session.parts().recording.clone(),
        request: exchange.number(),
        namespace: asked.info.summary().namespace.clone(),
        pod: asked.info.summary().name.clone(),
        over: session.over().clone(),
        unrecorded: session.parts().unrecorded.clone(),
    };
    let agreed = match agree(session, asked, &ask_for, &exchange).await {
        Ok(Agreement::Reached(agreed)) => agreed,
        Ok(Agreement::Declined(answer)) => return goes(answer, exchange),
        Err(sorry) => return refused(exchange, &sorry),
    };
    let AgreedUpon {
        agreed,
        headers,
        upstream,
    } = agreed;
    let (tell, opened) = oneshot::channel();
    // From here on whatever becomes of the client: what is opened is sealed.
    session.tasks().spawn(async move {
        let stream = PodStream::open(parts, &ask_for, agreed).await;
        let Ok(stream) = stream else {
            let sorry = Sorry::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this stream could not be recorded, so it was not opened, and the session ends",
            );
            drop(tell.send(refused(exchange, &sorry)));
            return;
        };
        let mut exchange = exchange;
        let _place = exchange.taken_over();
        let mut response = Response::new(whole(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        drop(tell.send(response));
        let client = async { client.await.map(hyper_util::rt::TokioIo::new) };
        let upstream = async { upstream.await.map(hyper_util::rt::TokioIo::new) };
        stream.run(client, upstream).await;
    });
    opened.await.unwrap_or_else(|_| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        own(&Sorry::new(status, "this stream could not be opened"))
    })
}

/// What the API server makes of a stream that is asked for.
enum Agreement {
    Reached(AgreedUpon),
    /// It answers like any other request.
    Declined(Response<Arriving>),
}

struct AgreedUpon {
    agreed: Agreed,
    /// Of the answer to the client.
    headers: http::HeaderMap,
    upstream: hyper::upgrade::OnUpgrade,
}

async fn agree(
    session: &Arc<ApiSession>,
    asked: Asked,
    ask_for: &Ask,
    exchange: &Exchange,
) -> Result<Agreement, Sorry> {
    let refused =
        |refused: super::streams::Refused| Sorry::new(refused.status(), refused.to_string());
    let opening = ask_for.upstream().map_err(refused)?;
    let mut request = onwards(session, asked, exchange).await?;
    request.headers_mut().extend(opening.headers().clone());
    let mut answer = ask(session, request, None).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(answer.headers_mut());
        return Ok(Agreement::Declined(answer));
    }
    let agreed = opening.answered(answer.headers()).map_err(refused)?;
    Ok(Agreement::Reached(AgreedUpon {
        agreed,
        headers: ask_for.answer(agreed).map_err(refused)?,
        upstream: hyper::upgrade::on(&mut answer),
    }))
}

/// The request to the API server: the client's, in the session's name.
async fn onwards(
    session: &Arc<ApiSession>,
    asked: Asked,
    exchange: &Exchange,
) -> Result<Request<RequestBody>, Sorry> {
    let broken = || Sorry::bad("the request cannot be passed on");
    let upstream = &session.parts().upstream;
    let mut headers = onward(&asked.headers);
    headers.insert(HOST, upstream.host());
    authorize(upstream, &session.acting(), &mut headers).await?;
    headers.insert(
        USER_AGENT,
        session
            .agent(asked.headers.get(USER_AGENT))
            .ok_or_else(broken)?,
    );
    headers.insert(
        AUDIT_ID,
        HeaderValue::from_str(&asked.audit_id).map_err(|_| broken())?,
    );
    let body = match asked.body {
        AskedBody::Here(bytes) => {
            exchange.upload().known(bytes.len());
            whole(bytes)
        }
        AskedBody::Passing(body, capture) => {
            if let Some(capture) = capture {
                exchange.upload().capture(capture);
            }
            Uploading::new(body, Arc::clone(exchange.upload())).boxed_unsync()
        }
        AskedBody::InFull(body) => recorded(session, exchange.number(), exchange.upload(), body),
    };
    let mut request = Request::new(body);
    *request.method_mut() = asked.method;
    *request.uri_mut() = upstream.uri(&asked.path).map_err(|_| broken())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// A body of which every piece is on record before it passes.
fn recorded(
    session: &Arc<ApiSession>,
    request: RequestNumber,
    upload: &Arc<Upload>,
    body: Incoming,
) -> RequestBody {
    let masking = session.parts().recording.body_masking();
    let state = (Arc::clone(session), Arc::clone(upload), body, masking);
    let pieces = futures_util::stream::unfold(
        state,
        move |(session, upload, mut body, mut masking)| async move {
            let frame = match body.frame().await? {
                Ok(frame) => frame,
                Err(error) => {
                    let error = Err(BodyError::from(error));
                    return Some((error, (session, upload, body, masking)));
                }
            };
            // Trailers mean nothing to what is proxied to.
            let data = frame.into_data().unwrap_or_default();
            upload.pass(&data);
            for piece in data.chunks(crate::recording::requests::MAX_KEPT) {
                let bytes = piece.len() as u64;
                let piece = match masking.next(piece) {
                    Some(masked) => RecordedBody::new(None, bytes, &masked, true),
                    None => RecordedBody::new(None, bytes, piece, false),
                };
                if let Err(error) = session
                    .parts()
                    .recording
                    .note(request, Note::Body(piece))
                    .await
                {
                    session.unrecorded(error);
                    let error = Err(BodyError::Unrecorded);
                    return Some((error, (session, upload, body, masking)));
                }
            }
            Some((Ok(Frame::data(data)), (session, upload, body, masking)))
        },
    );
    StreamBody::new(pieces).boxed_unsync()
}

/// Asks the API server, for no longer than `patience`.
async fn ask(
    session: &Arc<ApiSession>,
    request: Request<RequestBody>,
    patience: Option<Duration>,
) -> Result<Response<Arriving>, Sorry> {
    let asking = session.parts().upstream.ask(request);
    let answer = match patience {
        None => asking.await,
        Some(patience) => match tokio::time::timeout(patience, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                return Err(Sorry::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    format!(
                        "the cluster's API server did not answer within {} s",
                        patience.as_secs()
                    ),
                ));
            }
        },
    };
    answer.map_err(|error| {
        tracing::warn!(session = %session.parts().session, cluster = %session.parts().cluster, "{}", causes(&error));
        if matches!(error, AskError::Connect(_)) {
            Sorry::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the cluster's API server cannot be reached; tell your administrator if this lasts",
            )
        } else {
            Sorry::new(
                StatusCode::BAD_GATEWAY,
                "the cluster's API server broke off before it answered; whether it did what was asked is not known",
            )
        }
    })
}

fn own(sorry: &Sorry) -> Response<AnswerBody> {
    sorry.answer().map(|body: Full<Bytes>| {
        body.map_err(|never: Infallible| match never {})
            .boxed_unsync()
    })
}
