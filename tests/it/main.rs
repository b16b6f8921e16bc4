//! The promises of the project, a file for each, against a real control plane and real clients.

mod harness;
