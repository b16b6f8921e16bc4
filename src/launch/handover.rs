//! The addresses in a sandbox that the daemon listens at: process 1 binds them inside and hands the listening sockets out.
//!
//! A socket belongs to the network namespace that it was made in, whoever holds it: so the daemon, which is outside,
//! accepts what connects inside. Nothing in the file system leads there, and nothing has to relay.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg, sockopt,
};
use tokio::io::Interest;

/// Where kubectl in a sandbox finds its API server.
pub(super) const API_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6443);

/// Where `bastion` in a sandbox finds the daemon.
pub(super) const WORDS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6442);
/// Where programs in a sandbox find the way to other hosts, if their role has one.
pub(super) const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);

/// What the daemon listens at in a sandbox.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) api: tokio::net::TcpListener,
    pub(super) words: tokio::net::TcpListener,
    pub(super) proxy: tokio::net::TcpListener,
}

/// Hands all of them out, in the order in which [`take_all`] takes them.
pub(super) fn give_all(daemon: &UnixStream) -> io::Result<()> {
    give(daemon, API_SERVER)?;
    give(daemon, WORDS)?;
    give(daemon, PROXY)
}

/// Takes what [`give_all`] sent, or nothing.
pub(super) async fn take_all(init: &tokio::net::UnixStream) -> io::Result<Listeners> {
    Ok(Listeners {
        api: take(init, API_SERVER).await?,
        words: take(init, WORDS).await?,
        proxy: take(init, PROXY).await?,
    })
}

/// Descriptors need some byte to ride on.
const MESSAGE: &[u8; 4] = b"api\n";

/// Binds `address` and sends the listening socket to the daemon. Afterwards only the daemon has it.
fn give(daemon: &UnixStream, address: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    send(daemon, &[listener.as_fd()])
}

fn send(daemon: &UnixStream, sockets: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many sockets for one message"));
    }
    let sent = sendmsg(
        daemon,
        &[IoSlice::new(MESSAGE)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    if sent == MESSAGE.len() {
        Ok(())
    } else {
        Err(io::Error::other("the message was cut"))
    }
}

/// Takes what [`give`] sent: exactly one listening TCP socket on `address`, or an error.
async fn take(
    init: &tokio::net::UnixStream,
    address: SocketAddrV4,
) -> io::Result<tokio::net::TcpListener> {
    let mut sockets = init
        .async_io(Interest::READABLE, || receive(init.as_fd()))
        .await?;
    let socket = match (sockets.pop(), sockets.is_empty()) {
        (Some(socket), true) => socket,
        _ => return Err(unexpected("not exactly one socket")),
    };
    let listener = checked(socket, address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn receive(init: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut message = [0; MESSAGE.len()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        init,
        &mut [IoSliceMut::new(&mut message)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut sockets = Vec::new();
    for kind in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = kind {
            sockets.extend(some);
        }
    }
    // What did not fit has been closed by the kernel.
    let cut = received.flags.contains(ReturnFlags::CTRUNC);
    if cut || received.bytes != MESSAGE.len() || message != *MESSAGE {
        return Err(unexpected("not the message that was expected"));
    }
    Ok(sockets)
}

/// Anything else would have the daemon accept, and answer as the gateway, somewhere that nobody chose.
fn checked(socket: OwnedFd, address: SocketAddrV4) -> io::Result<TcpListener> {
    let tcp = sockopt::socket_domain(&socket)? == AddressFamily::INET
        && sockopt::socket_type(&socket)? == SocketType::STREAM
        && matches!(
            sockopt::socket_protocol(&socket)?,
            None | Some(rustix::net::ipproto::TCP)
        );
    if !tcp || !sockopt::socket_acceptconn(&socket)? {
        return Err(unexpected("not a listening TCP socket"));
    }
    let listener = TcpListener::from(socket);
    if listener.local_addr()? != address.into() || !address.ip().is_loopback() {
        return Err(unexpected("not the loopback address that was meant"));
    }
    Ok(listener)
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} came from it"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpStream, UdpSocket};
    use std::os::fd::BorrowedFd;

    use super::*;

    fn pair() -> (UnixStream, tokio::net::UnixStream) {
        let (inside, outside) = UnixStream::pair().unwrap();
        outside.set_nonblocking(true).unwrap();
        (inside, tokio::net::UnixStream::from_std(outside).unwrap())
    }

    fn free() -> SocketAddrV4 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port())
    }

    fn address_of(listener: &TcpListener) -> SocketAddrV4 {
        match listener.local_addr().unwrap() {
            std::net::SocketAddr::V4(address) => address,
            std::net::SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    #[tokio::test]
    async fn a_listening_socket_is_handed_over_whole() {
        let (inside, outside) = pair();
        let address = free();
        give(&inside, address).unwrap();
        // What follows on the same connection is not eaten.
        (&inside).write_all(b"exit 0\n").unwrap();
        let listener = take(&outside, address).await.unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let mut accepted = accepted.into_std().unwrap();
        client.write_all(b"x").unwrap();
        accepted.set_nonblocking(false).unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        outside.readable().await.unwrap();
        let mut rest = [0; 16];
        let n = outside.try_read(&mut rest).unwrap();
        assert_eq!(rest.get(..n), Some(&b"exit 0\n"[..]));
        // Nobody else holds it.
        drop((listener, accepted));
        assert!(TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn anything_but_one_listening_socket_on_the_loopback_is_refused() {
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").ok();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(good.local_addr().unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let unix = UnixStream::pair().unwrap().0;
        let address = address_of(&good);
        let udp_address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, udp.local_addr().unwrap().port());
        let cases: Vec<(&str, Vec<BorrowedFd<'_>>, SocketAddrV4)> = vec![
            ("none", vec![], address),
            ("two", vec![good.as_fd(), good.as_fd()], address),
            ("three", vec![good.as_fd(); 3], address),
            ("another port", vec![other.as_fd()], address),
            (
                "every address",
                vec![everywhere.as_fd()],
                address_of(&everywhere),
            ),
            ("udp", vec![udp.as_fd()], udp_address),
            ("a connection", vec![connected.as_fd()], address),
            ("a file", vec![file.as_fd()], address),
            ("a unix socket", vec![unix.as_fd()], address),
        ];
        let v6 = v6.iter().map(|v6| ("v6", vec![v6.as_fd()], address));
        for (what, sockets, address) in cases.into_iter().chain(v6) {
            let (inside, outside) = pair();
            send(&inside, &sockets).unwrap();
            assert!(take(&outside, address).await.is_err(), "{what}");
        }
        let (inside, outside) = pair();
        send(&inside, &[good.as_fd()]).unwrap();
        assert!(take(&outside, address).await.is_ok());
    }

    #[tokio::test]
    async fn words_without_a_socket_or_none_at_all_are_refused() {
        let address = free();
        let (inside, outside) = pair();
        (&inside).write_all(MESSAGE).unwrap();
        assert!(take(&outside, address).await.is_err());
        let (inside, outside) = pair();
        (&inside).write_all(b"exit 0\n").unwrap();
        assert!(take(&outside, address).await.is_err());
        let (inside, outside) = pair();
        drop(inside);
        assert!(take(&outside, address).await.is_err());
    }
}
