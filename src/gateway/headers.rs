//! What of a message's headers is for us, and what is passed on.

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};

use super::status::Sorry;

/// Headers about one connection, not about the message (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What only we say to an API server; and `Expect`, which is between the client and us.
const OURS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    HeaderName::from_static("audit-id"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// Refuses what would have another act: to leave it out would do something else than was asked.
pub(super) fn refuse(headers: &HeaderMap) -> Result<(), Sorry> {
    for name in headers.keys() {
        let name = name.as_str();
        if name.starts_with("impersonate-") {
            return Err(Sorry::new(
                http::StatusCode::FORBIDDEN,
                format!(
                    "{name}: a session acts as its own role only; log in under another role (--as is not for sessions)"
                ),
            ));
        }
        if name.starts_with("x-remote-") {
            return Err(Sorry::new(
                http::StatusCode::FORBIDDEN,
                format!("{name} is for the API server's own front proxies"),
            ));
        }
    }
    Ok(())
}

/// What of a request's headers goes on to the API server.
pub(super) fn onward(headers: &HeaderMap) -> HeaderMap {
    let mut onward = headers.clone();
    strip_hop_by_hop(&mut onward);
    for name in &OURS {
        onward.remove(name);
    }
    // The opening handshake of a stream is made anew.
    let handshake =
        |name: &str| name.starts_with("sec-websocket-") || name == "x-stream-protocol-version";
    let stale: Vec<HeaderName> = onward
        .keys()
        .filter(|name| handshake(name.as_str()))
        .cloned()
        .collect();
    for name in stale {
        onward.remove(name);
    }
    onward
}

/// Takes out what is about the connection that a message came by.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        if let Entry::Occupied(entry) = headers.entry(name) {
            drop(entry.remove_entry_mult().1.collect::<Vec<HeaderValue>>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn what_a_client_must_not_say_stays_here() {
        let said = headers(&[
            ("authorization", "Bearer mine"),
            ("audit-id", "mine"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, x-secret"),
            ("keep-alive", "5"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "AA=="),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("host", "elsewhere"),
            ("expect", "100-continue"),
            ("accept", "application/json"),
            ("kubectl-command", "kubectl get"),
        ]);
        let onward = onward(&said);
        let mut names: Vec<_> = onward.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "kubectl-command"]);
    }

    #[test]
    fn who_would_act_as_another_is_told_so() {
        for name in [
            "impersonate-user",
            "impersonate-group",
            "impersonate-uid",
            "impersonate-extra-scopes",
            "x-remote-user",
            "x-remote-group",
            "x-remote-extra-a",
        ] {
            let sorry = refuse(&headers(&[("accept", "*/*"), (name, "admin")])).unwrap_err();
            assert_eq!(sorry.status, http::StatusCode::FORBIDDEN);
            assert!(sorry.message.starts_with(name), "{}", sorry.message);
        }
        assert!(refuse(&headers(&[("accept", "*/*")])).is_ok());
    }
}
