//! The connections of a port-forward: each is two streams of SPDY, one for data and one for the pod's complaints
//! (`portforward` of k8s.io/cri-streaming). Payload is counted and not kept.

use std::collections::HashMap;

use tokio::time::Instant;

use super::broken::{Broken, Peer};
use crate::clock;
use crate::gateway::spdy::{Headers, StreamId};
use crate::gateway::websocket::Channel;
use crate::recording::requests::Forwarded;

/// The most that is kept of what a pod's side complains about a connection.
const MAX_COMPLAINT: usize = 1024;

/// The longest `requestID`: the clients count.
const MAX_ID: usize = 64;

/// The connections that are open.
#[derive(Default)]
pub(super) struct Forwards {
    connections: HashMap<Vec<u8>, Connection>,
    streams: HashMap<StreamId, (Vec<u8>, Half)>,
    opened: u64,
    /// Bytes of all connections from the client.
    pub(super) bytes_in: u64,
    /// Bytes of all connections to the client.
    pub(super) bytes_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Data,
    Error,
}

struct Connection {
    port: u16,
    number: u64,
    started: Instant,
    data: Seen,
    error: Seen,
    bytes_in: u64,
    bytes_out: u64,
    complaint: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    NotYet,
    Open,
    Ended,
}

impl Forwards {
    /// A stream that the client opens: what to open upstream, and nothing that was not understood.
    pub(super) fn opened(
        &mut self,
        stream: StreamId,
        headers: &Headers,
    ) -> Result<Headers, Broken> {
        let unknown = Broken::UnknownStream { from: Peer::Client };
        let half = match headers.get("streamtype") {
            Some(b"data") => Half::Data,
            Some(b"error") => Half::Error,
            _ => return Err(unknown),
        };
        let Some(port) = headers.get("port").and_then(port) else {
            return Err(unknown);
        };
        let id = match headers.get("requestid") {
            Some(id) if (1..=MAX_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic) => {
                id.to_vec()
            }
            // Clients before 1.3 send none; the kubelet pairs their streams by their ids.
            None => match half {
                Half::Error => stream,
                Half::Data => stream.saturating_sub(2),
            }
            .to_string()
            .into_bytes(),
            Some(_) => return Err(unknown),
        };
        self.opened += 1;
        let count = self.opened;
        let connection = self
            .connections
            .entry(id.clone())
            .or_insert_with(|| Connection {
                port,
                number: number(&id).unwrap_or(count),
                started: clock::monotonic(),
                data: Seen::NotYet,
                error: Seen::NotYet,
                bytes_in: 0,
                bytes_out: 0,
                complaint: Vec::new(),
            });
        let seen = connection.half(half);
        if *seen != Seen::NotYet {
            return Err(unknown);
        }
        *seen = Seen::Open;
        if half == Half::Data {
            // The kubelet goes by this one.
            connection.port = port;
        }
        let known = ["streamtype", "port", "requestid"];
        let headers = headers
            .iter()
            .filter(|(name, _)| known.contains(name))
            .map(|(name, value)| (name.to_owned(), value.to_vec().into()));
        let headers = Headers::new(headers);
        self.streams.insert(stream, (id, half));
        Ok(headers)
    }

    /// Bytes of a stream.
    pub(super) fn data(
        &mut self,
        from: Peer,
        stream: StreamId,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        let Some((id, half)) = self.streams.get(&stream) else {
            return Ok(());
        };
        let Some(connection) = self.connections.get_mut(id) else {
            return Ok(());
        };
        let count = bytes.len() as u64;
        match (half, from) {
            (Half::Data, Peer::Client) => {
                connection.bytes_in += count;
                self.bytes_in += count;
            }
            (Half::Data, Peer::Upstream) => {
                connection.bytes_out += count;
                self.bytes_out += count;
            }
            (Half::Error, Peer::Upstream) => {
                let room = MAX_COMPLAINT.saturating_sub(connection.complaint.len());
                let kept = bytes.get(..room).unwrap_or(bytes);
                connection.complaint.extend_from_slice(kept);
            }
            (Half::Error, Peer::Client) if bytes.is_empty() => {}
            (Half::Error, Peer::Client) => {
                return Err(Broken::WrongWay {
                    from,
                    channel: Channel::Error,
                });
            }
        }
        Ok(())
    }

    /// A stream has ended; with both of its streams, a connection has.
    pub(super) fn ended(&mut self, stream: StreamId) -> Option<Forwarded> {
        let (id, half) = self.streams.remove(&stream)?;
        let connection = self.connections.get_mut(&id)?;
        *connection.half(half) = Seen::Ended;
        if connection.data == Seen::Open || connection.error == Seen::Open {
            return None;
        }
        self.connections.remove(&id).map(Connection::over)
    }

    /// All that are still open, at the end of everything.
    pub(super) fn rest(&mut self) -> Vec<Forwarded> {
        self.streams.clear();
        let mut rest: Vec<_> = self
            .connections
            .drain()
            .map(|(_, open)| open.over())
            .collect();
        rest.sort_by_key(|forwarded| forwarded.connection);
        rest
    }
}

impl Connection {
    fn half(&mut self, half: Half) -> &mut Seen {
        match half {
            Half::Data => &mut self.data,
            Half::Error => &mut self.error,
        }
    }

    fn over(self) -> Forwarded {
        let complaint = String::from_utf8_lossy(&self.complaint).into_owned();
        Forwarded {
            port: self.port,
            connection: self.number,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            seconds: clock::monotonic()
                .saturating_duration_since(self.started)
                .into(),
            error: (!complaint.is_empty()).then_some(complaint),
        }
    }
}

fn port(value: &[u8]) -> Option<u16> {
    // Rust takes a sign, Go does not.
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port: u16 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (port > 0).then_some(port)
}

fn number(id: &[u8]) -> Option<u64> {
    std::str::from_utf8(id).ok()?.parse().ok()
}
