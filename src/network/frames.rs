//! Frames on a unix socket, each with one descriptor at most.
//!
//! A frame is the length of its body (4 bytes, little-endian), its kind (1 byte), how many descriptors go with it (1 byte, 0
//! or 1), and the body. The kernel delivers a descriptor with the first byte that it was sent with: so they come in the order of
//! the frames that they belong to.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use rustix::net::sockopt::socket_type;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketType, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The largest body. A packet of SSH is no larger than 256 KiB.
const LARGEST: usize = 512 << 10;

const HEADER: usize = 6;

/// What is read at once: little while little comes, since what rests here rests once for each channel.
const READ: usize = 4 << 10;
const READ_MOST: usize = 64 << 10;

/// How soon an end is noticed behind what is still to be read.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(250);

/// Descriptors that may come before the frames that they belong to are whole.
const AHEAD: usize = 8;

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Bytes,
    /// What came with it; `None` as well where this process has as many open as it may.
    pub(super) descriptor: Option<OwnedFd>,
}

/// The end of a socket that frames come out of.
#[derive(Debug)]
pub(super) struct Incoming {
    socket: Arc<UnixStream>,
    unread: BytesMut,
    /// `None`: it was sent, and this process had no room for it.
    descriptors: VecDeque<Option<OwnedFd>>,
    much: bool,
}

/// The end that they are put into. Whoever drops a [`send`](Outgoing::send) that has not ended must drop this too: half a
/// frame may be under way.
#[derive(Debug)]
pub(super) struct Outgoing {
    socket: Arc<UnixStream>,
}

/// Both ends of one socket.
pub(super) fn on(socket: UnixStream) -> (Incoming, Outgoing) {
    let socket = Arc::new(socket);
    let incoming = Incoming {
        socket: Arc::clone(&socket),
        unread: BytesMut::new(),
        descriptors: VecDeque::new(),
        much: false,
    };
    (incoming, Outgoing { socket })
}

/// Both ends of one socket that another process sent.
pub(super) fn on_sent(descriptor: OwnedFd) -> io::Result<(Incoming, Outgoing)> {
    let socket = std::os::unix::net::UnixStream::from(descriptor);
    // Fails on anything that is no unix socket with another end.
    socket.peer_addr()?;
    // Of another type, it has no end.
    if socket_type(&socket)? != SocketType::STREAM {
        return Err(invalid("no stream"));
    }
    socket.set_nonblocking(true)?;
    Ok(on(UnixStream::from_std(socket)?))
}

/// A socket for here, and its other end for another process.
pub(super) fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (here, there) = std::os::unix::net::UnixStream::pair()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    Ok((UnixStream::from_std(here)?, there.into()))
}

impl Frame {
    /// What its body says.
    pub(super) fn message<T: DeserializeOwned>(&self) -> io::Result<T> {
        rmp_serde::from_slice(&self.body).map_err(|_| invalid("no message of ours"))
    }
}

impl Incoming {
    /// The next frame; `None` when the other side has ended between two. Nothing is lost when this is dropped.
    ///
    /// # Errors
    ///
    /// What the socket says, and whatever is no frame of ours; nothing is to be read after that.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return match self.unread.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Returns when the other side sends nothing more, whatever of it is still to be read.
    pub(super) async fn ended(&self) {
        loop {
            tokio::time::sleep(LOOKED_AT_EVERY).await;
            match self.socket.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn whole(&mut self) -> io::Result<Option<Frame>> {
        let Some(&[a, b, c, d, kind, with]) = self.unread.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > LARGEST || with > 1 {
            return Err(invalid("too large a frame, or none"));
        }
        if self.unread.len() < HEADER + length {
            self.unread.reserve(HEADER + length - self.unread.len());
            return Ok(None);
        }
        self.unread.advance(HEADER);
        let body = self.unread.split_to(length).freeze();
        let descriptor = match with {
            0 => None,
            _ => self
                .descriptors
                .pop_front()
                .ok_or_else(|| invalid("a frame without its descriptor"))?,
        };
        Ok(Some(Frame {
            kind,
            body,
            descriptor,
        }))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let Self {
            socket,
            unread,
            descriptors,
            much,
        } = self;
        let room = if *much { READ_MOST } else { READ };
        let read = socket
            .async_io(Interest::READABLE, || {
                let filled = unread.len();
                unread.resize(filled + room, 0);
                let into = unread.get_mut(filled..).unwrap_or_default();
                let received = receive(&**socket, into);
                let read = received.as_ref().map_or(0, |(read, _)| *read);
                unread.truncate(filled + read);
                if unread.is_empty() {
                    // What waits holds no memory.
                    *unread = BytesMut::new();
                }
                received
            })
            .await;
        let (read, sent) = read?;
        *much = read == room;
        descriptors.extend(sent);
        match descriptors.len() > AHEAD {
            true => Err(invalid("more descriptors than frames")),
            false => Ok(read),
        }
    }
}

impl Outgoing {
    /// Sends one frame.
    pub(super) async fn send(
        &self,
        kind: u8,
        body: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        if body.len() > LARGEST {
            return Err(invalid("too large a frame"));
        }
        let [a, b, c, d] = length.to_le_bytes();
        let mut header: &[u8] = &[a, b, c, d, kind, u8::from(descriptor.is_some())];
        let (mut body, mut descriptor) = (body, descriptor);
        while !(header.is_empty() && body.is_empty()) {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, || {
                    transmit(&*self.socket, [header, body], descriptor)
                })
                .await?;
            descriptor = None;
            let of_header = sent.min(header.len());
            header = header.get(of_header..).unwrap_or_default();
            body = body.get(sent - of_header..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends a message as one frame.
    pub(super) async fn say(
        &self,
        kind: u8,
        message: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let body =
            rmp_serde::to_vec_named(message).map_err(|_| invalid("a message without a form"))?;
        self.send(kind, &body, descriptor).await
    }

    /// Nothing more is sent.
    pub(super) fn end(&self) {
        if let Err(error) = rustix::net::shutdown(&*self.socket, Shutdown::Write) {
            tracing::debug!(%error, "a socket had ended before");
        }
    }
}

fn transmit(
    socket: impl AsFd,
    parts: [&[u8]; 2],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(
        socket,
        &parts.map(IoSlice::new),
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}

fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<(usize, Vec<Option<OwnedFd>>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(into)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            descriptors.extend(sent.map(Some));
        }
    }
    // What there was no room for, the kernel has closed. There is room here for one, which is what a frame has.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        if !descriptors.is_empty() {
            return Err(invalid("several descriptors at once"));
        }
        descriptors.push(None);
    }
    Ok((received.bytes, descriptors))
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
