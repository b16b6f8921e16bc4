//! What was once wrong in russh and reachable before a proof, tried against us: docs/PRIOR-CVES.md.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bastion, limits, soon};

const KEXINIT: u8 = 20;
const KEX_ECDH_INIT: u8 = 30;
const KEX_ECDH_REPLY: u8 = 31;
const PING: u8 = 192;
const PONG: u8 = 193;

/// A client that speaks the clear beginning of SSH byte by byte.
struct Raw(TcpStream);

impl Raw {
    async fn connect(bastion: &Bastion) -> Self {
        Self(TcpStream::connect(bastion.address).await.unwrap())
    }

    async fn send(&mut self, bytes: &[u8]) {
        // Who was cut already may not be written to any more.
        drop(self.0.write_all(bytes).await);
    }

    async fn version(&mut self) {
        self.send(b"SSH-2.0-Test_1\r\n").await;
    }

    async fn packet(&mut self, payload: &[u8]) {
        let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
        let length = u32::try_from(1 + payload.len() + padding).unwrap();
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + padding, 0);
        self.send(&packet).await;
    }

    async fn kexinit(&mut self, key_exchange: &str) {
        let mut payload = vec![KEXINIT];
        payload.extend_from_slice(&[7; 16]);
        for list in [
            key_exchange,
            "ssh-ed25519",
            "chacha20-poly1305@openssh.com",
            "chacha20-poly1305@openssh.com",
            "hmac-sha2-256-etm@openssh.com",
            "hmac-sha2-256-etm@openssh.com",
            "none",
            "none",
            "",
            "",
        ] {
            string(&mut payload, list.as_bytes());
        }
        payload.extend_from_slice(&[0; 5]);
        self.packet(&payload).await;
    }

    /// All that comes until the server closes. That it does so by itself is what is asked for.
    async fn rest(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        // A reset is an end too.
        drop(soon(self.0.read_to_end(&mut all)).await);
        all
    }
}

fn string(payload: &mut Vec<u8>, bytes: &[u8]) {
    payload.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(bytes);
}

/// The types of the clear packets after the version line.
fn types(all: &[u8]) -> Vec<u8> {
    let line = all.iter().position(|&byte| byte == b'\n').unwrap();
    let (mut rest, mut types) = (&all[line + 1..], Vec::new());
    while rest.len() > 5 {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        types.push(rest[5]);
        rest = rest.get(4 + length..).unwrap_or_default();
    }
    types
}

async fn still_serves(bastion: &Bastion) {
    let ran = bastion.run(&["-T"], &["both"]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}

/// CVE-2024-43410: memory was taken for whatever length a packet claimed.
#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_claims_four_gigabytes_ends_its_connection() {
    let bastion = Bastion::start(limits()).await;
    let mut client = Raw::connect(&bastion).await;
    client.version().await;
    client.send(&[0xff; 64]).await;
    assert_eq!(types(&client.rest().await), [KEXINIT]);
    still_serves(&bastion).await;
}

/// CVE-2026-48108: any number of lines was read before the client's version.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_a_clients_version_ends_its_connection() {
    let bastion = Bastion::start(limits()).await;
    let mut client = Raw::connect(&bastion).await;
    client.send(b"a line that is no version\r\n").await;
    client.version().await;
    client.kexinit("curve25519-sha256").await;
    let all = client.rest().await;
    assert!(!types(&all).contains(&KEX_ECDH_REPLY));
    assert!(all.len() < 4096);
    still_serves(&bastion).await;
}

/// CVE-2026-48110: strings and lists were held before they were bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_claims_four_gigabytes_ends_its_connection() {
    let bastion = Bastion::start(limits()).await;
    let mut client = Raw::connect(&bastion).await;
    client.version().await;
    let mut payload = vec![KEXINIT];
    payload.extend_from_slice(&[7; 16]);
    payload.extend_from_slice(&[0xff; 4]);
    client.packet(&payload).await;
    assert_eq!(types(&client.rest().await), [KEXINIT]);
    still_serves(&bastion).await;
}

/// CVE-2025-26466 of OpenSSH: answers to pings were kept until the key exchange was over.
#[tokio::test(flavor = "multi_thread")]
async fn pings_before_a_key_exchange_are_neither_kept_nor_answered() {
    let bastion = Bastion::start(limits()).await;
    let mut client = Raw::connect(&bastion).await;
    client.version().await;
    client.kexinit("curve25519-sha256").await;
    let mut ping = vec![PING];
    string(&mut ping, &[7; 200]);
    for _ in 0..20_000 {
        client.packet(&ping).await;
    }
    let all = client.rest().await;
    assert!(!types(&all).contains(&PONG));
    assert!(all.len() < 64 * 1024, "{}", all.len());
    still_serves(&bastion).await;
}

/// CVE-2026-73430: a public value of zeros made the key exchange panic. CVE-2026-102824: in the hybrid one it
/// was accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_public_value_of_zeros_is_no_key_exchange() {
    let panics = panics_of_russh();
    let bastion = Bastion::start(limits()).await;
    for (key_exchange, length) in [
        ("curve25519-sha256", 32),
        ("mlkem768x25519-sha256", 1184 + 32),
    ] {
        let mut client = Raw::connect(&bastion).await;
        client.version().await;
        client.kexinit(key_exchange).await;
        let mut payload = vec![KEX_ECDH_INIT];
        string(&mut payload, &vec![0; length]);
        client.packet(&payload).await;
        let types = types(&client.rest().await);
        assert!(
            !types.contains(&KEX_ECDH_REPLY),
            "{key_exchange}: {types:?}"
        );
        still_serves(&bastion).await;
    }
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

/// The other tests say no to what is wrong; this one that the client above would be served if it were right.
#[tokio::test(flavor = "multi_thread")]
async fn a_public_value_that_is_none_of_those_is_answered() {
    let bastion = Bastion::start(limits()).await;
    let mut client = Raw::connect(&bastion).await;
    client.version().await;
    client.kexinit("curve25519-sha256").await;
    let mut payload = vec![KEX_ECDH_INIT];
    string(&mut payload, &[9; 32]);
    client.packet(&payload).await;
    // What comes next is to be encrypted, and this is not.
    client.packet(&[0; 64]).await;
    assert!(types(&client.rest().await).contains(&KEX_ECDH_REPLY));
}

/// CVE-2026-73489: the 131st terminal mode panicked.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_terminal_modes_do_no_harm() {
    let panics = panics_of_russh();
    let bastion = Bastion::start(limits()).await;
    let client = bastion.login().await;
    let mut channel = client.channel_open_session().await.unwrap();
    let modes: Vec<_> = (0..200).map(|n| (russh::Pty::VINTR, n)).collect();
    channel
        .request_pty(true, "xterm", 80, 24, 0, 0, &modes)
        .await
        .unwrap();
    // russh ends the connection rather than to cut the list; an answer would do as well.
    loop {
        match soon(channel.wait()).await {
            Some(russh::ChannelMsg::Success | russh::ChannelMsg::Failure) | None => break,
            Some(_) => {}
        }
    }
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    still_serves(&bastion).await;
}

/// A panic ends a connection as an error does: only the hook can tell them apart.
fn panics_of_russh() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic
            .location()
            .is_some_and(|at| at.file().contains("/russh-"))
        {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(panic);
    }));
    &PANICS
}
