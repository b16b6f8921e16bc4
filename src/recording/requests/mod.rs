//! The requests that a session made of a cluster: `requests.jsonl` beside the cast, and events on its timeline.
//!
//! An [`Intent`] is on record before its request is forwarded, an [`Outcome`] after it is over. A crash may leave an
//! intent without an outcome, never the reverse.

mod body;
mod child;
mod intent;
mod line;
mod outcome;
mod reader;
mod recorded;
mod seconds;
mod tally;
#[cfg(test)]
mod tests;

pub use body::{BodyEncoding, MAX_KEPT, RecordedBody};
pub use child::{Child, Parent, Pod, PodStream};
pub use intent::{Intent, Mark, RequestNumber, RequestSummary};
pub use line::{Answered, Asked, Done, Noted};
pub use outcome::{CopiedFile, Direction, Forwarded, Note, Outcome};
pub use reader::{IndexEntry, IndexReader, RequestStep};
pub use seconds::Seconds;
pub(crate) use tally::Tally;
pub use tally::{ChildRecord, Counts, RequestsSummary};
