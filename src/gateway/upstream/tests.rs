//! Connections to an API server that counts them.

use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock;
use crate::gateway::answer::whole;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nyes\r\n0\r\n\r\n";
const ENDLESS: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";

/// A server that does `serve` with each connection, which it is told the number of.
async fn server<F, S>(serve: F) -> (Upstream, Arc<AtomicUsize>)
where
    F: Fn(usize, TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = Upstream::new(&kube::Config::new(url.parse().unwrap())).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::spawn(serve(number, stream));
        }
    });
    (upstream, connections)
}

/// Answers every request by the same bytes.
async fn answers(mut stream: TcpStream, answer: &[u8]) {
    while request(&mut stream).await.is_some() {
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

async fn ask(upstream: &Upstream) -> Result<Response<Arriving>, AskError> {
    let mut request = Request::new(whole(bytes::Bytes::new()));
    *request.uri_mut() = upstream
        .uri(&PathAndQuery::from_static("/api?limit=1"))
        .unwrap();
    request.headers_mut().insert("host", upstream.host());
    upstream.ask(request).await
}

async fn text(answer: Response<Arriving>) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Until what is on its way has come.
async fn a_moment() {
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    for (answer, expected) in [(ANSWER, "ok"), (CHUNKED, "okyes")] {
        let (upstream, connections) = server(move |_, stream| answers(stream, answer)).await;
        for _ in 0..20 {
            assert_eq!(text(ask(&upstream).await.unwrap()).await, expected);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn an_answer_without_a_body_frees_its_connection_at_once() {
    let nothing = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (upstream, connections) = server(move |_, stream| answers(stream, nothing)).await;
    for _ in 0..5 {
        let answer = ask(&upstream).await.unwrap();
        assert_eq!(answer.status(), 204);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_at_the_same_time_have_connections_of_their_own() {
    let (upstream, connections) = server(|_, stream| answers(stream, ENDLESS)).await;
    let (one, two) = (ask(&upstream).await.unwrap(), ask(&upstream).await.unwrap());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    for answer in [one, two] {
        let frame = answer.into_body().frame().await.unwrap().unwrap();
        assert_eq!(&frame.into_data().unwrap()[..], b"ok");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_closes_its_connection() {
    let (gone, mut is_gone) = tokio::sync::mpsc::channel(1);
    let (upstream, connections) = server(move |_, mut stream| {
        let gone = gone.clone();
        async move {
            request(&mut stream).await.unwrap();
            stream.write_all(ENDLESS).await.unwrap();
            assert_eq!(request(&mut stream).await, None);
            gone.send(()).await.unwrap();
        }
    })
    .await;
    drop(ask(&upstream).await.unwrap());
    is_gone.recv().await.unwrap();
    drop(ask(&upstream).await.unwrap());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_the_server_closed_is_not_used_again() {
    let (upstream, connections) = server(|_, mut stream| async move {
        request(&mut stream).await.unwrap();
        stream.write_all(ANSWER).await.unwrap();
    })
    .await;
    for asked in 1..=3 {
        assert_eq!(text(ask(&upstream).await.unwrap()).await, "ok");
        assert_eq!(connections.load(Ordering::SeqCst), asked);
        a_moment().await;
    }
}

#[tokio::test]
async fn a_server_that_breaks_off_is_not_asked_again() {
    let (upstream, connections) = server(|_, mut stream| async move {
        request(&mut stream).await.unwrap();
    })
    .await;
    let error = ask(&upstream).await.map(drop).unwrap_err();
    assert!(matches!(error, AskError::Broken(_)), "{error:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_one_that_breaks_off() {
    let upstream = Upstream::new(&kube::Config::new("http://127.0.0.1:1".parse().unwrap()));
    let error = ask(&upstream.unwrap()).await.map(drop).unwrap_err();
    assert!(matches!(error, AskError::Connect(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_rest_for_long_are_closed() {
    let (gone, mut is_gone) = tokio::sync::mpsc::channel(1);
    let (upstream, _) = server(move |_, stream| {
        let gone = gone.clone();
        async move {
            answers(stream, ANSWER).await;
            gone.send(()).await.unwrap();
        }
    })
    .await;
    let began = clock::monotonic();
    assert_eq!(text(ask(&upstream).await.unwrap()).await, "ok");
    is_gone.recv().await.unwrap();
    let rested = began.elapsed().as_secs();
    assert!((60..=80).contains(&rested), "{rested} s");
}

#[tokio::test]
async fn the_path_alone_is_sent() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let (upstream, _) = server(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(request(&mut stream).await.unwrap())
                .await
                .unwrap();
            stream.write_all(ANSWER).await.unwrap();
        }
    })
    .await;
    assert_eq!(text(ask(&upstream).await.unwrap()).await, "ok");
    let head = told.recv().await.unwrap();
    assert!(head.starts_with("GET /api?limit=1 HTTP/1.1\r\n"), "{head}");
}
