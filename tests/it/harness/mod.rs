//! What the promises are tried on.

pub mod bastion;
pub mod cluster;
pub mod tls;
