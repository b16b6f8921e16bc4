//! A mapping that can be tested: what changes for whom between two configurations, whether one gives and refuses what is
//! expected of it, and a decision in words.

mod addresses;
mod difference;
mod expect;
mod holdings;
pub mod told;

pub use difference::{Altered, Change, Difference, difference};
pub use expect::{Unfulfilled, subject_of, unfulfilled};
pub use holdings::{Holder, Thing};

#[cfg(test)]
mod tests;
