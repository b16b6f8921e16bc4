//! Handshakes and messages, honest ones and others.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::*;

/// Of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn opening(changes: &[(&str, Option<&str>)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let first = [
        ("sec-websocket-version", Some("13")),
        ("sec-websocket-key", Some(KEY)),
        ("sec-websocket-protocol", Some("v5.channel.k8s.io")),
    ];
    for (name, value) in first.iter().chain(changes) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        match value {
            Some(value) => drop(headers.insert(name, HeaderValue::from_str(value).unwrap())),
            None => drop(headers.remove(name)),
        }
    }
    headers
}

fn offer(changes: &[(&str, Option<&str>)]) -> Result<Offer, HandshakeError> {
    Offer::parse(&opening(changes), Subprotocol::CHANNELS)
}

#[test]
fn an_opening_is_answered_as_the_rfc_says() {
    let answer = offer(&[]).unwrap().answer(Subprotocol::V5).unwrap();
    assert_eq!(
        answer["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_eq!(answer["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert_eq!(answer["upgrade"], "websocket");
}

#[test]
fn openings_that_are_none_are_refused() {
    let version = "sec-websocket-version";
    let key = "sec-websocket-key";
    for (changes, error) in [
        ((version, None), HandshakeError::Version),
        ((version, Some("8")), HandshakeError::Version),
        ((key, None), HandshakeError::Key),
        ((key, Some("")), HandshakeError::Key),
        ((key, Some("dGhlIHNhbXBsZQ==")), HandshakeError::Key),
        ((key, Some("!!!!")), HandshakeError::Key),
    ] {
        assert_eq!(offer(&[changes]), Err(error));
    }
    let mut twice = opening(&[]);
    twice.append(key, HeaderValue::from_static(KEY));
    assert_eq!(
        Offer::parse(&twice, Subprotocol::CHANNELS),
        Err(HandshakeError::Key)
    );
}

#[test]
fn only_subprotocols_that_are_spoken_here_are_taken() {
    let protocols = |names| offer(&[("sec-websocket-protocol", names)]);
    let expected = || "v5.channel.k8s.io or v4.channel.k8s.io".to_owned();
    for nothing in [None, Some(""), Some(" , ")] {
        let error = HandshakeError::NoSubprotocol {
            expected: expected(),
        };
        assert_eq!(protocols(nothing), Err(error));
    }
    for strange in [
        "base64.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io, v3.channel.k8s.io",
        "SPDY/3.1+portforward.k8s.io",
        "V5.CHANNEL.K8S.IO",
    ] {
        let error = HandshakeError::Subprotocols {
            expected: expected(),
        };
        assert_eq!(protocols(Some(strange)), Err(error), "{strange}");
    }
    let mixed = protocols(Some(
        "base64.channel.k8s.io, v4.channel.k8s.io,v5.channel.k8s.io",
    ))
    .unwrap();
    assert_eq!(mixed.subprotocols(), [Subprotocol::V4, Subprotocol::V5]);
}

#[test]
fn a_server_must_answer_our_own_key() {
    let asked = Asked::new(&[Subprotocol::V4]).unwrap();
    let request = asked.headers().unwrap();
    assert_ne!(
        Asked::new(&[]).unwrap(),
        Asked::new(&[]).unwrap(),
        "each has a key of its own"
    );
    let answer = Offer::parse(&request, Subprotocol::CHANNELS)
        .unwrap()
        .answer(Subprotocol::V4)
        .unwrap();
    assert_eq!(asked.answered(&answer), Ok(Subprotocol::V4));

    let changed = |name: &'static str, value: Option<&'static str>| {
        let mut answer = answer.clone();
        answer.remove(name);
        if let Some(value) = value {
            answer.insert(name, HeaderValue::from_static(value));
        }
        asked.answered(&answer)
    };
    let accept = "sec-websocket-accept";
    assert_eq!(changed(accept, None), Err(HandshakeError::Accept));
    assert_eq!(
        changed(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        Err(HandshakeError::Accept)
    );
    let protocol = "sec-websocket-protocol";
    assert_eq!(changed(protocol, None), Err(HandshakeError::Chosen));
    assert_eq!(
        changed(protocol, Some("v5.channel.k8s.io")),
        Err(HandshakeError::Chosen)
    );
    assert_eq!(
        changed("sec-websocket-extensions", Some("permessage-deflate")),
        Err(HandshakeError::Extension)
    );
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

#[test]
fn messages_say_what_their_channel_says() {
    let said = |bytes: &[u8]| decode(Subprotocol::V5, &binary(bytes));
    let data = |channel, bytes: &'static [u8]| Ok(Some(Said::Data(channel, bytes.into())));
    assert_eq!(said(b"\x00in"), data(Channel::Stdin, b"in"));
    assert_eq!(said(b"\x01\xff\xfe"), data(Channel::Stdout, b"\xff\xfe"));
    assert_eq!(said(b"\x02"), data(Channel::Stderr, b""));
    assert_eq!(said(b"\x03{}"), data(Channel::Error, b"{}"));
    assert_eq!(said(b"\x04{}"), data(Channel::Resize, b"{}"));
    assert_eq!(said(b"\xff\x00"), Ok(Some(Said::End(Channel::Stdin))));
}

/// Python's client sends text on standard input as text.
#[test]
fn text_is_the_bytes_that_it_is() {
    for protocol in [Subprotocol::V4, Subprotocol::V5] {
        let said = decode(protocol, &Message::text("\0né"));
        let bytes = Bytes::from_static("né".as_bytes());
        assert_eq!(said, Ok(Some(Said::Data(Channel::Stdin, bytes))));
        let empty = decode(protocol, &Message::text(""));
        assert_eq!(empty, Err(ChannelError::Empty));
    }
}

#[test]
fn unknown_channels_are_refused() {
    for protocol in [Subprotocol::V4, Subprotocol::V5] {
        for number in 5..=254 {
            assert_eq!(
                decode(protocol, &binary(&[number, 1])),
                Err(ChannelError::Unknown(number))
            );
        }
        assert_eq!(decode(protocol, &binary(b"")), Err(ChannelError::Empty));
        assert_eq!(
            decode(protocol, &Message::text("0x")),
            Err(ChannelError::Unknown(b'0'))
        );
    }
    for close in [&b"\xff"[..], b"\xff\x05", b"\xff\xff", b"\xff\x00\x00"] {
        assert_eq!(
            decode(Subprotocol::V5, &binary(close)),
            Err(ChannelError::Close)
        );
    }
    assert_eq!(
        decode(Subprotocol::V4, &binary(b"\xff\x00")),
        Err(ChannelError::Unknown(255)),
        "v4 has no close"
    );
}

/// A frame from a client, masked with zeros.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![head, 0x80 | 126];
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn frames_split_at_every_byte() {
    let mut bytes = frame(0x82, b"\x00whole");
    bytes.extend(frame(0x02, b"\x00in "));
    bytes.extend(frame(0x89, b"ping between"));
    bytes.extend(frame(0x80, b"parts"));
    bytes.extend(frame(0x82, b"\xff\x00"));
    for cut in 0..=bytes.len() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        let mut socket = server(ours).await;
        let (front, back) = bytes.split_at(cut);
        let mut heard = Vec::new();
        peer.write_all(front).await.unwrap();
        tokio::task::yield_now().await;
        let both = async {
            peer.write_all(back).await.unwrap();
            peer.shutdown().await.unwrap();
        };
        let reading = async {
            while let Some(Ok(message)) = socket.next().await {
                heard.extend(decode(Subprotocol::V5, &message).unwrap());
            }
        };
        tokio::join!(both, reading);
        let data = |bytes: &'static [u8]| Said::Data(Channel::Stdin, Bytes::from_static(bytes));
        assert_eq!(
            heard,
            [data(b"whole"), data(b"in parts"), Said::End(Channel::Stdin)],
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn messages_and_frames_are_bounded() {
    for (head, pieces) in [(0x82_u8, 1_usize), (0x02, 5)] {
        let (mut peer, ours) = tokio::io::duplex(64 * 1024);
        let mut socket = server(ours).await;
        let writing = tokio::spawn(async move {
            let length = if pieces == 1 {
                MAX_MESSAGE + 1
            } else {
                MAX_MESSAGE / 4
            };
            let payload = vec![0; length];
            for piece in 0..pieces {
                let head = if piece == 0 { head } else { 0x00 };
                let mut bytes = vec![head, 0x80 | 127];
                bytes.extend((length as u64).to_be_bytes());
                bytes.extend([0; 4]);
                if peer.write_all(&bytes).await.is_err() || peer.write_all(&payload).await.is_err()
                {
                    return;
                }
            }
            drop(peer.read(&mut [0; 1]).await);
        });
        assert!(socket.next().await.unwrap().is_err());
        drop(socket);
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn a_side_that_does_not_mask_is_refused() {
    let (mut peer, ours) = tokio::io::duplex(1024);
    let mut socket = server(ours).await;
    peer.write_all(b"\x82\x02\x00x").await.unwrap();
    assert!(socket.next().await.unwrap().is_err());
}

#[tokio::test]
async fn both_sides_of_ours_understand_each_other() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let (mut here, mut there) = (server(ours).await, client(theirs).await);
    let said = Said::Data(Channel::Stdin, Bytes::from_static(b"\xc3("));
    there.send(said.encode()).await.unwrap();
    let heard = here.next().await.unwrap().unwrap();
    assert_eq!(decode(Subprotocol::V4, &heard), Ok(Some(said)));
}

proptest! {
    #[test]
    fn what_is_said_comes_back(number in 0..5_u8, payload in proptest::collection::vec(any::<u8>(), 0..500)) {
        let channel = Channel::numbered(number).unwrap();
        for said in [Said::Data(channel, payload.into()), Said::End(channel)] {
            prop_assert_eq!(decode(Subprotocol::V5, &said.encode()), Ok(Some(said)));
        }
    }

    #[test]
    fn any_message_is_understood_as_it_is_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let message = Message::Binary(bytes.into());
        if let Ok(Some(said)) = decode(Subprotocol::V5, &message) {
            prop_assert_eq!(said.encode(), message);
        }
    }
}
