//! A WebSocket is whatever a side sends after the handshake: messages however its bytes come in pieces, each of which says
//! one thing on a channel or is refused; and what was understood says the same when it is passed on.
#![no_main]

use std::pin::Pin;
use std::task::{Context, Poll};

use bastion_audit::gateway::websocket::{self, MAX_MESSAGE, Said, Subprotocol, decode};
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::Message;

libfuzzer_sys::fuzz_target!(|input: (u8, bool, bool, &[u8])| {
    let (piece, of_client, v5, bytes) = input;
    let whole = messages(bytes, usize::MAX, of_client);
    assert_eq!(whole, messages(bytes, usize::from(piece).max(1), of_client));
    let protocol = if v5 { Subprotocol::V5 } else { Subprotocol::V4 };
    // Frames are one way to a message; here is a shorter one.
    let direct = Message::binary(bytes.to_vec());
    for message in whole.iter().chain([&direct]) {
        assert!(message.len() <= MAX_MESSAGE);
        let Ok(Some(said)) = decode(protocol, message) else {
            continue;
        };
        assert!(v5 || matches!(said, Said::Data(..)), "v4 has no close");
        assert_eq!(said.encode().into_data(), message.clone().into_data());
        assert_eq!(decode(protocol, &said.encode()), Ok(Some(said)));
    }
});

/// The messages of one side, as the other has them.
fn messages(bytes: &[u8], piece: usize, of_client: bool) -> Vec<Message> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection { bytes: bytes.to_vec(), at: 0, piece };
        let mut socket = match of_client {
            true => websocket::server(connection).await,
            false => websocket::client(connection).await,
        };
        let mut messages = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            messages.push(message);
        }
        messages
    })
}

/// These bytes in pieces, and an end; whatever is written is lost.
struct Connection {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let rest = &self.bytes[self.at..];
        let take = rest.len().min(to.remaining()).min(self.piece);
        to.put_slice(&rest[..take]);
        self.at += take;
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
