//! What an operator does: commands, shells, bytes both ways.

use std::process::Stdio;
use std::time::Duration;

use russh::{ChannelMsg, Sig};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::monitor::{Seen, hex, pattern};
use super::{Bastion, limits, outcome, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_ssh_runs_a_command() {
    let bastion = Bastion::start(limits()).await;
    let ran = bastion.run(&[], &["both"]).await;
    assert_eq!(ran.text(), "out\n");
    assert!(ran.stderr.ends_with("err\n"), "{}", ran.stderr);
    assert_eq!(ran.code, Some(3));
    bastion.monitor.wait_for_end().await;
    let seen = bastion.monitor.seen();
    assert!(
        matches!(&seen[1], Seen::Client(line) if line.starts_with("SSH-2.0-OpenSSH_")),
        "the version before the first key: {seen:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_ended_a_command_reaches_the_client() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "killed").await.unwrap();
    let mut heard = Vec::new();
    while let Some(message) = soon(channel.wait()).await {
        match message {
            ChannelMsg::Success => heard.push("success".to_owned()),
            ChannelMsg::Data { data } => heard.push(String::from_utf8(data.to_vec()).unwrap()),
            ChannelMsg::Eof => heard.push("eof".to_owned()),
            ChannelMsg::ExitSignal { signal_name, .. } => heard.push(format!("{signal_name:?}")),
            ChannelMsg::Close => heard.push("close".to_owned()),
            other => heard.push(format!("{other:?}")),
        }
    }
    assert_eq!(heard[..5], ["success", "before\n", "TERM", "eof", "close"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_close_ends_input_and_not_output() {
    let bastion = Bastion::start(limits()).await;
    let mut ssh = bastion
        .ssh(&[], &["sink"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    stdin.write_all(b"abc").await.unwrap();
    drop(stdin);
    let ran = outcome(ssh).await;
    assert_eq!(ran.code, Some(0));
    let expected = format!("3 {}\n", hex(&Sha256::digest(b"abc")));
    assert!(ran.stderr.ends_with(&expected), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_bytes_go_both_ways_at_once() {
    let bastion = Bastion::start(limits()).await;
    both_ways(&bastion, &[], 64 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_in_mid_stream() {
    let bastion = Bastion::start(limits()).await;
    both_ways(&bastion, &["-o", "RekeyLimit=1M"], 16 << 20).await;
}

async fn both_ways(bastion: &Bastion, options: &[&str], bytes: usize) {
    let mut ssh = bastion
        .ssh(options, &["cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = pattern(bytes);
    let mut stdin = ssh.stdin.take().unwrap();
    let writing = {
        let sent = sent.clone();
        tokio::spawn(async move { stdin.write_all(&sent).await })
    };
    let ran = outcome(ssh).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.len(), sent.len());
    assert!(ran.stdout == sent, "the same bytes");
    writing.await.unwrap().unwrap();
}

/// The window adjustments that the output waits for come behind input that the command has not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_writes_before_it_reads_does_not_hang() {
    let bastion = Bastion::start(limits()).await;
    let bytes = 48 << 20;
    let mut ssh = bastion
        .ssh(&[], &["write-then-read", &bytes.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    let input = pattern(bytes);
    let digest = hex(&Sha256::digest(&input));
    let writing = tokio::spawn(async move { stdin.write_all(&input).await });
    let ran = outcome(ssh).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.len(), bytes);
    assert!(
        ran.stderr.ends_with(&format!("{bytes} {digest}\n")),
        "{}",
        ran.stderr
    );
    writing.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_nobody_wants_is_discarded() {
    let bastion = Bastion::start(limits()).await;
    let mut ssh = bastion
        .ssh(&[], &["no-input"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&pattern(16 << 20)).await });
    let ran = outcome(ssh).await;
    assert_eq!((ran.code, ran.text()), (Some(0), "ready\n"));
    // ssh closes its stdin when the command has ended: whether all was written by then is its affair.
    drop(writing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_the_answer_is_neither_lost_nor_reordered() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "slow-yes").await.unwrap();
    for text in ["one ", "two ", "three"] {
        channel.data(text.as_bytes()).await.unwrap();
    }
    channel.eof().await.unwrap();
    let mut output = Vec::new();
    let mut status = None;
    while let Some(message) = soon(channel.wait()).await {
        match message {
            ChannelMsg::Data { data } => output.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    assert_eq!(output, b"one two three");
    assert_eq!(status, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_a_terminal_that_resizes_and_takes_signals() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    let mut channel = client.channel_open_session().await.unwrap();
    let modes = [(russh::Pty::VINTR, 3), (russh::Pty::ECHO, 1)];
    channel
        .request_pty(true, "xterm-256color", 100, 0, 0, 0, &modes)
        .await
        .unwrap();
    channel.window_change(101, 31, 0, 0).await.unwrap();
    channel.request_shell(true).await.unwrap();
    let mut said = Said::new(&mut channel);
    said.expect("xterm-256color 101x31 [(1, 3), (53, 1)]\n")
        .await;
    said.channel
        .window_change(u32::MAX, 40, 0, 0)
        .await
        .unwrap();
    said.expect("4096x40\n").await;
    said.channel.signal(Sig::INT).await.unwrap();
    said.expect("signal INT\n").await;
    said.channel
        .signal(Sig::Custom("EVIL; rm".to_owned()))
        .await
        .unwrap();
    said.channel.data(&b""[..]).await.unwrap();
    said.channel.data(&b"typed"[..]).await.unwrap();
    said.expect("typed").await;
    said.channel.eof().await.unwrap();
    said.expect("eof\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_ssh_gets_a_terminal() {
    let bastion = Bastion::start(limits()).await;
    let mut ssh = bastion
        .ssh(&["-tt"], &[])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    bastion
        .monitor
        .wait_for("a shell", |seen| matches!(seen, Seen::Open(_)))
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    stdin.write_all(b"q").await.unwrap();
    let ran = outcome(ssh).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.text().contains(" 80x24 "), "{}", ran.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_started_says_so() {
    let bastion = Bastion::start(limits()).await;
    let ran = bastion.run(&[], &["no"]).await;
    assert_eq!(ran.code, Some(255));
    assert!(
        ran.stderr.contains("bastion: no session was started"),
        "{}",
        ran.stderr
    );
}

/// Text that a channel says, piece by piece.
struct Said<'a> {
    channel: &'a mut russh::Channel<russh::client::Msg>,
    text: String,
}

impl<'a> Said<'a> {
    fn new(channel: &'a mut russh::Channel<russh::client::Msg>) -> Self {
        Self {
            channel,
            text: String::new(),
        }
    }

    async fn expect(&mut self, next: &str) {
        while self.text.len() < next.len() {
            match soon(self.channel.wait()).await {
                Some(ChannelMsg::Data { data }) => {
                    self.text.push_str(std::str::from_utf8(&data).unwrap())
                }
                Some(ChannelMsg::Success | ChannelMsg::WindowAdjusted { .. }) => {}
                other => panic!("{other:?} instead of {next:?}"),
            }
        }
        assert_eq!(self.text, next);
        self.text.clear();
    }
}
