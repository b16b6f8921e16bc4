//! The gateway.

pub mod spdy;
pub mod streams;
pub mod websocket;
