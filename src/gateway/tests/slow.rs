//! Clients and API servers that take their time, or never stop.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::streams::{accepted, channels, exec, soon};
use super::*;
use crate::store::faulty::FaultyStore;

/// Time that stands still until it is moved. Paused time alone moves on its own whenever nothing is to be done, which a
/// recording's thread does not count as.
struct Still(#[allow(dead_code, reason = "its end is what counts")] std::sync::mpsc::Sender<()>);

fn still() -> Still {
    tokio::time::pause();
    let (end, wait) = std::sync::mpsc::channel();
    // The runtime leaves time alone while one of these runs.
    tokio::task::spawn_blocking(move || wait.recv());
    Still(end)
}

#[tokio::test]
async fn a_watch_of_hours_tells_each_event_as_it_comes() {
    let (tell, happens) = mpsc::channel(1);
    let happens = Arc::new(tokio::sync::Mutex::new(happens));
    let upstream = api_server(move |mut stream: ServerStream| {
        let happens = Arc::clone(&happens);
        async move {
            let mut head = [0; 8192];
            drop(stream.read(&mut head).await);
            let begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(begin).await.unwrap();
            while let Some(hour) = happens.lock().await.recv().await {
                let event = format!("7\r\nhour {hour:02}\r\n");
                stream.write_all(event.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
            drop(stream.write_all(b"0\r\n\r\n").await);
            drop(stream.flush().await);
        }
    });
    // A real disk takes real time to sync, of which there is none here: it would be late by hours.
    let store = Arc::new(FaultyStore::default());
    let bench = Bench::over(TempDir::new().unwrap(), store, upstream.await).await;
    let mut client = bench.http1().await;
    let answer = client.send_request(get("/api/v1/pods?watch=1")).await;
    let mut body = answer.unwrap().into_body();
    let time = still();
    for hour in 0..24 {
        for _ in 0..60 {
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        tell.send(hour).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("hour {hour:02}"));
    }
    drop(tell);
    assert!(body.frame().await.is_none());
    tokio::time::resume();
    drop(time);
    let done = bench.outcome().await;
    assert!(done.outcome.error.is_none(), "{done:?}");
}

/// A reset is no end.
#[tokio::test]
async fn a_connection_that_is_reset_in_a_body_is_not_taken_for_whole() {
    let bench = Bench::new(|mut stream: ServerStream| async move {
        let mut head = [0; 8192];
        drop(stream.read(&mut head).await);
        let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
        stream.write_all(begun).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let tcp = stream.get_ref().0;
        rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO)).unwrap();
    })
    .await;
    let mut client = bench.http1().await;
    let answer = client.send_request(get("/api/v1/pods")).await.unwrap();
    assert!(soon(answer.into_body().collect()).await.is_err());
    let done = bench.outcome().await;
    assert_eq!(done.outcome.bytes_out, 5);
    assert!(done.outcome.error.unwrap().contains("broke off"));
}

#[tokio::test]
async fn a_slow_writer_is_waited_for_but_not_for_ever() {
    let bench = Bench::new(http(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::from(format!("{} bytes", body.len())))
    }))
    .await;
    let mut stream = bench.connect(&[], Admission::Inside).await;
    let time = still();
    let said =
        b"POST /api/v1/namespaces/a/configmaps HTTP/1.1\r\nHost: k\r\nContent-Length: 3\r\n\r\nabc";
    for byte in said {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
    assert!(answer.ends_with("3 bytes"), "{answer}");

    // A head that never ends is waited for no longer than for one that is whole.
    let mut waited = 0;
    while stream.write_all(b"G").await.is_ok() && stream.flush().await.is_ok() {
        tokio::time::advance(Duration::from_secs(10)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        waited += 10;
        assert!(waited < 200, "still there");
    }
    drop(time);
}

#[tokio::test]
async fn headers_of_a_megabyte_are_refused_over_http2_too() {
    let bench = Bench::new(http(|_| async { Response::new(Full::from("{}")) })).await;
    let mut client = bench.http2().await;
    let mut request = get("https://kubernetes/api");
    request.headers_mut().clear();
    let mut long = request.clone();
    let value = "a".repeat(1 << 20).parse().unwrap();
    long.headers_mut().insert("x-long", value);
    let refused = soon(client.send_request(long)).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 431));
    // It harms nobody but its sender.
    let mut other = bench.http2().await;
    let answer = soon(other.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// So much and no more leaves a pod for somebody who does not read.
#[tokio::test]
async fn an_exec_whose_client_does_not_read_holds_its_pod_up() {
    let (tell, mut sent) = tokio::sync::watch::channel(0_usize);
    let tell = Arc::new(tell);
    let bench = Bench::new(move |mut stream: ServerStream| {
        let tell = Arc::clone(&tell);
        async move {
            accepted(&mut stream).await;
            let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            let chunk = [&b"\x01"[..], &[b'x'; 32 * 1024]].concat();
            while socket.send(Message::binary(chunk.clone())).await.is_ok() {
                tell.send_modify(|sent| *sent += chunk.len());
            }
        }
    })
    .await;
    let client = exec(&bench).await;
    let still = async {
        loop {
            let before = *sent.borrow_and_update();
            tokio::time::sleep(Duration::from_millis(500)).await;
            if before > 0 && *sent.borrow() == before {
                return before;
            }
        }
    };
    // What is in sockets' buffers included.
    let sent = soon(still).await;
    assert!(sent < 16 << 20, "{sent} bytes are somewhere");
    drop(client);
    soon(bench.outcome()).await;
}

#[tokio::test]
async fn a_websocket_that_never_closes_is_cut_once_its_command_has_ended() {
    const ENDED: &[&[u8]] = &[b"\x01out", b"\x03{\"status\":\"Success\"}"];
    let (tell, _heard) = mpsc::channel(16);
    let bench = Bench::new(move |stream: ServerStream| {
        let (serve, tell) = (channels(ENDED, tell.clone()), tell.clone());
        async move {
            // It goes, whatever the client says.
            drop(tokio::time::timeout(Duration::from_millis(300), serve(stream)).await);
            drop(tell);
        }
    })
    .await;
    let mut client = exec(&bench).await;
    for _ in ENDED {
        soon(client.next()).await.unwrap().unwrap();
    }
    let began = crate::clock::monotonic();
    let done = soon(bench.outcome()).await;
    assert_eq!(done.outcome.error, None);
    // Not a word from us, and not a byte read by the library, which would answer a close.
    let mut stream = client.into_inner();
    let gone = async { while stream.read_u8().await.is_ok() {} };
    soon(gone).await;
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
}
