//! The tests' own control plane, which stops a test with a panic when it cannot start.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../tests/it/harness/cluster.rs"]
mod cluster;

pub(super) use cluster::{ControlPlane, crate_root, write_private};
