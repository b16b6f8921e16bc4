//! An SSH daemon for Kubernetes operators.
//!
//! A session is a chain of values, each with private fields and one constructor, so that no step can
//! be skipped:
//!
//! ```text
//! Offer    --identity::identify--> Identity                who was proven, by what
//! Identity --policy::decide------> Grant | Denial          pure, no I/O, the only place that says yes
//! Grant    --Recorder::open------> OpenRecording           fails => the session is refused
//! Grant    --Minter::mint--------> Lease                   issue is recorded before it is used
//! Session::open(Grant, OpenRecording, Lease)               runs, and always ends in seal + release
//! ```
//!
//! [`connection`] speaks SSH to the network and reaches everything else through the serializable
//! messages of [`messages`] only; [`monitor`] is the side that decides, mints, records and launches.

pub mod admin;
pub mod audit;
mod causes;
pub mod clock;
pub mod config;
pub mod connection;
pub mod custody;
pub mod daemon;
pub mod egress;
pub mod export;
pub mod gateway;
pub mod https;
pub mod identity;
pub mod issuer;
mod lane;
pub mod launch;
pub mod locks;
pub mod log;
pub mod manifests;
pub mod mapping;
pub mod messages;
pub mod mint;
pub mod monitor;
pub mod network;
pub mod notary;
pub mod oidc;
pub mod policy;
pub mod recording;
mod replaced;
pub mod replay;
pub mod revoke;
pub mod server;
pub mod session;
pub mod signing;
mod spawning;
mod storage;
pub mod store;
pub mod strangers;
mod supervise;
pub mod totp;
pub mod verify;
