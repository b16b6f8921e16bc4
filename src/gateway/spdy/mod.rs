//! SPDY/3.1 as Kubernetes speaks it: frames in, frames out, both sides.
//!
//! The protocol is draft-mbelshe-httpbis-spdy-00 (SPDY/3) with the session window of SPDY/3.1. Kubernetes uses it
//! after `Upgrade: SPDY/3.1` and inside the WebSocket subprotocol `SPDY/3.1+portforward.k8s.io`; its peers are
//! all `github.com/moby/spdystream`.
//!
//! [`Decoder`] and [`Encoder`] do no I/O and hold no more than one control frame. What a frame means for its
//! stream is for [`Ledger`] to judge.

mod decode;
mod dictionary;
mod encode;
mod error;
mod frame;
mod headers;
mod ledger;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;
pub use error::SpdyError;
pub use frame::{Data, Frame, Setting, StreamId, rst};
pub use headers::{Headers, Inflater};
pub use ledger::{Ledger, Sender, Verdict};
