//! Recordings as they are, and as somebody would have them.

mod adversary;
mod deleted;
mod fixtures;
mod heads;
mod keyframes;
mod reading;
mod recovery;
mod rewritten;
mod world;
