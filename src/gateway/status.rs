//! What the gateway itself has to say, as the API server would: `Status` objects (`metav1.Status`), which kubectl
//! prints well.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

/// A refusal or a failure of the gateway's own, in a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sorry {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Sorry {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The answer to the client.
    pub(super) fn answer(&self) -> Response<Full<Bytes>> {
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": format!("bastion-audit: {}", self.message),
            "reason": reason(self.status),
            "code": self.status.as_u16(),
        });
        let mut answer = Response::new(Full::from(status.to_string()));
        *answer.status_mut() = self.status;
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

/// `metav1.StatusReason` of a status.
fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        // Reasons that Kubernetes has none for.
        _ => "",
    }
}
