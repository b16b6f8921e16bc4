//! What the daemon did and why, as JSON lines: docs/EVENTS.md.
//!
//! An event that must precede what it tells of (a grant, an issued lease, an opened session) is awaited,
//! and a failure to write it is a refusal. Everything goes to `tracing` too.

mod chain;
#[cfg(test)]
mod documented;
mod ended;
mod event;
mod file;
mod heads;
mod log;
mod moved;
mod owed;
mod sign_on;
#[cfg(test)]
mod tests;
mod verify;

pub use chain::Link;
pub use ended::{Act, Ended};
pub use event::Event;
pub use log::{Audit, AuditError};
pub use sign_on::{SignOnEvent, SignOnFlow};
pub use verify::{AuditFault, Fault, Verified, verify};
