//! The gateway.

pub mod spdy;
pub mod websocket;
