//! A mapping that can be tested: what changes for whom between two configurations, and whether one gives and refuses what is
//! expected of it.

mod addresses;
mod difference;
mod expect;
mod holdings;

pub use difference::{Altered, Change, Difference, difference};
pub use expect::{Unfulfilled, subject_of, unfulfilled};
pub use holdings::{Holder, Thing};

#[cfg(test)]
mod tests;
