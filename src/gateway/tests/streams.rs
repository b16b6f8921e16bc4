//! Streams between a client and an API server of which one lies, or never ends.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::gateway::websocket::accept_of;
use crate::recording::LineReader;
use crate::store::Span;
use crate::store::faulty::{Fault, FaultyStore};

const EXEC: &str =
    "/api/v1/namespaces/a/pods/b/exec?command=tar&command=c&stdin=1&stdout=1&stderr=1";

/// An API server that agrees to v5 channels, sends `first`, and passes on what comes.
pub(super) fn channels(
    first: &'static [&'static [u8]],
    heard: mpsc::Sender<Message>,
) -> impl Fn(ServerStream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send {
    move |mut stream| {
        let heard = heard.clone();
        Box::pin(async move {
            accepted(&mut stream).await;
            let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            for message in first {
                socket
                    .send(Message::binary(message.to_vec()))
                    .await
                    .unwrap();
            }
            while let Some(Ok(message)) = socket.next().await {
                heard.send(message).await.unwrap_or_default();
            }
            heard.send(GONE).await.unwrap_or_default();
        })
    }
}

/// Reads the request for a WebSocket and agrees to v5 channels.
pub(super) async fn accepted(stream: &mut ServerStream) {
    let mut head = vec![0; 8192];
    let n = stream.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..n]).into_owned();
    let key = head
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .starts_with("sec-websocket-key:")
                .then(|| line[18..].trim().to_owned())
        })
        .unwrap();
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
        accept_of(&key)
    );
    stream.write_all(accepted.as_bytes()).await.unwrap();
}

/// What an API server of these tests hears last.
const GONE: Message = Message::Close(None);

/// All that an API server heard, once the gateway has left it; nothing if it was never asked.
async fn rest(heard: &mut mpsc::Receiver<Message>) -> Vec<Message> {
    let mut all = Vec::new();
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(1), heard.recv()).await {
        let last = message == GONE;
        all.push(message);
        if last {
            break;
        }
    }
    all
}

/// A client's exec, once it is open.
pub(super) async fn exec(bench: &Bench) -> WebSocketStream<TlsStream<DuplexStream>> {
    let mut stream = bench.connect(&[], Admission::Inside).await;
    let ask = format!(
        "GET {EXEC} HTTP/1.1\r\nHost: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\
         Kubectl-Command: kubectl cp\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what)
        .await
        .expect("soon")
}

/// The cast of the only child.
pub(super) async fn child(bench: &Bench) -> String {
    let done = bench.outcome().await;
    let id = done.outcome.children[0];
    let mut cast = String::new();
    let mut stored = bench.store.open(id).await.unwrap();
    stored.cast.read_to_string(&mut cast).await.unwrap();
    drop(LineReader::open(cast.as_bytes()).await.unwrap());
    cast
}

const SUCCESS: &[u8] = b"\x03{\"metadata\":{},\"status\":\"Success\"}";

#[tokio::test]
async fn what_a_client_says_of_itself_decides_nothing() {
    let (tell, mut heard) = mpsc::channel(16);
    let bench = Bench::new(channels(&[b"\x01out", b"\x02err", SUCCESS], tell)).await;
    let mut client = exec(&bench).await;
    for said in [Message::binary(b"\x00in".to_vec()), Message::text("\0text")] {
        client.send(said.clone()).await.unwrap();
        assert_eq!(soon(heard.recv()).await, Some(said));
    }
    for expected in [&b"\x01out"[..], b"\x02err", SUCCESS] {
        let message = soon(client.next()).await.unwrap().unwrap();
        assert_eq!(message, Message::binary(expected.to_vec()));
    }
    client.close(None).await.unwrap();
    while let Some(Ok(_)) = soon(client.next()).await {}
    let cast = child(&bench).await;
    for event in [
        "\"o\", \"out\"",
        "\"f\", \"stderr\"",
        "\"o\", \"err\"",
        "\"i\", \"in\"",
        "\"i\", \"text\"",
        "\"x\", \"0\"",
    ] {
        assert!(cast.contains(event), "{event}: {cast}");
    }
}

#[tokio::test]
async fn what_is_not_understood_is_not_passed_on() {
    for lie in [
        Message::binary(b"\x09unknown".to_vec()),
        Message::binary(b"\x01from the wrong side".to_vec()),
        Message::binary(b"\x04{\"Width\":1}".to_vec()),
        Message::binary(b"\xff\x07".to_vec()),
        Message::binary(Vec::new()),
        Message::text("words"),
    ] {
        let (tell, mut heard) = mpsc::channel(16);
        let bench = Bench::new(channels(&[], tell)).await;
        let mut client = exec(&bench).await;
        client.send(lie.clone()).await.unwrap();
        client
            .send(Message::binary(b"\x00after".to_vec()))
            .await
            .unwrap_or_default();
        let done = soon(bench.outcome()).await;
        assert!(done.outcome.error.is_some(), "{lie:?}");
        let heard = rest(&mut heard).await;
        assert!(heard.iter().all(Message::is_close), "{lie:?} -> {heard:?}");
        assert_eq!(heard.last(), Some(&GONE), "{lie:?}");
    }
}

#[tokio::test]
async fn an_api_server_that_lies_ends_the_stream() {
    const LIES: [&[&[u8]]; 3] = [
        &[b"\x09unknown"],
        &[b"\x00from the wrong side"],
        &[b"\x04{\"Width\":1,\"Height\":1}"],
    ];
    for lie in LIES {
        let (tell, _heard) = mpsc::channel(16);
        let bench = Bench::new(channels(lie, tell)).await;
        let mut client = exec(&bench).await;
        while let Some(Ok(message)) = soon(client.next()).await {
            assert!(message.is_close(), "{message:?}");
        }
        assert!(soon(bench.outcome()).await.outcome.error.is_some());
    }
}

#[tokio::test]
async fn frames_may_be_split_at_every_byte() {
    let (tell, mut heard) = mpsc::channel(16);
    let bench = Bench::new(channels(&[], tell)).await;
    let mut client = exec(&bench).await;
    // FIN and binary, masked by zeros, 6 bytes.
    let frame = b"\x82\x86\0\0\0\0\x00hello";
    for byte in frame {
        client.get_mut().write_all(&[*byte]).await.unwrap();
        client.get_mut().flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(
        soon(heard.recv()).await,
        Some(Message::binary(b"\x00hello".to_vec()))
    );
}

#[tokio::test]
async fn a_websocket_that_never_closes_ends_with_its_session() {
    let (tell, mut heard) = mpsc::channel(16);
    let bench = Bench::new(channels(&[b"\x01begun"], tell)).await;
    let mut client = exec(&bench).await;
    soon(client.next()).await.unwrap().unwrap();
    bench.over.cancel();
    assert!(
        soon(client.next())
            .await
            .is_none_or(|message| message.is_err())
    );
    assert_eq!(rest(&mut heard).await, [GONE]);
    let cast = soon(child(&bench)).await;
    assert!(
        cast.contains("begun") && cast.contains("the session ended"),
        "{cast}"
    );
}

#[tokio::test]
async fn a_recorder_that_fails_closes_the_stream() {
    // Of the session's recording: its intent, and that there is a stream. Of the stream's: nothing.
    for appends in 0..4 {
        let (tell, mut heard) = mpsc::channel(16);
        let upstream = api_server(channels(&[b"\x01out"], tell)).await;
        let store = Arc::new(FaultyStore::new(Fault::NoSpaceAt(appends)));
        let kept = Arc::clone(&store);
        let mut bench = Bench::over(TempDir::new().unwrap(), store, upstream).await;
        let mut stream = bench.connect(&[], Admission::Inside).await;
        let ask = format!(
            "GET {EXEC} HTTP/1.1\r\nHost: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).await.unwrap();
        let wrote = async {
            // A masked frame of standard input, again and again.
            while stream.write_all(b"\x82\x83\0\0\0\0\x00in").await.is_ok() {
                stream.flush().await.unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(5)).await;
                if bench.unrecorded.try_recv().is_ok() {
                    return true;
                }
            }
            bench.unrecorded.recv().await.is_some()
        };
        assert!(soon(wrote).await, "{appends}");
        drop(stream);
        bench.over.cancel();
        // What could not be recorded did not pass.
        let heard = rest(&mut heard).await;
        let passed = heard.iter().filter(|message| message.is_binary()).count();
        let mut recorded = 0;
        for id in kept.list(Span::default()).await.unwrap() {
            let cast = String::from_utf8(kept.cast(id).unwrap()).unwrap();
            let inputs = cast.lines().filter(|line| line.contains("\"i\", "));
            recorded += inputs.map(|line| line.matches("in").count()).sum::<usize>();
        }
        assert!(
            passed <= recorded,
            "{passed} passed, {recorded} on record, {appends}"
        );
    }
}
