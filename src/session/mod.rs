//! A session: one grant, one recording, one lease.

mod id;

pub use id::{NotASessionId, SessionId};
