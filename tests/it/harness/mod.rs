//! What the promises are tried on.

pub(crate) mod bastion;
pub(crate) mod cluster;
pub(crate) mod grants;
pub(crate) mod network;
pub(crate) mod running;
pub(crate) mod tls;
pub(crate) mod terminal;
pub(crate) mod ssh_client;
