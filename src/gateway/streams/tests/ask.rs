//! What opens a stream, and what does not.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use crate::gateway::streams::{Agreed, Ask, Refused, StreamKind, wants_upgrade};
use crate::gateway::websocket::Subprotocol;

const WEBSOCKET: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", "v5.channel.k8s.io"),
];

const SPDY: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ("x-stream-protocol-version", "v3.channel.k8s.io"),
];

fn headers(all: &[&[(&'static str, &'static str)]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in all.concat() {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
}

fn ask(kind: StreamKind, method: Method, headers: &HeaderMap) -> Result<Ask, Refused> {
    assert!(wants_upgrade(headers), "{headers:?}");
    let query = [
        ("command", "sh"),
        ("container", ""),
        ("command", "-c"),
        ("tty", "1"),
        ("command", "a b"),
    ];
    let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ask::parse(kind, &method, Version::HTTP_11, headers, &query)
}

#[test]
fn what_is_asked_for_is_in_the_query_and_nowhere_else() {
    for (method, how) in [(Method::GET, WEBSOCKET), (Method::POST, SPDY)] {
        let plain = ask(StreamKind::Exec, method.clone(), &headers(&[how])).unwrap();
        assert_eq!(plain.command, ["sh", "-c", "a b"]);
        assert!(plain.tty && plain.container.is_none());
        let claims: &[(&str, &str)] = &[
            ("kubectl-command", "kubectl cp"),
            ("kubectl-session", "none"),
            ("user-agent", "kubectl/v1.36 (tar)"),
        ];
        let claiming = ask(StreamKind::Exec, method.clone(), &headers(&[how, claims]));
        assert_eq!(claiming, Ok(plain));
        // An attach has no command, whatever its query says.
        let attach = ask(StreamKind::Attach, method, &headers(&[how])).unwrap();
        assert!(attach.command.is_empty());
    }
}

#[test]
fn what_is_no_opening_is_refused() {
    let exec = |method: Method, all: &[&[(&'static str, &'static str)]]| {
        ask(StreamKind::Exec, method, &headers(all)).map(drop)
    };
    let upgrade = |to| [("connection", "Upgrade"), ("upgrade", to)];
    let channels = "v4.channel.k8s.io";
    for (refused, expected) in [
        (exec(Method::POST, &[WEBSOCKET]), Refused::Method),
        (exec(Method::PUT, &[SPDY]), Refused::Method),
        (exec(Method::GET, &[&upgrade("h2c")]), Refused::Upgrade),
        (exec(Method::POST, &[&upgrade("SPDY/2")]), Refused::Upgrade),
        (
            exec(Method::POST, &[&upgrade("SPDY/3.1")]),
            Refused::StreamProtocol { spoken: channels },
        ),
        (
            exec(
                Method::POST,
                &[
                    &upgrade("SPDY/3.1"),
                    &[("x-stream-protocol-version", "v3.channel.k8s.io")],
                ],
            ),
            Refused::StreamProtocol { spoken: channels },
        ),
        (
            exec(Method::GET, &[&[("upgrade", "websocket")]]),
            Refused::NoUpgrade,
        ),
        (
            exec(Method::GET, &[&[("connection", "upgrade")]]),
            Refused::NoUpgrade,
        ),
        (
            exec(Method::POST, &[SPDY, &[("upgrade", "websocket")]]),
            Refused::NoUpgrade,
        ),
        (
            exec(Method::POST, &[SPDY, &[("content-length", "1")]]),
            Refused::Body,
        ),
        (
            exec(Method::POST, &[SPDY, &[("transfer-encoding", "chunked")]]),
            Refused::Body,
        ),
    ] {
        assert_eq!(refused, Err(expected));
    }
    let http2 = Ask::parse(
        StreamKind::Exec,
        &Method::GET,
        Version::HTTP_2,
        &headers(&[WEBSOCKET]),
        &[],
    );
    assert_eq!(http2, Err(Refused::NoUpgrade));
    assert_eq!(Refused::Method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(Refused::UpstreamProtocol.status(), StatusCode::BAD_GATEWAY);
}

/// Nobody's port-forward over channels, nobody's exec over a port-forward.
#[test]
fn each_kind_of_stream_has_its_own_protocols() {
    let tunnel: &[(&str, &str)] = &[("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")];
    let mut over_websocket = headers(&[WEBSOCKET]);
    let of_channels = ask(StreamKind::PortForward, Method::GET, &over_websocket);
    assert!(
        matches!(of_channels, Err(Refused::Handshake(_))),
        "{of_channels:?}"
    );
    over_websocket.extend(headers(&[tunnel]));
    let forward = ask(StreamKind::PortForward, Method::GET, &over_websocket).unwrap();
    assert_eq!(forward.protocol(), "SPDY/3.1+portforward.k8s.io");
    let exec = ask(StreamKind::Exec, Method::GET, &over_websocket).map(drop);
    assert!(matches!(exec, Err(Refused::Handshake(_))), "{exec:?}");
    let of_exec = ask(StreamKind::PortForward, Method::POST, &headers(&[SPDY]));
    let spoken = "portforward.k8s.io";
    assert_eq!(of_exec, Err(Refused::StreamProtocol { spoken }));
}

#[test]
fn an_answer_in_another_protocol_than_was_asked_for_is_refused() {
    let exec = ask(StreamKind::Exec, Method::POST, &headers(&[SPDY])).unwrap();
    let opening = exec.upstream().unwrap();
    let sent = opening.headers();
    assert_eq!(sent["x-stream-protocol-version"], "v4.channel.k8s.io");
    let answer = |all: &[(&'static str, &'static str)]| opening.answered(&headers(&[all]));
    let agreed = [
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ];
    assert_eq!(answer(&agreed), Ok(Agreed::SpdyChannels));
    for lie in [
        &agreed[..1],
        &agreed[1..],
        &[
            ("upgrade", "websocket"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ],
        &[
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ],
        &[
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "portforward.k8s.io"),
        ],
    ] {
        assert_eq!(answer(lie), Err(Refused::UpstreamProtocol), "{lie:?}");
    }
    let channels = exec.answer(Agreed::Channels(Subprotocol::V5));
    assert_eq!(channels, Err(Refused::UpstreamProtocol));
}
