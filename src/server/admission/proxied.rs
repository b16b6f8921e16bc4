//! The PROXY header of HAProxy, versions 1 and 2: where a connection comes from, by the word of a listed proxy.
//!
//! What it means is read by the crate `proxy-header`. Here it is only found out where it ends, so that not one byte of what the
//! client says is taken with it, and how long it may be.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A proxy speaks first, and at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// How version 1 begins, and the longest line of it.
const V1: &[u8] = b"PROXY ";
const V1_LONGEST: usize = 107;
/// How version 2 begins (PROXY protocol, 2.2).
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest rest of version 2: addresses, and what proxies add to them.
const V2_LONGEST: usize = 2048;

/// Why it is not known where a connection comes from.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The proxy went, or was silent.
    #[error("no PROXY header: {0}")]
    Io(#[from] io::Error),
    /// None in time.
    #[error("no PROXY header in {} s", PATIENCE.as_secs())]
    Late,
    /// What came is none.
    #[error("what the proxy sent is no PROXY header")]
    NoHeader,
    /// It is of no TCP connection: a health check, or somebody whose address is not told.
    #[error("the PROXY header names no client")]
    Nobody,
}

/// Reads a header and nothing beyond it.
///
/// # Errors
///
/// Whatever is not one header of a TCP connection, in time.
pub async fn read_header<S>(stream: &mut S) -> Result<SocketAddr, HeaderError>
where
    S: AsyncRead + Unpin,
{
    let header = async {
        let bytes = whole_header(stream).await?;
        client(&bytes)
    };
    match tokio::time::timeout(PATIENCE, header).await {
        Ok(read) => read,
        Err(_) => Err(HeaderError::Late),
    }
}

async fn whole_header<S>(stream: &mut S) -> Result<Vec<u8>, HeaderError>
where
    S: AsyncRead + Unpin,
{
    // No header is shorter, and what begins like none is refused before more of it is waited for.
    let mut bytes = vec![0; V2.len()];
    stream.read_exact(&mut bytes).await?;
    if bytes == V2 {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        bytes.extend_from_slice(&rest);
        let [_, _, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > V2_LONGEST {
            return Err(HeaderError::NoHeader);
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        bytes.extend_from_slice(&rest);
        return Ok(bytes);
    }
    if !bytes.starts_with(V1) {
        return Err(HeaderError::NoHeader);
    }
    // One at a time: what comes after the line feed is the client's.
    while bytes.last() != Some(&b'\n') {
        if bytes.len() >= V1_LONGEST {
            return Err(HeaderError::NoHeader);
        }
        bytes.push(stream.read_u8().await?);
    }
    Ok(bytes)
}

/// Whom a whole header names.
fn client(bytes: &[u8]) -> Result<SocketAddr, HeaderError> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (header, length) = ProxyHeader::parse(bytes, config).map_err(|_| HeaderError::NoHeader)?;
    if length != bytes.len() {
        return Err(HeaderError::NoHeader);
    }
    match header.proxied_address() {
        Some(address) if address.protocol == Protocol::Stream => {
            let ip = address.source.ip().to_canonical();
            Ok(SocketAddr::new(ip, address.source.port()))
        }
        _ => Err(HeaderError::Nobody),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What is read of `bytes`, and what is left for SSH.
    async fn read(bytes: &[u8]) -> (Result<SocketAddr, HeaderError>, Vec<u8>) {
        let (mut proxy, mut stream) = tokio::io::duplex(8192);
        proxy.write_all(bytes).await.unwrap();
        drop(proxy);
        let read = read_header(&mut stream).await;
        let mut left = Vec::new();
        stream.read_to_end(&mut left).await.unwrap();
        (read, left)
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2.as_slice(), &[command, family], &length, rest].concat()
    }

    const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.2p1\r\n";

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_what_it_says() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0, 0, 22];
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        six[15] = 7;
        six[32..34].copy_from_slice(&[0xc0, 0]);
        let tlv = [four.as_slice(), &[0x04, 0, 3, 0, 0, 0]].concat();
        for (header, client) in [
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 22\r\n".to_vec(),
                "192.0.2.7:49152",
            ),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 49152 22\r\n".to_vec(),
                "[2001:db8::7]:49152",
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.7 ::1 49152 22\r\n".to_vec(),
                "192.0.2.7:49152",
            ),
            (v2(0x21, 0x11, &four), "192.0.2.7:49152"),
            (v2(0x21, 0x21, &six), "[2001:db8::7]:49152"),
            (v2(0x21, 0x11, &tlv), "192.0.2.7:49152"),
        ] {
            let (read, left) = read(&[&header, SSH].concat()).await;
            assert_eq!(read.unwrap(), client.parse().unwrap());
            assert_eq!(left, SSH);
        }
    }

    #[tokio::test]
    async fn what_names_no_tcp_client_is_refused() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0, 0, 22];
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 49152 22\r\n".to_vec(),
            // A health check.
            v2(0x20, 0x00, &[]),
            v2(0x20, 0x11, &four),
            // Over UDP, and over a Unix socket.
            v2(0x21, 0x12, &four),
            v2(0x21, 0x31, &[0; 216]),
        ] {
            let (read, _) = read(&header).await;
            assert!(
                matches!(read, Err(HeaderError::Nobody)),
                "{header:?}: {read:?}"
            );
        }
    }

    #[tokio::test]
    async fn whatever_else_is_refused_and_never_read_on() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
        for bytes in [
            SSH,
            b"PROXY TCP4 192.0.2.7 198.51.100.1 49152\r\n",
            b"PROXY TCP4 192.0.2.700 198.51.100.1 1 22\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 1 22\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 22\n",
            b"proxy TCP4 192.0.2.7 198.51.100.1 1 22\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            long.as_bytes(),
            &v2(0x21, 0x11, &[192, 0, 2, 7]),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2(0x21, 0x11, &[0; 2049]),
        ] {
            let (read, _) = read(bytes).await;
            assert!(
                matches!(read, Err(HeaderError::NoHeader)),
                "{}: {read:?}",
                bytes.escape_ascii()
            );
        }
        let (read, _) = read(b"PROXY TCP4 192.0.2.7").await;
        assert!(matches!(read, Err(HeaderError::Io(_))), "{read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_is_silent_is_not_waited_for() {
        let (mut proxy, mut stream) = tokio::io::duplex(64);
        proxy.write_all(b"PROXY TCP4 192.").await.unwrap();
        let read = read_header(&mut stream).await;
        assert!(matches!(read, Err(HeaderError::Late)), "{read:?}");
    }
}
