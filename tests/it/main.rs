//! The promises of the project, a file for each, against a real control plane and real clients.

// A test that meets something unexpected shall fail where it stands, in its helpers too.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod front;
