//! The output of a command in a pod, over a WebSocket as kubectl opens it.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Output;
use super::server::Server;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Of the exec, with its query
    #[arg(long)]
    path: String,
}

impl Options {
    pub(super) async fn run(&self, server: &Server) -> anyhow::Result<Output> {
        let mut connection = server.connect().await?;
        let began = Instant::now();
        let request = server
            .request(&self.path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "v5.channel.k8s.io");
        let response = connection.ask(request).await?;
        ensure!(response.status() == 101, "answered {}", response.status());
        let upgraded = TokioIo::new(hyper::upgrade::on(response).await?);
        let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
        let (mut bytes, mut status) = (0, None);
        while let Some(message) = socket.next().await {
            let message = match message {
                Ok(Message::Binary(message)) => message,
                Ok(_) => continue,
                // The API server hangs up without a goodbye; what counts is whether the status has come.
                Err(_) if status.is_some() => break,
                Err(error) => return Err(error.into()),
            };
            match message.split_first() {
                Some((1, output)) => bytes += output.len() as u64,
                Some((3, said)) => status = Some(String::from_utf8_lossy(said).into_owned()),
                Some((_, [])) | None => {}
                Some((channel, _)) => bail!("something on channel {channel}"),
            }
        }
        let status = status.context("the stream ended without a status")?;
        ensure!(
            status.contains("Success"),
            "the command ended with {status}"
        );
        Ok(Output {
            bytes,
            seconds: began.elapsed().as_secs_f64(),
        })
    }
}
