//! What a proven client may ask for, and all that it may not.

use russh::ChannelMsg;

use super::monitor::Seen;
use super::{Bastion, limits, soon};

type Channel = russh::Channel<russh::client::Msg>;

/// The reply to the last request on the channel.
async fn answered(channel: &mut Channel) -> bool {
    loop {
        match soon(channel.wait()).await {
            Some(ChannelMsg::Success) => return true,
            Some(ChannelMsg::Failure) => return false,
            Some(_) => {}
            None => panic!("the channel was closed instead of answered"),
        }
    }
}

fn opens(seen: &Seen) -> bool {
    matches!(seen, Seen::Open(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_for_each_channel() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_shell(true).await.unwrap();
    assert!(answered(&mut channel).await);
    channel.request_shell(true).await.unwrap();
    assert!(!answered(&mut channel).await, "a second shell");
    channel.exec(true, "both").await.unwrap();
    assert!(!answered(&mut channel).await, "a command beside the shell");
    channel.request_subsystem(true, "sftp").await.unwrap();
    assert!(
        !answered(&mut channel).await,
        "a subsystem beside the shell"
    );
    channel
        .request_pty(true, "xterm", 80, 24, 0, 0, &[])
        .await
        .unwrap();
    assert!(!answered(&mut channel).await, "a terminal after the start");
    // The first still runs.
    channel.data(&b"still"[..]).await.unwrap();
    loop {
        match soon(channel.wait()).await {
            Some(ChannelMsg::Data { data }) => break assert_eq!(&data[..], b"still"),
            Some(_) => {}
            None => panic!("the shell ended"),
        }
    }
    assert_eq!(bastion.monitor.count(opens), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_what_is_no_session_goes_nowhere() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    for attempt in [
        client
            .channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
            .await,
        client.channel_open_direct_streamlocal("/run/x.sock").await,
        client.channel_open_x11("127.0.0.1", 6000).await,
    ] {
        assert!(
            matches!(
                attempt,
                Err(russh::Error::ChannelOpenFailure(
                    russh::ChannelOpenFailure::AdministrativelyProhibited
                ))
            ),
            "{attempt:?}"
        );
    }
    // A channel that was closed is no session either; the client's library still lets us ask.
    let channel = client.channel_open_session().await.unwrap();
    channel.close().await.unwrap();
    channel.exec(true, "both").await.ok();
    // The connection lives on, and answers in order: had the command run, it would have been seen by now.
    let mut next = client.channel_open_session().await.unwrap();
    next.exec(true, "cat").await.unwrap();
    assert!(answered(&mut next).await);
    bastion.monitor.wait_for("cat", opens).await;
    assert_eq!(bastion.monitor.count(opens), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thousandth_channel_is_refused_and_the_first_ten_are_served() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..1000 {
        match soon(client.channel_open_session()).await {
            Ok(channel) => open.push(channel),
            Err(russh::Error::ChannelOpenFailure(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((open.len(), refused), (10, 990));
    assert!(
        bastion.monitor.refused().len() <= 33,
        "a bounded number of audit events"
    );
    for channel in &mut open {
        channel.exec(true, "both").await.unwrap();
        assert!(answered(channel).await);
    }
    // Room again when they have ended.
    drop(open);
    let again = async {
        loop {
            match client.channel_open_session().await {
                Ok(channel) => break channel,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    soon(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_and_the_like_are_refused_and_told() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0)
        .await
        .unwrap();
    assert!(!answered(&mut channel).await, "x11");
    channel.agent_forward(true).await.unwrap();
    assert!(!answered(&mut channel).await, "agent forwarding");
    channel
        .set_env(true, "LD_PRELOAD", "/tmp/x.so")
        .await
        .unwrap();
    assert!(!answered(&mut channel).await, "environment");
    channel.request_subsystem(true, "netconf").await.unwrap();
    assert!(!answered(&mut channel).await, "an unknown subsystem");
    assert!(client.tcpip_forward("127.0.0.1", 0).await.is_err());
    assert!(client.streamlocal_forward("/tmp/x.sock").await.is_err());
    // None of these used the channel up.
    channel.exec(true, "both").await.unwrap();
    assert!(answered(&mut channel).await);
    let refused = [
        "x11",
        "agent-forwarding",
        "subsystem",
        "tcpip-forward",
        "streamlocal-forward",
    ];
    bastion
        .monitor
        .wait_for_many(refused.len(), "refusals", |seen| {
            matches!(seen, Seen::Refused(_))
        })
        .await;
    let mut told = bastion.monitor.refused();
    told.sort();
    let mut refused = refused.map(str::to_owned);
    refused.sort();
    assert_eq!(told, refused, "the environment is not audited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_ssh_says_where_a_tunnel_does_not_lead() {
    let bastion = Bastion::start(limits()).await;
    let ran = bastion.run(&["-W", "10.0.0.1:443"], &[]).await;
    assert_eq!(ran.code, Some(255));
    assert!(
        ran.stderr
            .contains("a tunnel leads to a cluster and nowhere else"),
        "{}",
        ran.stderr
    );
    let ran = bastion
        .run(
            &[
                "-N",
                "-o",
                "ExitOnForwardFailure=yes",
                "-R",
                "0:127.0.0.1:1",
            ],
            &[],
        )
        .await;
    assert_eq!(ran.code, Some(255));
    let ran = bastion.run(&["-v", "-A", "-X"], &["both"]).await;
    assert_eq!(
        ran.code,
        Some(3),
        "what is refused does not stop the command: {}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_is_left_to_a_session_that_says_what_works() {
    let bastion = Bastion::start(limits()).await;
    let ran = bastion.run(&["-s"], &["sftp"]).await;
    assert_eq!(ran.code, Some(127), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("no toy: subsystem sftp"),
        "{}",
        ran.stderr
    );
    let ran = bastion.run(&["-s"], &["netconf"]).await;
    assert_eq!(ran.code, Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_connection_serves_one_command_after_another() {
    let bastion = Bastion::start(limits()).await;
    let socket = bastion.path("control");
    let socket = format!("ControlPath={}", socket.display());
    let shared = [
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=30",
        "-o",
        &socket,
    ];
    for _ in 0..20 {
        let ran = bastion.run(&shared, &["both"]).await;
        assert_eq!((ran.code, ran.text()), (Some(3), "out\n"), "{}", ran.stderr);
    }
    assert_eq!(bastion.monitor.count(|seen| *seen == Seen::Connected), 1);
    let left = bastion.run(&["-O", "exit", "-o", &socket], &[]).await;
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    bastion.monitor.wait_for_end().await;
}
