//! The connections of a port-forward.

use bytes::Bytes;

use crate::gateway::spdy::Headers;
use crate::gateway::streams::broken::{Broken, Peer};
use crate::gateway::streams::forwards::Forwards;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers::new(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()))),
    )
}

fn stream<'a>(kind: &'a str, port: &'a str, id: &'a str) -> [(&'a str, &'a str); 3] {
    [("streamtype", kind), ("port", port), ("requestid", id)]
}

#[test]
fn a_connection_is_two_streams_and_counted_by_itself() {
    let mut forwards = Forwards::default();
    for (id, port) in [("0", "80"), ("1", "443")] {
        let first = 1 + 4 * id.parse::<u32>().unwrap();
        for (at, kind) in [(first, "error"), (first + 2, "data")] {
            let passed = forwards.opened(at, &headers(&stream(kind, port, id)));
            assert_eq!(passed.unwrap(), headers(&stream(kind, port, id)));
        }
    }
    for (from, at, bytes) in [
        (Peer::Client, 3, &b"ask"[..]),
        (Peer::Client, 7, b"question"),
        (Peer::Upstream, 3, b"answer"),
        (Peer::Upstream, 5, b"no such port"),
        (Peer::Upstream, 99, b"nobody's"),
    ] {
        forwards.data(from, at, bytes).unwrap();
    }
    assert!(forwards.ended(1).is_none(), "its data goes on");
    let first = forwards.ended(3).unwrap();
    assert_eq!(
        (
            first.port,
            first.connection,
            first.bytes_in,
            first.bytes_out
        ),
        (80, 0, 3, 6)
    );
    let rest = forwards.rest();
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].port, rest[0].bytes_in), (443, 8));
    assert_eq!(rest[0].error.as_deref(), Some("no such port"));
    assert_eq!((forwards.bytes_in, forwards.bytes_out), (11, 6));
}

#[test]
fn what_was_not_understood_is_not_opened() {
    for lie in [
        &[("port", "80"), ("requestid", "0")][..],
        &stream("stdin", "80", "0"),
        &stream("data", "0", "0"),
        &stream("data", "65536", "0"),
        &stream("data", "+80", "0"),
        &stream("data", "", "0"),
        &stream("data", "80", ""),
        &stream("data", "80", "a b"),
        &stream("data", "80", &"1".repeat(65)),
    ] {
        let opened = Forwards::default().opened(1, &headers(lie));
        let refused = matches!(opened, Err(Broken::UnknownStream { from: Peer::Client }));
        assert!(refused, "{lie:?}");
    }
    let mut forwards = Forwards::default();
    let data = headers(&stream("data", "80", "0"));
    forwards.opened(1, &data).unwrap();
    assert!(forwards.opened(3, &data).is_err(), "twice");
}

#[test]
fn headers_of_nothing_known_stay_here() {
    let said = [&stream("data", "80", "0")[..], &[("x-more", "words")]].concat();
    let passed = Forwards::default().opened(1, &headers(&said)).unwrap();
    assert_eq!(passed, headers(&stream("data", "80", "0")));
}

/// Its complaints are the pod's; a client has none.
#[test]
fn a_client_says_nothing_on_the_error_stream() {
    let mut forwards = Forwards::default();
    let error = headers(&stream("error", "80", "0"));
    forwards.opened(1, &error).unwrap();
    forwards.data(Peer::Client, 1, b"").unwrap();
    let said = forwards.data(Peer::Client, 1, b"x");
    assert!(matches!(said, Err(Broken::WrongWay { .. })), "{said:?}");
    for _ in 0..100 {
        forwards.data(Peer::Upstream, 1, &[b'x'; 100]).unwrap();
    }
    let complaint = forwards.rest().remove(0).error.unwrap();
    assert_eq!(complaint.len(), 1024, "nothing grows without end");
}
