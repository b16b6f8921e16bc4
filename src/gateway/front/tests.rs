use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::framing::{Framing, MAX_HEAD, Violation};
use super::guard::{Guard, Word};

const GET: &str = "GET /api HTTP/1.1\r\nHost: kubernetes\r\n\r\n";

/// What passes, piece by piece.
fn passes(pieces: &[&[u8]]) -> (Vec<u8>, Option<Violation>) {
    let (mut framing, mut input, mut approved) =
        (Framing::default(), BytesMut::new(), BytesMut::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        if let Err(violation) = framing.approve(&mut input, &mut approved) {
            return (approved.to_vec(), Some(violation));
        }
    }
    (approved.to_vec(), None)
}

fn refused(request: &str) -> Option<Violation> {
    let whole = passes(&[request.as_bytes()]);
    let bytes: Vec<&[u8]> = request.as_bytes().chunks(1).collect();
    // Frames split at every byte change nothing.
    assert_eq!(whole.1, passes(&bytes).1, "{request:?}");
    assert_eq!(whole.0, passes(&bytes).0, "{request:?}");
    whole.1
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /api HTTP/1.1\r\nHost: kubernetes\r\n{fields}\r\n{body}")
}

#[test]
fn what_is_unambiguous_passes_as_it_is() {
    for request in [
        GET.to_owned(),
        GET.repeat(3),
        post("Content-Length: 5\r\n", "hello") + GET,
        post("content-length: 0\r\n", "") + GET,
        post(
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
        ) + GET,
    ] {
        assert_eq!(refused(&request), None, "{request:?}");
        assert_eq!(passes(&[request.as_bytes()]).0, request.as_bytes());
    }
}

#[test]
fn two_opinions_on_a_requests_end_are_refused() {
    use Violation::*;
    for (request, violation) in [
        (
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            BothLengths,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
            BothLengths,
        ),
        (
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            Length,
        ),
        (post("Content-Length: 5, 5\r\n", "hello"), Length),
        (post("Content-Length: +5\r\n", "hello"), Length),
        (post("Content-Length: 0x5\r\n", "hello"), Length),
        (post("Content-Length: \r\n", "hello"), Length),
        (post("Content-Length: 99999999999999999999\r\n", ""), Length),
        (
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            Coding,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            Coding,
        ),
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), Coding),
        (
            post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
            Malformed,
        ),
        (post("X: a\r\n Transfer-Encoding: chunked\r\n", ""), Folded),
        (post("X: a\r\n\tb\r\n", ""), Folded),
        (
            post("X: a\nTransfer-Encoding: chunked\r\n", ""),
            StrayControl,
        ),
        (
            post("X: a\rTransfer-Encoding: chunked\r\n", ""),
            StrayControl,
        ),
        (post("X: a\0b\r\n", ""), StrayControl),
        (
            "GET /api HTTP/1.1\nHost: kubernetes\n\n".to_owned(),
            StrayControl,
        ),
        ("\r\n".to_owned() + GET, Malformed),
        (GET.replace("1.1", "1.0"), Malformed),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), Malformed),
        ("GET /api HTTP/1.1\r\n\r\n".to_owned(), Host),
        (
            "GET /api HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            Host,
        ),
        (
            post("Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n", ""),
            Malformed,
        ),
    ] {
        assert_eq!(refused(&request), Some(violation), "{request:?}");
        let passed = passes(&[request.as_bytes()]).0;
        assert!(passed.is_empty(), "{request:?}");
    }
}

#[test]
fn chunks_are_what_rfc_9112_says() {
    for body in [
        "5;ext=1\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "0\r\nTrailer: a\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", body);
        assert_eq!(refused(&request), Some(Violation::Chunk), "{body:?}");
    }
}

#[test]
fn a_head_has_its_limits() {
    let long = format!("X: {}\r\n", "a".repeat(MAX_HEAD));
    assert_eq!(refused(&post(&long, "")), Some(Violation::HeadTooLong));
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD));
    assert_eq!(refused(&endless), Some(Violation::HeadTooLong));
    assert_eq!(
        refused(&post(&"X: a\r\n".repeat(100), "")),
        Some(Violation::TooManyFields)
    );
    assert_eq!(refused(&post(&"X: a\r\n".repeat(99), "")), None);
}

#[test]
fn after_an_upgrade_nothing_passes_before_the_answer() {
    let ask = post("Upgrade: websocket\r\n", "");
    let mut framing = Framing::default();
    let (mut input, mut approved) = (BytesMut::from(ask.as_bytes()), BytesMut::new());
    input.extend_from_slice(b"\x82\x00");
    framing.approve(&mut input, &mut approved).unwrap();
    assert_eq!(
        (&approved[..], &input[..]),
        (ask.as_bytes(), &b"\x82\x00"[..])
    );
    assert!(framing.waits());
    framing.answered(true);
    framing.approve(&mut input, &mut approved).unwrap();
    assert!(approved.ends_with(b"\x82\x00"));

    // And if HTTP is not left, it is HTTP that must come.
    let (whole, violation) = passes(&[ask.as_bytes()]);
    assert_eq!((whole, violation), (ask.into_bytes(), None));
    framing = Framing::default();
    let mut input = BytesMut::from(post("Upgrade: websocket\r\n", "").as_bytes());
    framing.approve(&mut input, &mut approved).unwrap();
    framing.answered(false);
    let mut input = BytesMut::from(&b"\x82\x00\r\n\r\n"[..]);
    assert!(framing.approve(&mut input, &mut approved).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_gets_an_answer_and_the_next_request_is_not_read() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let word = Word::default();
    let mut guard = Guard::new(server, word.clone());
    let bad = post(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    );
    client.write_all(bad.as_bytes()).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut read = [0; 4096];
    let n = guard.read(&mut read).await.unwrap();
    assert!(read[..n].starts_with(b"REFUSED / "));
    assert_eq!(word.refused(), Some(Violation::BothLengths));
    let more = tokio::time::timeout(Duration::from_secs(60), guard.read(&mut read));
    assert!(more.await.is_err(), "nothing more is read");
}

#[tokio::test]
async fn a_body_that_goes_wrong_fails() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut guard = Guard::new(server, Word::default());
    let bad = post("Transfer-Encoding: chunked\r\n", "3\r\nabcX");
    client.write_all(bad.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let error = guard.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(all.ends_with(b"3\r\nabc"));
}

/// One connection of HTTP/1.1 in clear, answered by how a request was understood.
async fn answers(bytes: &[u8]) -> String {
    let (mut client, server) = tokio::io::duplex(1 << 22);
    let word = Word::default();
    let guard = Guard::new(server, word.clone());
    let answer = |request: Result<http::Request<hyper::body::Incoming>, Violation>| async move {
        let said = match request {
            Ok(request) => format!("<{}>", request.uri()),
            Err(violation) => format!("<{violation:?}>"),
        };
        http::Response::new(http_body_util::Full::<bytes::Bytes>::from(said))
    };
    let service = hyper::service::service_fn(move |request| {
        super::answer_http1(request, word.clone(), answer)
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(guard), service)
        .with_upgrades();
    let talk = async {
        client.write_all(bytes).await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        String::from_utf8(all).unwrap()
    };
    let (_, all) = tokio::join!(serving, talk);
    all
}

#[tokio::test]
async fn whoever_is_refused_is_told_why_once_the_others_are_answered() {
    let bad = post(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    );
    let said = answers((GET.to_owned() + &bad + GET).as_bytes()).await;
    assert!(
        said.contains("</api>") && said.ends_with("<BothLengths>"),
        "{said}"
    );
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    let said = answers(long.as_bytes()).await;
    assert!(said.ends_with("<HeadTooLong>"), "{said}");
    // The stand-in's like means nothing by itself.
    let said = answers(b"REFUSED / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(said.ends_with("</>"), "{said}");
}

#[tokio::test]
async fn bodies_pass_without_a_stop() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut guard = Guard::new(server, Word::default());
    let body = "x".repeat(300_000);
    let request = post("Content-Length: 300000\r\n", &body) + GET;
    let sent = request.clone();
    tokio::spawn(async move { client.write_all(sent.as_bytes()).await });
    let mut all = Vec::new();
    guard.read_to_end(&mut all).await.unwrap();
    assert!(all == request.as_bytes());
}

proptest! {
    /// However the bytes come, the same ones pass.
    #[test]
    fn pieces_make_no_difference(
        parts in proptest::collection::vec(0_usize..8, 1..6),
        cuts in proptest::collection::vec(1_usize..9, 1..40),
    ) {
        let known = [
            GET.to_owned(),
            post("Content-Length: 3\r\n", "abc"),
            post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"),
            "\r\n".to_owned(),
            "5\r\n".to_owned(),
            post("Upgrade: h2c\r\n", ""),
            "X: y\r\n\r\n".to_owned(),
        ];
        let all: String = parts.iter().map(|&part| known[part].as_str()).collect();
        let mut pieces = Vec::new();
        let mut rest = all.as_bytes();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(passes(&pieces), passes(&[all.as_bytes()]));
    }

    /// Noise never panics, and never passes as more than it is.
    #[test]
    fn noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let (passed, _) = passes(&[&bytes]);
        prop_assert!(bytes.starts_with(&passed));
    }
}
