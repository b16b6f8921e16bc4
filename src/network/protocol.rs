//! What the daemon and its network process say to each other.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::messages::{Answer, Ask, Order, Peer};
use crate::server::{Rules, Source};
use crate::strangers::Reason;

/// The one kind of frame where all are messages.
pub(super) const MESSAGE: u8 = 0;

/// From the daemon to its network process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToNetwork {
    /// The first: by what this host is known, and what connections are served by. The listening socket goes with it.
    Start {
        /// Private keys, OpenSSH format.
        host_keys: Vec<Zeroizing<String>>,
        rules: Rules,
    },
    /// What they are served by from now on.
    Rules(Rules),
    /// Nobody new, and open sessions have until `limits.drain`.
    Stop,
}

/// From the network process to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToDaemon {
    /// It serves, confined as it has to be.
    Serving,
    /// It does not.
    Cannot(String),
    /// A connection that is admitted. A socket for its questions goes with it.
    Connected(Peer),
    /// Who was turned away since it last said so.
    Counted(Counted),
}

/// Numbers about strangers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// From where, why, how often; from so many sources at most.
    pub(super) turned_away: Vec<(Source, Reason, u64)>,
    /// Connections on which nobody is proven.
    pub(super) unproven: u32,
    /// Sources under a penalty.
    pub(super) refused_sources: usize,
}

/// From the daemon, on the socket of one connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToConnection {
    /// To the oldest question that has none.
    Answer(Answer),
    Order(Order),
}

/// From the network process, on the socket of one connection. With [`Ask::Open`] goes the socket of its channel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked(pub(super) Ask);
