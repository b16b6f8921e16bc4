//! What the promises are tried on.

pub mod cluster;
pub mod tls;
