//! A PROXY header is read to its end and no further, whatever follows, or is refused.
#![no_main]

use std::sync::LazyLock;

use bastion_audit::server::read_header;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
});

/// What is read, and how many bytes of it.
fn read(bytes: &[u8]) -> (Option<std::net::SocketAddr>, usize) {
    let mut rest = bytes;
    let client = RUNTIME.block_on(read_header(&mut rest)).ok();
    (client, bytes.len() - rest.len())
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (client, length) = read(bytes);
    assert!(length <= 16 + 2048, "{length} bytes");
    if let Some(client) = client {
        assert_eq!(client.ip(), client.ip().to_canonical());
        let header = &bytes[..length];
        assert_eq!(read(header), (Some(client), length));
        assert_eq!(read(&[header, b"SSH-2.0-x\r\n"].concat()), (Some(client), length));
        assert_eq!(read(&header[..length - 1]).0, None);
    }
});
