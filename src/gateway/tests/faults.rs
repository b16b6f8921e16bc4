//! API servers and clients that are down, slow, gone or lying.

use super::*;
use crate::store::faulty::{Fault, FaultyStore};

const BEGUN: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

/// An API server that begins an answer and then says no more, and tells when its client is gone.
fn watching(
    gone: mpsc::Sender<()>,
) -> impl Fn(ServerStream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send {
    move |mut stream| {
        let gone = gone.clone();
        Box::pin(async move {
            let mut bytes = [0; 8192];
            drop(stream.read(&mut bytes).await);
            stream.write_all(BEGUN.as_bytes()).await.unwrap();
            while matches!(stream.read(&mut bytes).await, Ok(n) if n > 0) {}
            gone.send(()).await.unwrap_or_default();
        })
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what)
        .await
        .expect("soon")
}

#[tokio::test]
async fn an_api_server_that_is_down_is_said_in_a_sentence_and_the_next_request_is_tried_anew() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let upstream = Upstream::new(&kube::Config::new(
        format!("https://{address}").parse().unwrap(),
    ))
    .unwrap();
    let state = TempDir::new().unwrap();
    let store = Arc::new(FsStore::new(state.path()));
    let bench = Bench::over(state, store, upstream).await;
    let mut client = bench.http1().await;
    for _ in 0..2 {
        let answer = client.send_request(get("/api/v1/pods")).await.unwrap();
        assert_eq!(answer.status(), 503);
        assert!(message(answer).await.contains("cannot be reached"));
    }
    let record = bench.record().await;
    assert!(
        record
            .iter()
            .all(|(_, done)| done.as_ref().unwrap().outcome.status == Some(503))
    );
}

#[tokio::test]
async fn an_api_server_that_lies_about_http_is_no_answer() {
    for (pieces, status) in [
        (&["nonsense\r\n\r\n"][..], 502),
        (&[][..], 502),
        (
            &["HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"],
            502,
        ),
    ] {
        let bench = Bench::new(script(pieces)).await;
        let answer = soon(async { bench.http1().await.send_request(get("/api")).await })
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{pieces:?}");
        assert!(message(answer).await.contains("API server"));
        let done = bench.outcome().await;
        assert!(done.outcome.error.is_some());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let bench = Bench::new(script(&[BEGUN])).await;
    let answer = bench
        .http1()
        .await
        .send_request(get("/api/v1/pods?watch=1"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(soon(answer.into_body().collect()).await.is_err());
    let done = bench.outcome().await;
    assert_eq!(
        (done.outcome.status, done.outcome.bytes_out),
        (Some(200), 5)
    );
    assert!(done.outcome.error.unwrap().contains("broke off"));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_never_answers_is_not_waited_for_but_a_watch_is() {
    let upstream = api_server(|mut stream: ServerStream| async move {
        drop(stream.read_to_end(&mut Vec::new()).await);
    });
    // A real disk would take real time, of which there is none here.
    let store = Arc::new(FaultyStore::default());
    let bench = Bench::over(TempDir::new().unwrap(), store, upstream.await).await;
    let mut client = bench.http1().await;
    let answer = client.send_request(get("/api/v1/pods")).await.unwrap();
    assert_eq!(answer.status(), 504);
    let watch = tokio::time::timeout(Duration::from_secs(10 * 3600), async {
        bench
            .http1()
            .await
            .send_request(get("/api/v1/pods?watch=1"))
            .await
    });
    assert!(watch.await.is_err(), "a watch of hours");
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_watch_with_it() {
    for http2 in [false, true] {
        let (tell, mut gone) = mpsc::channel(1);
        let bench = Bench::new(watching(tell)).await;
        if http2 {
            let mut request = get("https://kubernetes/api/v1/pods?watch=1");
            request.headers_mut().clear();
            let mut client = bench.http2().await;
            let mut answer = client.send_request(request).await.unwrap();
            answer.body_mut().frame().await.unwrap().unwrap();
        } else {
            let mut client = bench.http1().await;
            let mut answer = client
                .send_request(get("/api/v1/pods?watch=1"))
                .await
                .unwrap();
            answer.body_mut().frame().await.unwrap().unwrap();
        }
        soon(gone.recv()).await.unwrap();
        let done = bench.outcome().await;
        assert_eq!(
            done.outcome.error.as_deref(),
            Some("the client went away"),
            "{http2}"
        );
    }
}

#[tokio::test]
async fn a_half_closed_client_is_gone() {
    let (tell, mut gone) = mpsc::channel(1);
    let bench = Bench::new(watching(tell)).await;
    let mut stream = bench.connect(&[], Admission::Inside).await;
    stream
        .write_all(b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: k\r\n\r\n")
        .await
        .unwrap();
    let mut bytes = [0; 1024];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    stream.shutdown().await.unwrap();
    soon(gone.recv()).await.unwrap();
    bench.outcome().await;
}

#[tokio::test]
async fn the_sessions_end_cuts_what_is_open_at_once() {
    for http2 in [false, true] {
        let (tell, mut gone) = mpsc::channel(1);
        let bench = Bench::new(watching(tell)).await;
        let mut body = if http2 {
            let mut request = get("https://kubernetes/api/v1/pods?watch=1");
            request.headers_mut().clear();
            bench
                .http2()
                .await
                .send_request(request)
                .await
                .unwrap()
                .into_body()
        } else {
            bench
                .http1()
                .await
                .send_request(get("/api/v1/pods?watch=1"))
                .await
                .unwrap()
                .into_body()
        };
        body.frame().await.unwrap().unwrap();
        bench.over.cancel();
        soon(gone.recv()).await.unwrap();
        assert!(soon(body.frame()).await.is_none_or(|frame| frame.is_err()));
        let done = soon(bench.outcome()).await;
        assert_eq!(
            done.outcome.error.as_deref(),
            Some("the session ended"),
            "{http2}"
        );
    }
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_else_and_little_memory() {
    let bench = Bench::new(http(|request: Request<Incoming>| async move {
        let size = if request.uri().path() == "/large" {
            64 << 20
        } else {
            2
        };
        Response::new(Full::from(vec![b'x'; size]))
    }))
    .await;
    let mut slow = bench.http1().await;
    let answer = slow.send_request(get("/large")).await.unwrap();
    let quick = bench
        .http1()
        .await
        .send_request(get("/small"))
        .await
        .unwrap();
    assert_eq!(soon(text(quick)).await, "xx");
    // So much and no more has left the API server for somebody who does not read.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(answer);
    drop(slow);
    let record = bench.record().await;
    let done = record[0].1.as_ref().unwrap();
    assert!(
        done.outcome.bytes_out < 4 << 20,
        "{}",
        done.outcome.bytes_out
    );
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_forwarded_and_ends_the_session() {
    let upstream = api_server(http(|_| async { panic!("it got there") })).await;
    let store = Arc::new(FaultyStore::new(Fault::NoSpaceAt(0)));
    let mut bench = Bench::over(TempDir::new().unwrap(), store, upstream).await;
    let answer = bench.http1().await.send_request(get("/api")).await.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(message(answer).await.contains("could not be recorded"));
    assert!(bench.unrecorded.try_recv().is_ok());
}

#[tokio::test]
async fn what_is_proxied_is_on_record_before_it_passes() {
    let (tell, mut got) = mpsc::channel(1);
    let upstream = api_server(http(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let body = request.into_body().collect().await;
            tell.send(body.map(|body| body.to_bytes()).map_err(drop))
                .await
                .unwrap();
            Response::new(Full::default())
        }
    }))
    .await;
    // The intent can be recorded, the body cannot.
    let store = Arc::new(FaultyStore::new(Fault::NoSpaceAt(1)));
    let mut bench = Bench::over(TempDir::new().unwrap(), store, upstream).await;
    let request = Request::post("/api/v1/namespaces/a/services/b/proxy/x")
        .header("host", "k")
        .body(Full::<Bytes>::from("secret deed"))
        .unwrap();
    drop(soon(async { bench.http1().await.send_request(request).await }).await);
    assert!(soon(bench.unrecorded.recv()).await.is_some());
    assert!(
        got.try_recv().is_err_and(|_| true) || got.recv().await.is_none_or(|body| body.is_err())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_and_go_leave_no_intent_without_an_outcome() {
    let bench = Bench::new(|mut stream: ServerStream| async move {
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    for _ in 0..200 {
        let mut stream = bench.connect(&[], Admission::Inside).await;
        let ask = b"GET /api HTTP/1.1\r\nhost: kubernetes\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        stream.flush().await.unwrap();
    }
    // The last of them is served by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!bench.record().await.is_empty());
}

/// Each holds what it has said so far.
#[tokio::test]
async fn bodies_that_do_not_come_whole_are_counted_and_few_are_read_at_once() {
    let bench = Bench::new(|mut stream: ServerStream| async move {
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = bench.connect(&[], Admission::Inside).await;
        let head = "POST /api/v1/namespaces/shop/pods HTTP/1.1\r\nhost: kubernetes\r\n\
             content-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"kind\":";
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let free = || bench.session.place_count();
    let all_are_there = async {
        while free() > (1024 - 100, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(all_are_there).await;
    assert_eq!(
        free(),
        (1024 - 100, 0),
        "a hundred are open, and as many are read as may be"
    );
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let bench = Bench::new(|mut stream: ServerStream| async move {
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let mut places = Vec::new();
    while let Some(place) = bench.session.place() {
        places.push(place);
    }
    let answer = bench.http1().await.send_request(get("/api")).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(message(answer).await.contains("too many requests"));
    assert_eq!(places.len(), 1024);
}
