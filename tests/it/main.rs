//! The promises of the project, a file for each, against a real control plane and real clients.

// Helpers of tests are tests too: what fails in them fails the test, and they measure real time.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub
)]

mod admin;
mod audit_over_ssh;
mod bounds;
mod brute_force;
mod certificates;
mod clients;
mod confined;
mod credential;
mod device_flow;
mod documents;
mod egress;
mod evidence;
mod faults_cluster;
mod faults_disk;
mod faults_process;
mod fixtures;
mod front;
mod full_disk;
mod gateway_inside;
mod gateway_joined;
mod harness;
mod impersonation;
mod limits;
mod locks;
mod manifests;
mod masked;
mod mint;
mod mint_check;
mod mint_faults;
mod mint_thief;
mod network_process;
mod no_token;
mod oidc_issuer;
mod own_way;
mod power_cut;
mod programs;
mod quota;
mod recorded;
mod reload;
mod request_info;
mod sandbox;
mod second_factor;
mod session;
mod shell;
mod shipping;
mod single_sign_on;
mod streams;
mod taken_over;
mod time;
mod tunnel;
mod words;
