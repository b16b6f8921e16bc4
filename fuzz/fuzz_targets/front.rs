//! A connection of HTTP/1.1 is whatever a client sends. What the guard approves is the same however it comes in pieces, and
//! the HTTP library behind it sees those requests that the guard saw, each from the same byte on: neither one more nor
//! another.
#![no_main]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bastion_audit::gateway::front::{Framing, Violation};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = approved(bytes, usize::MAX);
    let pieces = approved(bytes, usize::from(piece).max(1));
    assert_eq!(whole.bytes, pieces.bytes);
    assert_eq!(whole.violation.is_some(), pieces.violation.is_some());
    assert!(bytes.starts_with(&whole.bytes));

    let heads = approved(bytes, 1).heads;
    for (nth, seen) in hyper_sees(&whole.bytes).iter().enumerate() {
        assert_eq!(heads.get(nth), Some(seen), "{:?}", String::from_utf8_lossy(bytes));
    }
});

struct Approved {
    bytes: Vec<u8>,
    /// Method and target of each request, as far as they were approved by themselves: only in pieces of one byte.
    heads: Vec<String>,
    violation: Option<Violation>,
}

fn approved(bytes: &[u8], piece: usize) -> Approved {
    let (mut framing, mut input, mut out) = (Framing::default(), BytesMut::new(), BytesMut::new());
    let mut heads = Vec::new();
    for part in bytes.chunks(piece.min(bytes.len()).max(1)) {
        input.extend_from_slice(part);
        let (was_head, before) = (framing.in_head(), out.len());
        loop {
            if let Err(violation) = framing.approve(&mut input, &mut out) {
                return Approved { bytes: out.to_vec(), heads, violation: Some(violation) };
            }
            // Nobody here agrees to leave HTTP.
            if !framing.waits() {
                break;
            }
            framing.answered(false);
        }
        if was_head && out.len() > before {
            heads.push(request_line(&out[before..]));
        }
    }
    Approved { bytes: out.to_vec(), heads, violation: None }
}

/// Method and target of a head, the target as [`http::Uri`] writes it.
fn request_line(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let target = target.parse().map_or_else(|_| target.to_owned(), |uri: http::Uri| uri.to_string());
    format!("{method} {target}")
}

/// The requests that the library makes of it.
fn hyper_sees(bytes: &[u8]) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let of_service = Arc::clone(&seen);
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let seen = Arc::clone(&of_service);
        async move {
            let said = format!("{} {}", request.method(), request.uri());
            seen.lock().unwrap().push(said);
            drop(request.into_body().collect().await);
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let serving = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(Connection(bytes.to_vec(), 0)), service);
    drop(runtime.block_on(serving));
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// These bytes, and an end; whatever is written is lost.
struct Connection(Vec<u8>, usize);

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let rest = &self.0[self.1..];
        let take = rest.len().min(to.remaining());
        to.put_slice(&rest[..take]);
        self.1 += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
