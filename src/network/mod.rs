//! The process that speaks SSH to the world, apart from the one that decides, mints, launches, signs and records.
//!
//! `bastion-audit serve` starts `bastion-audit network` with one socket, and gives it the listening socket and the host keys.
//! It has no file open, can open none, starts nothing, connects to nothing, and as root has an uid of its own (`confine.rs`).
//! What a client asks for goes to the daemon as the messages of [`crate::messages`], on a socket for each connection and one for
//! each of its channels (`connection.rs`, `channel.rs`). The daemon looks at all of it again (`border.rs`).
//!
//! What it can do in somebody else's hands: see and change what passes through it, pretend to be this host, and claim that a
//! client comes from anywhere and has signed with any key. So it can open what a key alone opens, on record as everything;
//! not what a one-time code is asked for. docs/THREAT-MODEL.md says more.

mod border;
mod channel;
mod confine;
mod connection;
mod frames;
mod keeper;
mod process;
mod protocol;
mod said;
mod tally;

pub use self::border::understood;
pub use self::confine::{ConfineError, Confinement};
pub use self::keeper::NetworkError;
pub(crate) use self::keeper::{Keeper, Start};
pub use self::process::serve;

#[cfg(test)]
mod tests;
