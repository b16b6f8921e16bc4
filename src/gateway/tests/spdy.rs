//! Execs over SPDY between a client and an API server of which one lies.

use std::collections::HashMap;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::streams::{child, soon};
use super::*;
use crate::gateway::spdy::{Data, Decoder, Encoder, Frame, Headers, StreamId};
use crate::store::Span;
use crate::store::faulty::{Fault, FaultyStore};

const ASK: &str = "POST /api/v1/namespaces/a/pods/b/exec?command=sh&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: k\r\n\
    Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
    X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";

/// One end of a connection of SPDY.
struct Leg<S> {
    stream: S,
    encoder: Encoder,
    decoder: Decoder,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Leg<S> {
    /// After a head of HTTP has come, which is returned.
    async fn after_head(mut stream: S) -> (String, Self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let leg = Self {
            stream,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
        };
        (String::from_utf8(head).unwrap(), leg)
    }

    /// The other side may have gone.
    async fn say(&mut self, frames: &[Frame]) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        for frame in frames {
            self.encoder.encode(frame, &mut bytes).unwrap();
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return Some(frame);
            }
            match self.stream.read_buf(self.decoder.buffer()).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

/// An API server that speaks for a pod: it says `out` and `err`, and that all went well once its input has ended.
fn pod(
    heard: mpsc::Sender<Frame>,
) -> impl Fn(ServerStream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send {
    move |stream| {
        let heard = heard.clone();
        Box::pin(async move {
            let (_, mut leg) = Leg::after_head(stream).await;
            leg.stream.write_all(AGREED.as_bytes()).await.unwrap();
            let mut streams = HashMap::new();
            while let Some(frame) = leg.hear().await {
                let said = match &frame {
                    Frame::SynStream {
                        stream, headers, ..
                    } => {
                        let kind = headers.get("streamtype").unwrap().to_vec();
                        let mut said = vec![reply(*stream)];
                        match &kind[..] {
                            b"stdout" => said.push(data(*stream, b"out", true)),
                            b"stderr" => said.push(data(*stream, b"err", true)),
                            _ => {}
                        }
                        streams.insert(kind, *stream);
                        said
                    }
                    Frame::Data(Data { fin: true, .. }) => {
                        let status = &b"{\"status\":\"Success\"}"[..];
                        vec![data(streams[&b"error"[..]], status, true)]
                    }
                    _ => Vec::new(),
                };
                let over = matches!(&frame, Frame::Data(Data { fin: true, .. }));
                heard.send(frame).await.unwrap_or_default();
                if leg.say(&said).await.is_err() || over {
                    return;
                }
            }
        })
    }
}

fn reply(stream: StreamId) -> Frame {
    Frame::SynReply {
        stream,
        fin: false,
        headers: Headers::default(),
    }
}

fn data(stream: StreamId, bytes: &[u8], fin: bool) -> Frame {
    Frame::Data(Data {
        stream,
        fin,
        bytes: Bytes::copy_from_slice(bytes),
    })
}

fn syn(stream: StreamId, kind: &'static str) -> Frame {
    let kind = ("streamtype".to_owned(), Bytes::from_static(kind.as_bytes()));
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::new([kind]),
    }
}

/// A client's exec, once it is open.
async fn exec(bench: &Bench) -> Leg<TlsStream<DuplexStream>> {
    let mut stream = bench.connect(&[], Admission::Inside).await;
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let (head, leg) = soon(Leg::after_head(stream)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    leg
}

/// Everything that an API server heard until it was left.
async fn all(mut heard: mpsc::Receiver<Frame>) -> Vec<Frame> {
    let mut all = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_secs(1), heard.recv()).await {
        all.push(frame);
    }
    all
}

/// Others mask a stream's number with 0x7f, and record one stream as another or none.
#[tokio::test]
async fn streams_are_told_apart_and_recorded_whatever_their_numbers() {
    for [error, stdin, stdout, stderr] in [
        [1, 3, 5, 7],
        [127, 129, 255, 257],
        [3, 131, 1 << 30 | 3, 1 << 30 | 131],
        [(1 << 31) - 7, (1 << 31) - 5, (1 << 31) - 3, (1 << 31) - 1],
    ] {
        let (tell, heard) = mpsc::channel(64);
        let bench = Bench::new(pod(tell)).await;
        let mut client = exec(&bench).await;
        let opening = [
            syn(error, "error"),
            syn(stdin, "stdin"),
            syn(stdout, "stdout"),
            syn(stderr, "stderr"),
            data(stdin, b"in", false),
            data(stdin, b"", true),
        ];
        client.say(&opening).await.unwrap();
        let mut said = HashMap::<StreamId, Vec<u8>>::new();
        while let Some(frame) = soon(client.hear()).await {
            if let Frame::Data(data) = frame {
                said.entry(data.stream).or_default().extend(&data.bytes);
            }
        }
        let (out, err) = (said.get(&stdout), said.get(&stderr));
        assert_eq!(
            (out.unwrap(), err.unwrap()),
            (&b"out".to_vec(), &b"err".to_vec())
        );
        assert!(all(heard).await.contains(&data(stdin, b"in", false)));
        let cast = child(&bench).await;
        for event in [
            "\"o\", \"out\"",
            "\"f\", \"stderr\"",
            "\"o\", \"err\"",
            "\"i\", \"in\"",
            "\"x\", \"0\"",
        ] {
            assert!(cast.contains(event), "{stdout}: {event}: {cast}");
        }
    }
}

#[tokio::test]
async fn what_is_not_understood_is_not_passed_on_over_spdy_either() {
    let headers = Frame::Headers {
        stream: 1,
        fin: false,
        headers: Headers::default(),
    };
    let known = || vec![syn(1, "stdin")];
    for (known, lie) in [
        (vec![], syn(1, "stdfoo")),
        (known(), syn(3, "stdin")),
        (known(), headers),
        (known(), data(5, b"of no stream", false)),
        (vec![syn(1, "stdout")], data(1, b"the wrong way", false)),
        (vec![syn(1, "resize")], data(1, b"80x24", false)),
    ] {
        let (tell, heard) = mpsc::channel(64);
        let bench = Bench::new(pod(tell)).await;
        let mut client = exec(&bench).await;
        client.say(&known).await.unwrap();
        client.say(std::slice::from_ref(&lie)).await.unwrap();
        // What comes after it does not pass either.
        drop(client.say(&[syn(7, "stderr")]).await);
        let done = soon(bench.outcome()).await;
        assert!(done.outcome.error.is_some(), "{lie:?}");
        let heard = all(heard).await;
        assert!(
            !heard.contains(&lie) && heard.len() <= known.len(),
            "{heard:?}"
        );
    }
}

#[tokio::test]
async fn a_zlib_bomb_in_a_stream_ends_it_unheard() {
    let (tell, heard) = mpsc::channel(64);
    let bench = Bench::new(pod(tell)).await;
    let mut client = exec(&bench).await;
    // Eight megabytes in one header, deflated to less than a frame may have.
    let pair = ("streamtype".to_owned(), Bytes::from(vec![b'a'; 8 << 20]));
    let bomb = Frame::SynStream {
        stream: 1,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::new([pair]),
    };
    client.say(&[bomb]).await.unwrap();
    let done = soon(bench.outcome()).await;
    let error = done.outcome.error.unwrap();
    assert!(error.contains("the client sent"), "{error}");
    assert!(soon(client.hear()).await.is_none());
    assert_eq!(all(heard).await, []);
}

/// Others go on without a recorder.
#[tokio::test]
async fn a_recorder_that_fails_closes_a_stream_over_spdy() {
    for appends in 0..4 {
        let (tell, heard) = mpsc::channel(1024);
        let store = Arc::new(FaultyStore::new(Fault::NoSpaceAt(appends)));
        let kept = Arc::clone(&store);
        let upstream = api_server(pod(tell)).await;
        let mut bench = Bench::over(TempDir::new().unwrap(), store, upstream).await;
        let mut stream = bench.connect(&[], Admission::Inside).await;
        stream.write_all(ASK.as_bytes()).await.unwrap();
        let talk = async {
            let head = tokio::time::timeout(Duration::from_secs(2), Leg::after_head(stream));
            // Refused, or begun and then closed.
            let Ok((_, mut client)) = head.await else {
                return;
            };
            drop(client.say(&[syn(1, "error"), syn(3, "stdin")]).await);
            while client.say(&[data(3, b"in", false)]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(talk).await;
        assert!(soon(bench.unrecorded.recv()).await.is_some(), "{appends}");
        bench.over.cancel();
        let heard = all(heard).await;
        let passed = heard.iter().filter(|frame| matches!(frame, Frame::Data(_)));
        let mut recorded = 0;
        for id in kept.list(Span::default()).await.unwrap() {
            let cast = String::from_utf8(kept.cast(id).unwrap()).unwrap();
            let inputs = cast.lines().filter(|line| line.contains("\"i\", "));
            recorded += inputs.map(|line| line.matches("in").count()).sum::<usize>();
        }
        assert!(
            passed.count() <= recorded,
            "{heard:?}, {recorded} on record"
        );
    }
}
