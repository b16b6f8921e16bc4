//! What the promises are tried on.

pub(crate) mod api;
pub(crate) mod bastion;
pub(crate) mod browser;
pub(crate) mod certified;
pub(crate) mod cluster;
pub(crate) mod grants;
pub(crate) mod joined;
pub(crate) mod network;
pub(crate) mod power;
pub(crate) mod processes;
pub(crate) mod running;
pub(crate) mod signing_on;
pub(crate) mod small_disk;
pub(crate) mod ssh_client;
pub(crate) mod terminal;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod trusting;
pub(crate) mod tunnel;
